"""ImgEdit-Bench: single edits in nine groups, and the hard ones that need understanding (UGE).

The pictures come in one archive, the instructions in it or in the repository, under two names and with two names for
one group: the repository's file says `alter` where the judge's prompts and the tables say `adjust`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from insightedit.datasets.notes import Entry, Notes, as_id, some
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads
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
    places = [notes.folder / place for place in PLACES[split]]
    lists = [place / name for place in places for name in LISTS[split] if (place / name).is_file()]
    if not lists:
        inner = ", ".join(filter(None, PLACES[split]))
        notes.stop(f"It holds no {' or '.join(LISTS[split])}, neither itself nor in {inner}.")
    if len(lists) > 1:
        notes.warn(f"Several lists of instructions are here: {notes.short(lists[0])} is read.")
    table = notes.read_json(lists[0], dict, f"{{key: {ENTRY}, ...}}")
    notes.stop()

    def sample(entry: Entry) -> BenchmarkSample:
        name, prompt = entry.text("id"), entry.text("prompt")
        kind = entry.text("edit_type", needed=split == "basic")
        return BenchmarkSample(
            as_id(entry.where.removeprefix("Entry ")),
            prompt,
            category=SYNONYMS.get(kind, kind),
            source=entry.inside(notes.folder, name),
            cluster=name,
            extra={"id": name, "edit_type": kind},
        )

    samples = notes.each(((f"Entry {key}", entry) for key, entry in table.items()), ENTRY, sample)
    # the folder in which most of the pictures are found
    root = max(places, key=lambda place: sum((place / one.cluster).is_file() for one in samples))
    samples = [replace(one, source=root / one.cluster.replace("\\", "/")) for one in samples]
    samples.sort(key=lambda one: natural(one.sample_id))
    unknown = sorted({one.category for one in samples} - set(GROUPS))
    if split == "basic" and unknown:
        notes.warn(f"Groups that are not published are here: {some(unknown)}.", differs=True)
    if broken := [one.sample_id for one in samples if MISREAD in one.instruction]:
        notes.warn(
            f"{len(broken)} instructions have a damaged apostrophe, as published ({some(broken)}): they are left so."
        )
    return samples
