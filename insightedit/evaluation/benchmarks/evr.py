"""EVR (Image Editing Request of "Expressing Visual Relationships via Language"): pairs from the web with requests."""

from __future__ import annotations

from collections.abc import Sequence

from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card
from insightedit.evaluation.benchmarks.pairs import EVERY, RequestPair, find_list, samples_of, texts
from insightedit.evaluation.benchmarks.reading import Notes, PictureIndex, reads

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


@reads(
    CARD, {name + ending: {"all": table[name]} for ending, table in (("", PAIRS), (EVERY, REQUESTS)) for name in PAIRS}
)
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """Each pair once; splits that end in `-requests`: each request once."""
    part = split.removesuffix(EVERY)
    rows = notes.read_json(find_list(notes, f"{part}.json", PLACES), list, SHAPE)
    notes.stop()
    index = PictureIndex(notes, notes.folder)
    pairs = [pair for number, row in enumerate(rows) if (pair := _pair(notes, index, number, row)) is not None]
    return samples_of(notes, pairs, split)


def _pair(notes: Notes, index: PictureIndex, number: int, row: object) -> RequestPair | None:
    if not isinstance(row, dict):
        notes.fault(f"Entry {number} is {row!r:.40}: it has to be {SHAPE[1:-6]}.")
        return None
    where = f"Entry {number} ({row.get('uid')})"
    names = {key: notes.text_of(row, key, where) for key in ("img0", "img1", "uid")}
    if "sents" not in row:
        notes.fault(f"{where} has no `sents`.")
    if not all(names.values()) or "sents" not in row:
        return None
    source, target = (index.find(names[key], where) for key in ("img0", "img1"))
    requests = texts(notes, row, ("sents",), where)
    return None if source is None or target is None else RequestPair(names["uid"], source, target, requests)
