"""ImgEdit-Bench: single edits in nine groups, and the hard ones that need understanding (UGE).

The pictures come in one archive, the instructions in it or in the repository, under two names and with two names for
one group: the repository's file says `alter` where the judge's prompts and the tables say `adjust`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card
from insightedit.evaluation.benchmarks.reading import Notes, as_id, reads, some
from insightedit.files import natural

LISTS = {"basic": ("basic_edit.json", "singleturn.json"), "uge": ("UGE_edit.json",)}
PLACES = {
    "basic": ("", "singleturn", "Basic", "Benchmark/singleturn", "Benchmark/Basic", "original_images"),
    "uge": ("", "hard", "UGE", "Benchmark/hard", "Benchmark/UGE", "original_images"),
}
GROUPS = ("add", "adjust", "extract", "replace", "remove", "background", "style", "action", "compose")
SYNONYMS = {"alter": "adjust"}
MISREAD = "\u9225"  # what a curly apostrophe in UTF-8 becomes when it is read as GBK
ENTRY = '{id: "animal/000342021.jpg", prompt, edit_type}'
UGE_NUMBER = 47

CARD = Card(
    name="imgedit",
    title="ImgEdit-Bench",
    paper="Ye et al., ImgEdit, 2025",
    obtain=(
        "Get Benchmark.tar of the data set sysuyy/ImgEdit from the Hugging Face hub and unpack it; the lists are also "
        "in github.com/PKU-YuanGroup/ImgEdit: Benchmark/Basic/basic_edit.json and Benchmark/UGE/UGE_edit.json."
    ),
    licence="none stated",
    layout="""\
Benchmark/
  singleturn/{singleturn.json, animal/*.jpg, architecture/*.jpg, clothes/*.jpg, ...}
    {key: {id: "animal/000342021.jpg", prompt, edit_type}}; the repository's basic_edit.json may lie there instead
  hard/{UGE_edit.json, 000029784.jpg, ...}   {key: {id, prompt}}""",
    counts={
        "all": 737, "extract": 117, "style": 100, "add": 95, "adjust": 94, "background": 94, "replace": 92,
        "remove": 86, "action": 36, "compose": 23,
    },
    splits=("basic", "uge"),
)  # fmt: skip


@reads(CARD, {"uge": {"all": UGE_NUMBER}})
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """The samples of `Benchmark` of the archive, or of one of its folders."""
    table = _entries(notes, split)
    notes.stop()
    entries = {key: entry for key, entry in table.items() if _is_entry(notes, key, entry)}
    root = _pictures(notes, split, [entry["id"] for entry in entries.values()])
    samples = [_sample(notes, root, split, key, entry) for key, entry in entries.items()]
    samples.sort(key=lambda sample: natural(sample.sample_id))
    _check_texts(notes, samples, split)
    return samples


def _entries(notes: Notes, split: str) -> dict[str, Any]:
    """{key: entry} of the list, wherever it lies."""
    found = [
        notes.folder / place / name
        for place in PLACES[split]
        for name in LISTS[split]
        if (notes.folder / place / name).is_file()
    ]
    if not found:
        names = " or ".join(LISTS[split])
        places = ", ".join(filter(None, PLACES[split]))
        notes.fault(f"It holds no {names}, neither itself nor in {places}.")
        return {}
    if len(found) > 1:
        notes.warn(f"Several lists of instructions are here: {notes.short(found[0])} is read.")
    return notes.read_json(found[0], dict, f"{{key: {ENTRY}, ...}}") or {}


def _is_entry(notes: Notes, key: str, entry: Any) -> bool:
    where = f"Entry {key}"
    if not isinstance(entry, dict):
        notes.fault(f"{where} is a {type(entry).__name__}: it should be {ENTRY}.")
        return False
    name, prompt = (notes.text_of(entry, part, where) for part in ("id", "prompt"))
    return bool(prompt and name and notes.inside(notes.folder, name, where))


def _pictures(notes: Notes, split: str, names: Iterable[str]) -> Path:
    """The folder in which most of the pictures are found."""
    places = [notes.folder / place for place in PLACES[split] if (notes.folder / place).is_dir()]
    return max(places, key=lambda place: sum((place / name.strip()).is_file() for name in names))


def _sample(notes: Notes, root: Path, split: str, key: str, entry: dict[str, str]) -> BenchmarkSample:
    name = entry["id"].strip()
    kind = notes.text_of(entry, "edit_type", f"Entry {key}", needed=split == "basic")
    return BenchmarkSample(
        as_id(key),
        entry["prompt"].strip(),
        category=SYNONYMS.get(kind, kind),
        source=root / name.replace("\\", "/"),
        cluster=name,
        extra={"id": name, "edit_type": kind},
    )


def _check_texts(notes: Notes, samples: Iterable[BenchmarkSample], split: str) -> None:
    unknown = sorted({sample.category for sample in samples} - set(GROUPS))
    if split == "basic" and unknown:
        notes.warn(f"Groups that are not published are here: {some(unknown)}.", differs=True)
    if broken := [sample.sample_id for sample in samples if MISREAD in sample.instruction]:
        notes.warn(
            f"{len(broken)} instructions have a damaged apostrophe, as published ({some(broken)}): they are left so."
        )
