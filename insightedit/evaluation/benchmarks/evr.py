"""EVR (Image Editing Request of "Expressing Visual Relationships via Language"): pairs from the web with requests."""

from __future__ import annotations

from pathlib import Path

from insightedit.evaluation.benchmarks.base import Benchmark, Card, check_split
from insightedit.evaluation.benchmarks.pairs import EVERY, Pair, samples_of, texts
from insightedit.evaluation.benchmarks.reading import Notes, PictureIndex, finish, read_json, some, text_of

PAIRS = {"test": 495, "valid": 383, "train": 3061}
REQUESTS = {"test": 1485, "valid": 1149, "train": 3061}
PLACES = ("", "data", "dataset/adobe", "adobe")
SHAPE = "[{img0, img1, sents, uid}, ...]"

CARD = Card(
    name="evr",
    title="EVR",
    paper="Tan et al., Expressing Visual Relationships via Language, ACL 2019; used by MGIE, ICLR 2024",
    obtain="Get the lists and, by the link in the README, the pictures from github.com/airsplay/VisualRelationships.",
    licence="none stated; the pictures are of Reddit's and Zhopped's users",
    layout=f"""\
test.json valid.json train.json    {SHAPE}, also in data/ or dataset/adobe/
images/                            the pictures by their names, anywhere below the folder""",
    counts={"all": PAIRS["test"]},
    splits=tuple(name + ending for ending in ("", EVERY) for name in PAIRS),
)


def load(folder: Path, *, split: str | None = None) -> Benchmark:
    """Read and check a folder.

    Args:
        folder: with the lists and the pictures.
        split: test (default), valid or train, each pair once; `test-requests` and so on: each request once.

    Raises:
        BenchmarkError: naming all faults.
        ValueError: for an unknown split.
    """
    split = check_split(CARD, split, CARD.splits)
    notes = Notes(CARD, folder)
    part = split.removesuffix(EVERY)
    found = [path for place in PLACES if (path := notes.folder / place / f"{part}.json").is_file()]
    if not found:
        notes.fault(f"It holds no {part}.json, neither itself nor in {' nor in '.join(PLACES[1:])}.")
    if len(found) > 1:
        notes.fault(f"It holds several {part}.json ({some(map(notes.short, found))}): remove all but one.")
    notes.stop()
    rows = read_json(notes, found[0], list, SHAPE)
    notes.stop()
    index = PictureIndex(notes, notes.folder)
    pairs = [pair for number, row in enumerate(rows) if (pair := _pair(notes, index, number, row)) is not None]
    published = REQUESTS[part] if split.endswith(EVERY) else PAIRS[part]
    return finish(notes, samples_of(notes, pairs, split), published={"all": published}, split=split)


def _pair(notes: Notes, index: PictureIndex, number: int, row: object) -> Pair | None:
    if not isinstance(row, dict):
        notes.fault(f"Entry {number} is {row!r:.40}: it has to be {SHAPE[1:-6]}.")
        return None
    where = f"Entry {number} ({row.get('uid')})"
    names = {key: text_of(notes, row, key, where) for key in ("img0", "img1", "uid")}
    if "sents" not in row:
        notes.fault(f"{where} has no `sents`.")
    if not all(names.values()) or "sents" not in row:
        return None
    source, target = (index.find(names[key], where) for key in ("img0", "img1"))
    requests = texts(notes, row, ("sents",), where)
    return None if source is None or target is None else Pair(names["uid"], source, target, requests)
