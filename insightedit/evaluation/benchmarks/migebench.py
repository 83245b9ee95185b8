"""MIGEBench: a subject that a picture shows is added to another picture, or replaces something in it.

The published JSON names pictures by paths of its authors' machine (`/path/to/MIGEBench/add/add_source/21_source.jpg`):
only the last two parts are taken. Subjects are cut out on black and on white; the published instructions show the
black one, and the protocol compares with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card
from insightedit.evaluation.benchmarks.reading import Notes, as_id, reads, some
from insightedit.files import natural

ROLES = ("entity", "mask", "source", "target")
PLACEHOLDER = "<imagehere>"
RECORD = "{idx, multi_prompt, image, source_path, entity_path, entity_path_white, mask_path, target_caption}"

CARD = Card(
    name="migebench",
    title="MIGEBench",
    paper="Tian et al., MIGE, ACM MM 2025",
    obtain="Get the data set EurekaTian/MIGEBench from the Hugging Face hub and unpack it.",
    licence="CC-BY-NC-4.0",
    layout="""\
MIGEBench/
  add_bench.json  replace_bench.json
  add/{add_entity,add_mask,add_source,add_target}/   21_entity_black.jpg 21_entity_white.jpg 21_source.jpg ...
  replace/{replace_entity,replace_mask,replace_source,replace_target}/""",
    counts={"all": 1000, "add": 500, "replace": 500},
    splits=("all", "add", "replace"),
)


@dataclass(frozen=True)
class _BenchRecord:
    """One record of the JSON, to be read; `where` names it in messages."""

    notes: Notes
    task: str
    row: dict[str, Any]
    where: str

    def pictures(self, key: str, role: str) -> tuple[Path, ...]:
        """Paths below a key that holds one name or a list of names, found in the folder."""
        value = self.row.get(key)
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            self.notes.fault(f"{self.where} has {value!r:.60} as `{key}`: it should name the {role}.")
            return ()
        return tuple(path for name in names if (path := self._find(name, key)) is not None)

    def _find(self, name: str, key: str) -> Path | None:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        known = [f"{self.task}_{role}" for role in ROLES]
        if len(parts) < 2 or parts[-2] not in known or parts[-1] == ".." or len(parts[-1].encode()) > 255:
            self.notes.fault(f"{self.where} names {name!r:.80} as `{key}`: pictures lie in {', '.join(known)}.")
            return None
        below = self.notes.folder / self.task
        return (below if below.is_dir() else self.notes.folder) / parts[-2] / parts[-1]


@reads(CARD, {task: {"all": CARD.counts[task]} for task in ("add", "replace")})
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """`references` are the pictures of the instruction's placeholders in their order.

    That is the subject and the source for additions, the source and the subject for replacements. `subjects` holds the
    subject on black, and `extra["subject_white"]` the path of the same on white.
    """
    tasks = ("add", "replace") if split == "all" else (split,)
    tables = {task: notes.read_json(notes.folder / f"{task}_bench.json", list, f"[{RECORD}]") for task in tasks}
    _check_folders(notes, tasks)
    notes.stop()
    samples = [sample for task, rows in tables.items() for sample in _samples(notes, task, rows) if sample is not None]
    samples.sort(key=lambda sample: natural(sample.sample_id))
    notes.check_pictures([("white subject", Path(sample.extra["subject_white"])) for sample in samples])
    _warn(notes, samples)
    return samples


def _check_folders(notes: Notes, tasks: Iterable[str]) -> None:
    for task in tasks:
        root = notes.folder / task if (notes.folder / task).is_dir() else notes.folder
        missing = [f"{task}_{role}" for role in ROLES if not (root / f"{task}_{role}").is_dir()]
        archives = sorted(path.name for path in notes.folder.glob("*.zip"))
        hint = f": unpack {some(archives)}" if archives else ""
        if missing:
            notes.fault(f"The folders {', '.join(missing)} of the task {task} are missing{hint}.")


def _samples(notes: Notes, task: str, rows: list[Any]) -> list[BenchmarkSample | None]:
    samples = []
    for number, row in enumerate(rows, 1):
        where = f"{task}_bench.json, record {number}"
        if isinstance(row, dict):
            samples.append(_sample(_BenchRecord(notes, task, row, where)))
        else:
            notes.fault(f"{where} is a {type(row).__name__}: it should be {RECORD}.")
    return samples


def _sample(record: _BenchRecord) -> BenchmarkSample | None:
    row, notes = record.row, record.notes
    if not isinstance(row.get("idx"), int | str):
        notes.fault(f"{record.where} has {row.get('idx')!r:.60} as `idx`: it should be the sample's number.")
    instruction = notes.text_of(row, "multi_prompt", record.where)
    target = record.pictures("image", "target")
    source = record.pictures("source_path", "source")
    mask = record.pictures("mask_path", "mask")
    references = record.pictures("entity_path", "pictures of the instruction, in order")
    white = record.pictures("entity_path_white", "subject on white")
    if not all((instruction, target, source, mask, references, white)):
        return None
    slots = len(re.findall(PLACEHOLDER, instruction, re.IGNORECASE))
    if slots != len(references):
        notes.fault(
            f"{record.where} has {slots} {PLACEHOLDER} in its instruction and {len(references)} pictures in "
            "`entity_path`: there has to be one for each."
        )
    subjects = tuple(path for path in references if path != source[0])
    if len(subjects) != 1:
        notes.fault(f"{record.where} has {len(subjects)} subjects besides the source in `entity_path`, not one.")
    return BenchmarkSample(
        as_id(record.task, row.get("idx")),
        re.sub(PLACEHOLDER, PLACEHOLDER, instruction, flags=re.IGNORECASE),
        category=record.task,
        source=source[0],
        target=target[0],
        mask=mask[0],
        references=references,
        subjects=subjects,
        target_caption=notes.text_of(row, "target_caption", record.where, needed=False),
        local_caption=notes.text_of(row, "object", record.where, needed=False),
        cluster=f"{record.task}/{source[0].name}",
        extra={
            "idx": str(row.get("idx")),
            "object": notes.text_of(row, "object", record.where, needed=False),
            "plain_instruction": notes.text_of(row, "caption", record.where, needed=False),
            "subject_white": str(white[0]),
        },
    )


def _warn(notes: Notes, samples: Iterable[BenchmarkSample]) -> None:
    """What makes a number doubtful without making it impossible."""
    strangers, silent, nameless, grounds = [], [], [], []
    for sample in samples:
        pictures = (sample.source, sample.target, sample.mask, *sample.subjects)
        numbers = {path.name.split("_")[0] for path in pictures if path is not None}
        strangers += [sample.sample_id] if numbers != {sample.extra["idx"]} else []
        silent += [] if sample.target_caption else [sample.sample_id]
        nameless += [] if sample.extra["object"] else [sample.sample_id]
        endings = (*[path.stem for path in sample.subjects], Path(sample.extra["subject_white"]).stem)
        swapped = [stem for stem, word in zip(endings, ("black", "white"), strict=False) if not stem.endswith(word)]
        grounds += [sample.sample_id] if swapped else []
    for found, sentence in (
        (strangers, "name pictures whose numbers are not their own `idx`: check that they belong together"),
        (silent, "have no `target_caption`: CLIP-T leaves them out"),
        (nameless, "have no `object`: their subject cannot be searched for"),
        (grounds, "have other subjects than `_entity_black` in the instruction and `_entity_white` beside it"),
    ):
        if found:
            notes.warn(f"{len(found)} samples ({some(found)}) {sentence}.")
