"""EVR (Image Editing Request of "Expressing Visual Relationships via Language"): pairs from the web with requests."""

from __future__ import annotations

from collections.abc import Sequence

from insightedit.datasets.notes import Entry, EntryError, Notes
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads
from insightedit.evaluation.benchmarks.pairs import EVERY, RequestList, RequestPair, requests_of

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


def _pair(entry: Entry) -> RequestPair:
    source, target, name = (entry.text(key) for key in ("img0", "img1", "uid"))
    if "sents" not in entry.fields:
        raise EntryError("has no `sents`")
    return RequestPair(name, entry.find(source), entry.find(target), requests_of(entry, "sents"))


@reads(
    CARD, {name + ending: {"all": table[name]} for ending, table in (("", PAIRS), (EVERY, REQUESTS)) for name in PAIRS}
)
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """Each pair once; splits that end in `-requests`: each request once."""
    return RequestList(PLACES, SHAPE, "uid", _pair).samples(notes, f"{split.removesuffix(EVERY)}.json", split)
