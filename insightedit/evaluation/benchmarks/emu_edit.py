"""Emu Edit test set: pictures of MagicBrush with instructions and captions, without ground truth.

Two traps: the data set with Emu Edit's own results names its two splits the other way round, and every fifth test row
has place-holder captions that are equal before and after, which MIGE leaves out of CLIP-T and CLIP directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from insightedit.datasets.notes import Entry, EntryError, Notes, as_id, some
from insightedit.datasets.unpacking import open_tables, split_tables, unpack
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads
from insightedit.files import is_junk

TASKS = {
    "text": 534, "add": 533, "remove": 531, "color": 519, "local": 446, "style": 434, "background": 373, "global": 219,
}  # fmt: skip
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
    numbered = ((f"Row {number} (idx {row.get('idx')})", row) for number, row in enumerate(rows))
    samples = notes.each(numbered, SHAPE, _sample)
    if equal := [sample.sample_id for sample in samples if "equal_captions" in sample.extra]:
        notes.warn(
            f"{len(equal)} of {len(samples)} rows have equal captions before and after ({some(equal)}): CLIP-T and "
            f"CLIP directions are taken over the other {len(samples) - len(equal)}, as in MIGE."
        )
    if bare := [sample.sample_id for sample in samples if not sample.target_caption]:
        notes.warn(f"{len(bare)} rows have no output caption ({some(bare)}): they are left out of CLIP-T.")
    return samples


def _rows_of_tables(notes: Notes, split: str) -> list[dict[str, Any]]:
    """Rows with paths in place of pictures, from the files that hold the split, whatever their names."""
    files = {name: split_tables(notes.folder, name) for name in CARD.splits}
    tables = {name: rows for name in CARD.splits if files[name] and (rows := open_tables(notes, files[name], ()))}
    notes.stop()
    other = OTHER[split]

    def holds(name: str, what: str) -> bool:
        """Whether the files of a name hold a split: told by their length, else by columns of the swapped set."""
        if name not in tables:
            return False
        if len(tables[name]) in ROWS.values():
            return len(tables[name]) == ROWS[what]
        is_swapped = all(column in tables[name].columns for column in RESULTS)
        return name == (OTHER[what] if is_swapped else what)

    name = split
    if not holds(split, split) and holds(other, split):
        notes.warn(
            f"The folder names its splits the other way round, as emu_edit_test_set_generations does: its `{other}` "
            f"({len(tables[other])} rows) was read as {split}."
        )
        name = other
    elif not holds(split, split):
        told = f"It holds no {split}-*.parquet file."
        if split in tables:
            told = (
                f"Its `{split}` has {len(tables[split])} rows and is the {other} split (emu_edit_test_set_generations "
                f"swaps the names, {split} has {ROWS[split]} rows): get its `{other}` files."
            )
        notes.stop(told)
    rows = open_tables(notes, files[name], NEEDED)
    notes.stop()
    assert rows is not None
    return unpack(notes, rows, name, ("image", "edited_image"), lambda row: row["idx"])


def _rows_of_json(notes: Notes, split: str) -> list[dict[str, Any]]:
    """Rows from a list in JSON or JSON lines, with the file names of their pictures."""
    files = [path for path in notes.folder.glob("*.json*") if path.suffix in (".json", ".jsonl") and not is_junk(path)]
    named = sorted(path for path in files if split in path.stem) or sorted(files)
    if len(named) != 1:
        has = some(path.name for path in named) if named else "neither *.parquet nor *.json"
        notes.stop(f"It holds {has}: one {split}.json or {split}.jsonl is read, with rows {SHAPE}.")
    path, other = named[0], OTHER[split]
    is_list = path.suffix == ".json"
    rows = notes.read_json(path, list, f"a list of {SHAPE}") if is_list else notes.read_jsonl(path, SHAPE)
    notes.stop()
    assert rows is not None
    if bad := [str(number) for number, row in enumerate(rows) if not isinstance(row, dict)]:
        notes.stop(f"{path.name} has rows that are no objects ({some(bad)}): each should hold {SHAPE}.")
    # the rows say themselves of which split they are, and so does a whole split's number of rows
    if len(rows) == ROWS[other]:
        notes.fault(f"{path.name} has {len(rows)} rows, the number of the {other} split: ask for split {other!r}.")
    elif wrong := [row for row in rows if row.get("split", split) != split]:
        notes.fault(f"{path.name} has {len(wrong)} rows of the split {wrong[0]['split']!r}: {split} was asked for.")
    return rows


def _sample(entry: Entry) -> BenchmarkSample:
    row = entry.fields
    if lacking := [key for key in NEEDED if row.get(key) is None]:
        raise EntryError(f"has no {' and no '.join(f'`{key}`' for key in lacking)}")
    task = entry.text("task")
    if task not in TASKS:
        raise EntryError(f"has the task {task!r}: there are {', '.join(TASKS)}")
    pictures = {
        column: row[column] if isinstance(row[column], Path) else entry.find(entry.text(column))
        for column in ("image", "edited_image")
        if row.get(column)
    }
    before, after = row.get("input_caption"), row.get("output_caption")
    extra = {key: str({**row, **pictures}[key]) for key in ("hash", "model", "edited_image") if row.get(key)}
    if before and before == after:
        extra["equal_captions"] = "yes"
    return BenchmarkSample(
        sample_id=as_id(row["idx"]),
        instruction=entry.text("instruction"),
        category=task,
        source=pictures["image"],
        source_caption=entry.text("input_caption", needed=False),
        target_caption=entry.text("output_caption", needed=False),
        cluster=str(row.get("hash") or "").split("_")[0],
        extra=extra,
    )
