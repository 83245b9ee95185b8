"""MIGEBench: a subject that a picture shows is added to another picture, or replaces something in it.

The published JSON names pictures by paths of its authors' machine (`/path/to/MIGEBench/add/add_source/21_source.jpg`):
only the last two parts are taken. Subjects are cut out on black and on white; the published instructions show the
black one, and the protocol compares with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from insightedit.datasets.layouts import multimodal_prompt, paths_of
from insightedit.datasets.notes import Entry, EntryError, Notes, as_id, some
from insightedit.datasets.reading import ReadError
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads
from insightedit.files import natural
from insightedit.types import REFERENCE_PLACEHOLDER

ROLES = ("entity", "mask", "source", "target")
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


@reads(CARD, {task: {"all": CARD.counts[task]} for task in ("add", "replace")})
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """`references` are the pictures of the instruction's placeholders in their order.

    That is the subject and the source for additions, the source and the subject for replacements. `subjects` holds the
    subject on black, and `extra["subject_white"]` the path of the same on white.
    """
    tasks = ("add", "replace") if split == "all" else (split,)
    tables = {task: notes.read_json(notes.folder / f"{task}_bench.json", list, f"[{RECORD}]") for task in tasks}
    archives = sorted(path.name for path in notes.folder.glob("*.zip"))
    for task in tasks:
        missing = [f"{task}_{role}" for role in ROLES if not (_root(notes, task) / f"{task}_{role}").is_dir()]
        if missing:
            hint = f": unpack {some(archives)}" if archives else ""
            notes.fault(f"The folders {', '.join(missing)} of the task {task} are missing{hint}.")
    notes.stop()
    samples = []
    for task, rows in tables.items():
        numbered = ((f"{task}_bench.json, record {number}", row) for number, row in enumerate(rows, 1))
        samples += notes.each(numbered, RECORD, partial(_sample, task))
    samples.sort(key=lambda sample: natural(sample.sample_id))
    notes.check_pictures([("white subject", Path(sample.extra["subject_white"])) for sample in samples])
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
    return samples


def _root(notes: Notes, task: str) -> Path:
    """The folder around those of a task's pictures."""
    return notes.folder / task if (notes.folder / task).is_dir() else notes.folder


def _sample(task: str, entry: Entry) -> BenchmarkSample:
    """A record as training reads it; the source keeps its own placeholder among the others."""
    row, known = entry.fields, [f"{task}_{role}" for role in ROLES]
    if not isinstance(row.get("idx"), int | str):
        raise EntryError(f"has {row.get('idx')!r:.60} as `idx`: it should be the sample's number")

    def find(name: object) -> Path:
        ends = PurePosixPath(str(name).replace("\\", "/")).parts[-2:]
        if len(ends) < 2 or ends[0] not in known or ends[1] == ".." or len(ends[1].encode()) > 255:
            raise EntryError(f"names the picture {name!r:.80}: they lie in {', '.join(known)}")
        return _root(entry.notes, task).joinpath(*ends)

    prompt = entry.text("multi_prompt")
    instruction = re.sub(REFERENCE_PLACEHOLDER, REFERENCE_PLACEHOLDER, prompt, flags=re.IGNORECASE)
    sample_id = as_id(task, row["idx"])
    pair = multimodal_prompt(sample_id, {**row, "multi_prompt": instruction}, find)
    white = paths_of(row.get("entity_path_white"))
    for key, found in (("source_path", pair.source), ("mask_path", pair.mask), ("entity_path_white", white)):
        if not found:
            raise EntryError(f"has {row.get(key)!r:.60} as `{key}`: it should name a picture")
    if isinstance(pair.mask, ReadError):
        raise pair.mask
    if len(pair.references) != 1:
        entry.fault(f"has {len(pair.references)} subjects besides the source in `entity_path`, not one")
    thing = entry.text("object", needed=False)
    return BenchmarkSample(
        sample_id,
        instruction,
        category=task,
        source=pair.source,
        target=pair.target,
        mask=pair.mask,
        references=tuple(map(find, paths_of(row.get("entity_path")))),
        subjects=tuple(pair.references),
        target_caption=entry.text("target_caption", needed=False),
        local_caption=thing,
        cluster=f"{task}/{Path(str(pair.source)).name}",
        extra={
            "idx": str(row["idx"]),
            "object": thing,
            "plain_instruction": entry.text("caption", needed=False),
            "subject_white": str(find(white[0])),
        },
    )
