"""EVR (Image Editing Request of "Expressing Visual Relationships via Language"): pairs from the web with requests.

Each pair has several people's requests, as in GIER. MGIE reports both sets and does not say how it picks one of them.
So there are two readings: each pair once, with its first request, and each request as a sample of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from insightedit.datasets.notes import Entry, EntryError, Notes, as_id, some
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads

EVERY = "-requests"  # ending of a split in which each request is a sample
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


@dataclass(frozen=True)
class RequestPair:
    """Two pictures and what people ask for to get from one to the other."""

    name: str
    source: Path
    target: Path
    requests: Sequence[str]
    extra: dict[str, str] = field(default_factory=dict)


PairMaker = Callable[[Entry], RequestPair]


def request_samples(
    notes: Notes, name: str, split: str, *, places: Sequence[str], shape: str, label: str, make: PairMaker
) -> list[BenchmarkSample]:
    """A sample for each pair of the list `name`, or for each request where the split ends in `-requests`.

    The list, {`label`: a pair's name, ...} as `shape` says, lies in one of `places` below the folder. Samples have the
    source picture as cluster, and all requests in `extra`.
    """
    found = [path for place in places if (path := notes.folder / place / name).is_file()]
    if not found:
        notes.stop(f"It holds no {name}, neither itself nor in {' nor in '.join(places[1:])}.")
    if len(found) > 1:
        notes.stop(f"It holds several {name} ({some(map(notes.short, found))}): remove all but one.")
    rows = notes.read_json(found[0], list, shape)
    notes.stop()
    named = [
        (f"Entry {number}" + (f" ({row.get(label)})" if isinstance(row, dict) else ""), row)
        for number, row in enumerate(rows)
    ]
    pairs = notes.each(named, shape[1:-6], make)
    if silent := [pair.name for pair in pairs if not pair.requests]:
        notes.warn(f"{len(silent)} pairs have no request ({some(silent)}): they are left out.")
    pairs = [pair for pair in pairs if pair.requests]
    every = split.endswith(EVERY)
    if not every and any(len(pair.requests) > 1 for pair in pairs):
        notes.warn(
            "Pairs have several requests, and it is not published which one counts: the first is taken; the split "
            f"{split + EVERY} takes all."
        )
    moving = sorted({path.name for pair in pairs for path in (pair.source, pair.target) if path.suffix == ".gif"})
    if moving:
        notes.warn(f"{len(moving)} pictures are GIFs ({some(moving)}): of an animation the first frame counts.")
    seen: Counter[str] = Counter()
    samples = []
    for pair in pairs:
        sample_id = as_id(pair.name)
        seen[sample_id] += 1
        if seen[sample_id] > 1:
            sample_id = f"{sample_id}-{seen[sample_id]}"
        pictures = {"source": pair.source, "target": pair.target}
        extra = {**pair.extra, "requests": json.dumps(pair.requests, ensure_ascii=False)}
        for number, request in enumerate(pair.requests if every else pair.requests[:1], 1):
            name = f"{sample_id}-{number}" if every else sample_id
            samples.append(BenchmarkSample(name, request, **pictures, cluster=pair.source.name, extra=extra))
    if twice := [name for name, number in seen.items() if number > 1]:
        notes.warn(
            f"{len(twice)} names of pairs occur more than once ({some(twice)}): the later ones end in -2, -3 ..."
        )
    return samples


def requests_of(entry: Entry, *keys: str) -> list[str]:
    """The requests of an entry, from several lists one after the other; empty ones are left out."""
    return [text.strip() for key in keys for text in entry.texts(key) if text.strip()]


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
    name = f"{split.removesuffix(EVERY)}.json"
    return request_samples(notes, name, split, places=PLACES, shape=SHAPE, label="uid", make=_pair)
