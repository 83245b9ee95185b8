"""MA5k-Req, MGIE's benchmark of photo adjustment: requests for the retouching of MIT-Adobe FiveK.

Every photograph has five targets, one of each expert. A sample is one of them: it is named after the target, and the
five share a cluster. The photographs are fetched from MIT, the requests from T2ONet, whose split is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card
from insightedit.evaluation.benchmarks.reading import Notes, as_id, reads, some
from insightedit.files import natural

NUMBERS = {"test": 4950, "val": 2475, "train": 17325, "all": 24750}
ROW = "{input, output, request}"
EXPERTS = 5

CARD = Card(
    name="ma5k",
    title="MA5k-Req",
    paper="Shi et al., Learning by Planning (T2ONet), CVPR 2021; used by MGIE, ICLR 2024",
    obtain=(
        "Get data/FiveK/annotations from github.com/jshi31/T2ONet, and the photographs (originals and experts A-E, "
        "short side 600 px, named as in the annotations) from data.csail.mit.edu/graphics/fivek."
    ),
    licence="photographs: MIT-Adobe FiveK's own research licence; requests: none stated",
    layout="""\
FiveK/
  annotations/{train,val,test}_sess_1.json   [{input: 3458_O.jpg, output: 3458_B.jpg, request}, ...]
  images/*.jpg""",
    counts={"all": NUMBERS["test"]},
    splits=tuple(NUMBERS),
)


@reads(CARD, {name: {"all": number} for name, number in NUMBERS.items()})
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """A sample for each expert's retouching of a photograph."""
    notes.warn("The photographs have a research licence of their own: read it before any other use.")
    parts = ("train", "val", "test") if split == "all" else (split,)
    files = {name: notes.folder / "annotations" / f"{name}_sess_1.json" for name in parts}
    tables = {name: notes.read_json(path, list, f"[{ROW}]") for name, path in files.items()}
    if not (notes.folder / "images").is_dir():
        notes.fault("images is missing: the photographs lie in it.")
    notes.stop()
    samples = [sample for name, rows in tables.items() for sample in _samples(notes, name, rows)]
    samples.sort(key=lambda sample: natural(sample.sample_id))
    _check_experts(notes, samples)
    return samples


def _samples(notes: Notes, split: str, rows: list[Any]) -> list[BenchmarkSample]:
    samples, strangers = [], []
    for number, row in enumerate(rows, 1):
        where = f"annotations/{split}_sess_1.json, record {number}"
        if not isinstance(row, dict):
            notes.fault(f"{where} is a {type(row).__name__}: it should be {ROW}.")
            continue
        source, target = (_picture(notes, row, key, where) for key in ("input", "output"))
        request = notes.text_of(row, "request", where)
        if source is None or target is None or not request:
            continue
        if _photograph(source) != _photograph(target) or source == target:
            strangers.append(f"{source.name} and {target.name}")
        samples.append(
            BenchmarkSample(
                as_id(target.stem), request, source=source, target=target, cluster=_photograph(source),
                extra={"split": split, "expert": target.stem.rpartition("_")[2]},
            )
        )  # fmt: skip
    if strangers:
        notes.fault(
            f"annotations/{split}_sess_1.json pairs pictures that are not an original and its retouching "
            f"({some(strangers)}): 3458_O belongs to 3458_A ... 3458_E."
        )
    return samples


def _picture(notes: Notes, row: dict[str, Any], key: str, where: str) -> Path | None:
    name = notes.text_of(row, key, where)
    return notes.inside(notes.folder / "images", name, where) if name else None


def _photograph(path: Path) -> str:
    """3458 of `3458_O.jpg`."""
    return path.stem.rpartition("_")[0]


def _check_experts(notes: Notes, samples: list[BenchmarkSample]) -> None:
    """A split that was cut within a photograph is no sample of photographs."""
    per_photograph = Counter(sample.cluster for sample in samples)
    if odd := [name for name, number in per_photograph.items() if number != EXPERTS]:
        notes.warn(
            f"{len(odd)} photographs have not the five targets that are published ({some(odd)}): this is a subset.",
            differs=True,
        )
