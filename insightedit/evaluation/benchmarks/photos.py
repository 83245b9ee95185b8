"""Photographs of anybody's, with requests whose right answer is known: a whole-picture operation, or nothing at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

from insightedit.evaluation.benchmarks.base import Benchmark, Card

CARD = Card(
    name="photos",
    title="the photos benchmark",
    paper="this package",
    obtain="Run `insightedit eval photos`, with --photos FOLDER for photographs of your own.",
    licence="Apache-2.0; photographs and sprites as data_recipes/scenes/README.md credits them",
    layout="""\
FOLDER/
  *.jpg *.png ...    photographs, all of which are taken
or metadata.json     a pack of assets, whose photographs of the split are taken""",
    splits=("test", "val", "train"),
)


def load(folder: Path, *, split: str | None = None) -> Benchmark:
    """The requests on a folder of photographs, or on a pack; what is drawn for them lies in the user's cache."""
    from insightedit.evaluation.photos.benchmark import photo_benchmark
    from insightedit.evaluation.photos.requests import PhotoSet
    from insightedit.miniatures.folders import cache_dir

    if split is not None and split not in CARD.splits:
        raise ValueError(f"{CARD.title} has no split {split!r}: choose one of {', '.join(CARD.splits)}.")
    is_pack = any((folder / name).is_file() for name in ("metadata.json", "metadata.jsonl"))
    which = PhotoSet(split=split or CARD.splits[0], **{"pack" if is_pack else "photos": folder})
    kept = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    return photo_benchmark(which, cache_dir() / "photos" / kept)[0]
