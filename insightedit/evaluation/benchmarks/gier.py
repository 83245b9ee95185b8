"""GIER: pairs from the web with requests of experts and amateurs and the operations between the pictures."""

from __future__ import annotations

from collections.abc import Sequence

from insightedit.datasets.notes import Entry, EntryError, Notes
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads
from insightedit.evaluation.benchmarks.evr import EVERY, RequestPair, request_samples, requests_of

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


def _pair(entry: Entry) -> RequestPair:
    # the data set's own description: a / in a name is a _ in the file's name
    names = [entry.text(key).replace("/", "_") for key in ("input", "output")]
    if not any(key in entry.fields for key in SUMMARIES):
        raise EntryError(f"has neither `{SUMMARIES[0]}` nor `{SUMMARIES[1]}`")
    source, target = map(entry.find, names)
    told = entry.fields.get("operator")
    operators = told if isinstance(told, dict) else {}
    is_local = any(isinstance(value, dict) and value.get("local") for value in operators.values())
    extra = {"operators": ", ".join(operators), "is_local": "yes" if is_local else "no"}
    return RequestPair(target.stem, source, target, requests_of(entry, *SUMMARIES), extra)


@reads(CARD, PUBLISHED)
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """Each pair once with its first request (experts before amateurs); `-requests`: each request once.

    `extra` has `operators` (names of what was done), `is_local` ("yes" if something was done within a region) and
    `requests`. Masks of regions are run lengths in a folder of their own and are not read.
    """
    name = f"{split.removesuffix(EVERY)}_sess_3.json"
    whole = [path.name for path in notes.folder.glob("*.json") if path.name in ("IER2.json", "GIER.json")]
    if whole and not any((notes.folder / place / name).is_file() for place in PLACES):
        notes.stop(f"It holds {whole[0]}, which has no splits: put {name} of the T2ONet repository beside it.")
    return request_samples(notes, name, split, places=PLACES, shape=SHAPE, label="input", make=_pair)
