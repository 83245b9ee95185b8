"""MA5k-Req, MGIE's benchmark of photo adjustment: requests for the retouching of MIT-Adobe FiveK.

Every photograph has five targets, one of each expert. A sample is one of them: it is named after the target, and the
five share a cluster. The photographs are fetched from MIT, the requests from T2ONet, whose split is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from insightedit.datasets.notes import Entry, Notes, as_id, some
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads
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
    lists = {name: f"annotations/{name}_sess_1.json" for name in parts}
    tables = {name: notes.read_json(notes.folder / file, list, f"[{ROW}]") for name, file in lists.items()}
    if not (notes.folder / "images").is_dir():
        notes.fault("images is missing: the photographs lie in it.")
    notes.stop()
    samples = []
    for name, rows in tables.items():
        numbered = [(f"{lists[name]}, record {number}", row) for number, row in enumerate(rows, 1)]
        found = notes.each(numbered, ROW, partial(_sample, name))
        odd = (one for one in found if one.source == one.target or one.target.stem.rpartition("_")[0] != one.cluster)
        if strangers := [f"{one.source.name} and {one.target.name}" for one in odd]:
            notes.fault(
                f"{lists[name]} pairs pictures that are not an original and its retouching ({some(strangers)}): "
                "3458_O belongs to 3458_A ... 3458_E."
            )
        samples += found
    per_photograph = Counter(sample.cluster for sample in samples)
    if odd := [name for name, number in per_photograph.items() if number != EXPERTS]:  # cut within a photograph
        notes.warn(
            f"{len(odd)} photographs have not the five targets that are published ({some(odd)}): this is a subset.",
            differs=True,
        )
    return sorted(samples, key=lambda sample: natural(sample.sample_id))


def _sample(split: str, entry: Entry) -> BenchmarkSample:
    images = entry.notes.folder / "images"
    source, target = (entry.inside(images, entry.text(key)) for key in ("input", "output"))
    return BenchmarkSample(
        as_id(target.stem),
        entry.text("request"),
        source=source,
        target=target,
        cluster=source.stem.rpartition("_")[0],  # 3458 of `3458_O.jpg`
        extra={"split": split, "expert": target.stem.rpartition("_")[2]},
    )
