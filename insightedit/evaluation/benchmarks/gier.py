"""GIER: pairs from the web with requests of experts and amateurs and the operations between the pictures."""

from __future__ import annotations

from collections.abc import Sequence

from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card
from insightedit.evaluation.benchmarks.pairs import EVERY, RequestPair, find_list, samples_of, texts
from insightedit.evaluation.benchmarks.reading import Notes, PictureIndex, reads

PAIRS = {"test": 618, "val": 618, "train": 4943}
# requests are published for all parts at once
PUBLISHED = {name: {"all": number} for name, number in PAIRS.items()} | {name + EVERY: {} for name in PAIRS}
PLACES = ("", "splits", "data/GIER/splits")
SUMMARIES = ("expert_summary", "amateur_summary")
SHAPE = "[{input, output, operator, expert_summary, amateur_summary, ...}, ...]"

CARD = Card(
    name="gier",
    title="GIER",
    paper="Shi et al., A Benchmark and Baseline for Language-Driven Image Editing, ACCV 2020; used by MGIE, ICLR 2024",
    obtain="Get the lists from data/GIER/splits of github.com/jshi31/T2ONet, and the pictures, whose addresses are in "
    "its url_dict.json, from the authors' GIER data set.",
    licence="none stated; the pictures are of Reddit's and Zhopped's users",
    layout=f"""\
test_sess_3.json val_sess_3.json train_sess_3.json    {SHAPE}, also in splits/
images/                                               the pictures, anywhere below the folder; / in names is _""",
    counts={"all": PAIRS["test"]},
    splits=tuple(name + ending for ending in ("", EVERY) for name in PAIRS),
)


@reads(CARD, PUBLISHED)
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """Each pair once with its first request (experts before amateurs); `-requests`: each request once.

    `extra` has `operators` (names of what was done), `is_local` ("yes" if something was done within a region) and
    `requests`. Masks of regions are run lengths in a folder of their own and are not read.
    """
    name = f"{split.removesuffix(EVERY)}_sess_3.json"
    whole = [path.name for path in notes.folder.glob("*.json") if path.name in ("IER2.json", "GIER.json")]
    if whole and not any((notes.folder / place / name).is_file() for place in PLACES):
        notes.fault(f"It holds {whole[0]}, which has no splits: put {name} of the T2ONet repository beside it.")
        notes.stop()
    rows = notes.read_json(find_list(notes, name, PLACES), list, SHAPE)
    notes.stop()
    index = PictureIndex(notes, notes.folder)
    pairs = [pair for number, row in enumerate(rows) if (pair := _pair(notes, index, number, row)) is not None]
    return samples_of(notes, pairs, split)


def _pair(notes: Notes, index: PictureIndex, number: int, row: object) -> RequestPair | None:
    if not isinstance(row, dict):
        notes.fault(f"Entry {number} is {row!r:.40}: it has to be {SHAPE[1:-6]}.")
        return None
    where = f"Entry {number} ({row.get('input')})"
    names = [notes.text_of(row, key, where) for key in ("input", "output")]
    if not all(names):
        return None
    if not any(key in row for key in SUMMARIES):
        notes.fault(f"{where} has neither `{SUMMARIES[0]}` nor `{SUMMARIES[1]}`.")
        return None
    # the data set's own description: a / in a name is a _ in the file's name
    source, target = (index.find(name.replace("/", "_"), where) for name in names)
    requests = texts(notes, row, SUMMARIES, where)
    if source is None or target is None:
        return None
    operators = row.get("operator") if isinstance(row.get("operator"), dict) else {}
    is_local = any(isinstance(value, dict) and value.get("local") for value in operators.values())
    extra = {"operators": ", ".join(operators), "is_local": "yes" if is_local else "no"}
    return RequestPair(target.stem, source, target, requests, extra)
