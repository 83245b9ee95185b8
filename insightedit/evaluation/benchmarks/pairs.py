"""Pairs of pictures with several people's requests each: what EVR and GIER have in common.

MGIE reports both sets and does not say how it picks one of the requests of a pair. So there are two readings: each pair
once, with its first request, and each request as a sample of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from insightedit.evaluation.benchmarks.base import BenchmarkSample
from insightedit.evaluation.benchmarks.reading import Notes, as_id, some

EVERY = "-requests"  # ending of a split in which each request is a sample


@dataclass(frozen=True)
class RequestPair:
    """Two pictures and what people ask for to get from one to the other."""

    name: str
    source: Path
    target: Path
    requests: tuple[str, ...]
    extra: dict[str, str] = field(default_factory=dict)


def find_list(notes: Notes, name: str, places: Sequence[str]) -> Path:
    """The only file of a name in one of these folders.

    Raises:
        BenchmarkError: if there is none, or more than one.
    """
    found = [path for place in places if (path := notes.folder / place / name).is_file()]
    if not found:
        notes.fault(f"It holds no {name}, neither itself nor in {' nor in '.join(places[1:])}.")
    if len(found) > 1:
        notes.fault(f"It holds several {name} ({some(map(notes.short, found))}): remove all but one.")
    notes.stop()
    return found[0]


def texts(notes: Notes, row: Mapping[str, Any], keys: Sequence[str], where: str) -> tuple[str, ...]:
    """The requests of a record, from several lists one after the other; empty ones are left out."""
    found = []
    for key in keys:
        value = row.get(key, [])
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            notes.fault(f"{where} has {value!r:.60} as `{key}`: it has to be a list of texts.")
            continue
        found += [text.strip() for text in value if text.strip()]
    return tuple(found)


def samples_of(notes: Notes, pairs: Sequence[RequestPair], split: str) -> list[BenchmarkSample]:
    """A sample for each pair, or for each request where the split's name ends in `-requests`.

    Warns of pairs without a request, of several requests of which the first is taken, and of animations. Samples have
    the source picture as cluster, and all requests in `extra`.
    """
    if silent := [pair.name for pair in pairs if not pair.requests]:
        notes.warn(f"{len(silent)} pairs have no request ({some(silent)}): they are left out.")
    pairs = [pair for pair in pairs if pair.requests]
    names = notes.numbered([as_id(pair.name) for pair in pairs], "names of pairs")
    every = split.endswith(EVERY)
    if not every and any(len(pair.requests) > 1 for pair in pairs):
        notes.warn(
            "Pairs have several requests, and it is not published which one counts: the first is taken; the split "
            f"{split + EVERY} takes all."
        )
    moving = sorted({path.name for pair in pairs for path in (pair.source, pair.target) if path.suffix == ".gif"})
    if moving:
        notes.warn(f"{len(moving)} pictures are GIFs ({some(moving)}): of an animation the first frame counts.")
    samples = []
    for name, pair in zip(names, pairs, strict=True):
        for number, request in enumerate(pair.requests if every else pair.requests[:1], 1):
            sample_id = f"{name}-{number}" if every else name
            pictures = {"source": pair.source, "target": pair.target}
            extra = {**pair.extra, "requests": json.dumps(pair.requests, ensure_ascii=False)}
            samples.append(BenchmarkSample(sample_id, request, **pictures, cluster=pair.source.name, extra=extra))
    return samples
