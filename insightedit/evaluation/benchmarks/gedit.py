"""GEdit-Bench (Step1X-Edit): edits that real users asked for, in eleven groups, in English and in Chinese.

It is published as a table with the pictures within; they are written to files beside it once. The source is
`input_image`, with which the published judge compares the edited picture; `input_image_raw`, the same before it was
resized, is not read. The two languages are two benchmarks of the published tables, so one is read at a time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insightedit.datasets.notes import UNPACKED, Entry, EntryError, Notes, as_id, packed, some
from insightedit.datasets.unpacking import open_tables, unpack
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads
from insightedit.files import natural

GROUPS = (
    "background_change", "color_alter", "material_alter", "motion_change", "ps_human", "style_change", "subject-add",
    "subject-remove", "subject-replace", "text_change", "tone_transfer",
)  # fmt: skip
TEXTS = ("task_type", "key", "instruction", "instruction_language", "Intersection_exist")
PICTURE = "input_image"
ENDS = 4096  # bytes at both ends of a file that tell pictures apart

CARD = Card(
    name="gedit",
    title="GEdit-Bench",
    paper="Liu et al., Step1X-Edit, 2025",
    obtain=(
        "Run `hf download stepfun-ai/GEdit-Bench --repo-type dataset --local-dir GEdit-Bench`; pictures are unpacked "
        "beside the table at the first visit."
    ),
    licence="MIT",
    layout="""\
GEdit-Bench/
  **/*.parquet, or *.arrow as `save_to_disk` writes them
    task_type, key, instruction, instruction_language (en or cn), input_image, input_image_raw, Intersection_exist""",
    counts={"all": 606},
    splits=("en", "cn"),
)


@reads(CARD)
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """The samples of one language, en or cn; tables lie at any depth, and `unpacked/gedit` is written beside them."""
    files = [
        path
        for path in notes.folder.rglob("*")
        if path.suffix in (".parquet", ".arrow")
        and not path.name.startswith("cache-")  # what `datasets` keeps of its own work
        and UNPACKED not in path.relative_to(notes.folder).parts
    ]
    if not files:
        archives = [packed(path) for path in notes.folder.glob("*.zip")]
        notes.stop(" ".join(["It holds no *.parquet and no *.arrow file.", *archives]))
    if len({path.suffix for path in files}) > 1:
        notes.stop("It holds *.parquet and *.arrow files: keep one of the two, or samples would occur twice.")
    files.sort(key=lambda path: natural(path.relative_to(notes.folder).as_posix()))
    columns = [*TEXTS, PICTURE]
    table = open_tables(notes, files, columns, only=columns)
    rows = [] if table is None else unpack(notes, table, "gedit", [PICTURE], _sample_id)
    notes.stop()
    numbers = Counter(str(row["instruction_language"]) for row in rows)
    if strange := [language for language in numbers if language not in CARD.splits]:
        notes.fault(f"Rows have an `instruction_language` that is neither en nor cn: {some(strange)}.")
    if numbers["en"] != numbers["cn"]:
        notes.warn(
            f"{numbers['en']} English and {numbers['cn']} Chinese instructions are here: one is incomplete.",
            differs=True,
        )
    of_split = [(_sample_id(row), row) for row in rows if row["instruction_language"] == split]
    samples = notes.each(of_split, "a row", _sample)
    samples.sort(key=lambda sample: (sample.category, natural(sample.sample_id)))
    if unknown := sorted({sample.category for sample in samples} - set(GROUPS)):
        notes.warn(f"Groups that are not published are here: {some(unknown)}.", differs=True)
    return samples


def _sample_id(row: Mapping[str, Any]) -> str:
    return as_id(row["instruction_language"], row["key"])


def _sample(entry: Entry) -> BenchmarkSample:
    source, row = entry.fields[PICTURE], entry.fields
    if not isinstance(source, Path):
        raise EntryError("has no picture within the table: download the table again")
    size = source.stat().st_size
    with source.open("rb") as file:  # the ends are the same for equal pictures, whose edits are resampled together
        ends = file.read(ENDS)
        file.seek(max(0, size - ENDS))
        ends += file.read(ENDS)
    return BenchmarkSample(
        _sample_id(row),
        entry.text("instruction"),
        category=entry.text("task_type"),
        source=source,
        cluster=hashlib.sha256(b"%d" % size + ends).hexdigest()[:16],
        extra={
            "key": str(row["key"]),
            "language": str(row["instruction_language"]),
            "intersection": str(bool(row["Intersection_exist"])).lower(),
        },
    )
