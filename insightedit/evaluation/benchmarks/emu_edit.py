"""Emu Edit test set: pictures of MagicBrush with instructions and captions, without ground truth.

Two traps: the data set with Emu Edit's own results names its two splits the other way round, and every fifth test row
has place-holder captions that are equal before and after, which MIGE leaves out of CLIP-T and CLIP directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card
from insightedit.evaluation.benchmarks.reading import Notes, PictureIndex, as_id, reads, some
from insightedit.evaluation.benchmarks.tables import check_columns, table_files, table_shape, unpack
from insightedit.files import is_junk

TASKS = {
    "text": 534,
    "add": 533,
    "remove": 531,
    "color": 519,
    "local": 446,
    "style": 434,
    "background": 373,
    "global": 219,
}
ROWS = {"test": 3589, "validation": 2022}
OTHER = {"test": "validation", "validation": "test"}
NEEDED = ("instruction", "image", "task", "idx")
RESULTS = ("edited_image", "model")  # columns of the data set with Emu Edit's own results
SHAPE = "{instruction, image, task, split, idx, hash, input_caption, output_caption}"

CARD = Card(
    name="emu-edit",
    title="the Emu Edit test set",
    paper="Sheynin et al., Emu Edit, CVPR 2024",
    obtain="Run `hf download facebook/emu_edit_test_set --repo-type dataset --local-dir FOLDER`.",
    licence="CC-BY-NC-4.0",
    layout=f"""\
data/test-*.parquet data/validation-*.parquet of the hub
or test.json (validation.json; also .jsonl), a list of rows
  {SHAPE}
  with the pictures by their file names anywhere below the folder""",
    counts={"all": ROWS["test"], **TASKS},
    splits=("test", "validation"),
)


@reads(CARD, {"validation": {"all": ROWS["validation"]}})
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """Samples with task as category, from the hub's copy or from rows as JSON with pictures as files.

    `extra` holds `hash`, `equal_captions` ("yes" where the two captions are equal, letter by letter) and, from the data
    set with results, `edited_image` (path of Emu Edit's own result) and `model`.
    """
    rows = _rows_of_tables(notes, split) if any(notes.folder.rglob("*.parquet")) else _rows_of_json(notes, split)
    samples = [sample for number, row in enumerate(rows) if (sample := _sample(notes, number, row)) is not None]
    _note_captions(notes, samples)
    return samples


def _rows_of_tables(notes: Notes, split: str) -> list[dict[str, Any]]:
    """Rows with paths in place of pictures, from the files that hold the split, whatever their names."""
    shapes = {}
    for name in CARD.splits:
        files = table_files(notes.folder, name)
        shape = table_shape(notes, files) if files else None
        if shape is not None:
            shapes[name] = (files, *shape)
    notes.stop()
    name = _true_name(notes, split, {name: (rows, columns) for name, (_, rows, columns) in shapes.items()})
    notes.stop()
    files, _, columns = shapes[name]
    check_columns(notes, notes.short(files[0]), columns, NEEDED)
    notes.stop()
    return unpack(notes, files, name, ("image", "edited_image"), lambda row: row["idx"])


def _true_name(notes: Notes, split: str, shapes: Mapping[str, tuple[int, Sequence[str]]]) -> str:
    """Under which name the folder holds a split, by its `shapes` (name -> rows, columns)."""
    other = OTHER[split]

    def holds(name: str, what: str) -> bool:
        if name not in shapes:
            return False
        rows, columns = shapes[name]
        whole = rows in ROWS.values()
        is_swapped = all(column in columns for column in RESULTS)
        return rows == ROWS[what] if whole else name == (OTHER[what] if is_swapped else what)

    if holds(split, split):
        return split
    if holds(other, split):
        notes.warn(
            f"The folder names its splits the other way round, as emu_edit_test_set_generations does: its `{other}` "
            f"({shapes[other][0]} rows) was read as {split}."
        )
        return other
    if split in shapes:
        notes.fault(
            f"Its `{split}` has {shapes[split][0]} rows and is the {other} split (emu_edit_test_set_generations swaps "
            f"the names, {split} has {ROWS[split]} rows): get its `{other}` files."
        )
    else:
        notes.fault(f"It holds no {split}-*.parquet file.")
    return split


def _rows_of_json(notes: Notes, split: str) -> list[dict[str, Any]]:
    """Rows with paths in place of pictures, from a list in JSON or JSON lines."""
    files = [path for path in notes.folder.glob("*.json*") if path.suffix in (".json", ".jsonl") and not is_junk(path)]
    named = sorted(path for path in files if split in path.stem) or sorted(files)
    if len(named) != 1:
        has = some(path.name for path in named) if named else "neither *.parquet nor *.json"
        notes.fault(f"It holds {has}: one {split}.json or {split}.jsonl is read, with rows {SHAPE}.")
        notes.stop()
    path = named[0]
    rows = notes.read_json(path, list, f"a list of {SHAPE}") if path.suffix == ".json" else None
    rows = (notes.read_jsonl(path, SHAPE) if path.suffix == ".jsonl" else rows) or []
    notes.stop()
    if bad := [str(number) for number, row in enumerate(rows) if not isinstance(row, dict)]:
        notes.fault(f"{path.name} has rows that are no objects ({some(bad)}): each should hold {SHAPE}.")
        notes.stop()
    _check_split_of_rows(notes, split, path, rows)
    index = PictureIndex(notes, notes.folder)
    for number, row in enumerate(rows):
        for column in ("image", "edited_image"):
            if isinstance(row.get(column), str):
                row[column] = index.find(row[column], f"{path.name}, row {number},")
    return rows


def _check_split_of_rows(notes: Notes, split: str, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows say themselves of which split they are, and so does a whole split's number of rows."""
    other = OTHER[split]
    if len(rows) == ROWS[other]:
        notes.fault(f"{path.name} has {len(rows)} rows, the number of the {other} split: ask for split {other!r}.")
    elif wrong := [row for row in rows if row.get("split", split) != split]:
        notes.fault(f"{path.name} has {len(wrong)} rows of the split {wrong[0]['split']!r}: {split} was asked for.")


def _sample(notes: Notes, number: int, row: Mapping[str, Any]) -> BenchmarkSample | None:
    where = f"Row {number} (idx {row.get('idx')})"
    if lacking := [key for key in NEEDED if row.get(key) is None]:
        notes.fault(f"{where} has no {' and no '.join(f'`{key}`' for key in lacking)}.")
        return None
    task = notes.text_of(row, "task", where)
    if task and task not in TASKS:
        notes.fault(f"{where} has the task {task!r}: there are {', '.join(TASKS)}.")
    before, after = row.get("input_caption"), row.get("output_caption")
    extra = {key: str(row[key]) for key in ("hash", "model", "edited_image") if row.get(key)}
    if before and before == after:
        extra["equal_captions"] = "yes"
    return BenchmarkSample(
        sample_id=as_id(row["idx"]),
        instruction=notes.text_of(row, "instruction", where),
        category=task,
        source=row["image"] if isinstance(row["image"], Path) else None,
        source_caption=notes.text_of(row, "input_caption", where, needed=False),
        target_caption=notes.text_of(row, "output_caption", where, needed=False),
        cluster=str(row.get("hash") or "").split("_")[0],
        extra=extra,
    )


def _note_captions(notes: Notes, samples: Sequence[BenchmarkSample]) -> None:
    if equal := [sample.sample_id for sample in samples if "equal_captions" in sample.extra]:
        notes.warn(
            f"{len(equal)} of {len(samples)} rows have equal captions before and after ({some(equal)}): CLIP-T and "
            f"CLIP directions are taken over the other {len(samples) - len(equal)}, as in MIGE."
        )
    if bare := [sample.sample_id for sample in samples if not sample.target_caption]:
        notes.warn(f"{len(bare)} rows have no output caption ({some(bare)}): they are left out of CLIP-T.")
