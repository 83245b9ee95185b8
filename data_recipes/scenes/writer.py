"""Scenes as a data set on disk: tar shards or parquet files, the same bytes for the same settings.

Every shard is written under a temporary name and renamed, then `manifest.json` is brought up to date, so that a run
that was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_recipes.formats.shards import ParquetShard, TarShard, arrow_schema, png
from data_recipes.runner.flow import Unit, units_of
from data_recipes.runner.folder import MANIFEST, begun_manifest, file_entry, is_whole, write_json
from data_recipes.runner.rows import ENDINGS
from data_recipes.scenes.card import dataset_card
from insightedit.console import MAX_RECORDS, MAX_SCENE_SEED, SCENE_SIDES
from insightedit.files import write_atomically, write_text
from insightedit.scenes.assets import SPLITS, Assets
from insightedit.scenes.draws import RandomAccessSampler
from insightedit.scenes.sampler import EditSample, SceneSampler
from insightedit.scenes.subjects import SubjectEditSampler, SubjectSample, SubjectSampler

FORMATS = ("webdataset", "parquet")
SAMPLERS: dict[str, type[RandomAccessSampler]] = {
    "edits": SceneSampler,
    "subjects": SubjectSampler,
    "subject_edits": SubjectEditSampler,
}
CARD = "README.md"
RANGES = {
    "count": (1, MAX_RECORDS),
    "size": SCENE_SIDES,
    "seed": (0, MAX_SCENE_SEED),
    "shard_size": (1, MAX_RECORDS),
    "start_index": (0, MAX_RECORDS),
}
PICTURES = ("source", "target", "mask")
NUMBERS = ("index", "split", "seed", "size")
INTEGERS = ("index", "seed", "size")
KINDS = ("task", "category", "style", "template_id")
TEXTS = ("instruction", "expressive_instruction")
COLUMNS: dict[str, tuple[str, ...]] = {
    "edits": (*PICTURES, *NUMBERS, *KINDS, *TEXTS, "caption_source", "caption_target", "qa"),
    "subjects": ("target", "mask", "references", *NUMBERS, *KINDS, *TEXTS, "caption_target"),
    "subject_edits": (*PICTURES, "references", *NUMBERS, *KINDS, *TEXTS, "caption_source", "caption_target"),
}


@dataclass(frozen=True)
class SceneDataSettings:
    """What a data set holds, the same bytes for the same settings; a ValueError tells all that are out of range."""

    split: str  # train, val or test
    count: int  # pairs
    size: int = 64  # side of the square pictures in pixels, 16 to 1024
    seed: int = 0  # seed of the sampler, under 2**24
    format: str = "webdataset"  # webdataset or parquet
    shard_size: int = 1000  # pairs a file
    start_index: int = 0  # first index of the sampler, so that several machines can share one data set
    task: str = "edits"  # edits, subjects (new pictures of subjects) or subject_edits (subjects put into scenes)

    def __post_init__(self) -> None:
        faults, given = [], asdict(self)
        for name, known in (("split", SPLITS), ("format", FORMATS), ("task", SAMPLERS)):
            if given[name] not in known:
                faults.append(f"{name} is {given[name]!r}: choose one of {', '.join(known)}")
        for name, (low, high) in RANGES.items():
            if not low <= given[name] <= high:
                faults.append(f"{name.replace('_', ' ')} is {given[name]}: choose {low} to {high}")
        if faults:
            raise ValueError("; ".join(faults) + ".")

    def sampler(self, assets: Assets) -> RandomAccessSampler:
        """Where the samples come from."""
        return SAMPLERS[self.task](self.split, self.size, self.seed, assets)

    def units(self) -> list[Unit]:
        """What the samples are divided into, a file each."""
        return units_of(self.start_index, self.count, self.shard_size)

    def shard_name(self, unit: Unit) -> str:
        """The name of a unit's file, such as `train-00000-of-00010.tar`."""
        number = -(-self.count // self.shard_size)
        return f"{self.split}-{unit.number:05d}-of-{number:05d}.{ENDINGS[self.format]}"


def write_dataset(
    out: Path,
    settings: SceneDataSettings,
    *,
    assets: Assets | None = None,  # sprites and photographs; the embedded ones by default
    progress: Callable[[int], None] = lambda pairs: None,  # told of pairs that were written, or found whole
) -> dict[str, Any]:
    """Write a data set with its manifest and card, or finish the one that the same settings began in `out`.

    Raises:
        ValueError: if `out` holds a data set of other settings, or other files.
    """
    assets = assets or Assets.embedded()
    facts = {**asdict(settings), "assets": fingerprint(assets)}
    begun = begun_manifest(out, facts, "scenes", older={"task": "edits"})
    new = {"name": "scenes", "settings": facts, "complete": False, "shards": []}
    manifest = new | (begun or {}) | {"settings": facts}
    write_json(out / MANIFEST, manifest)
    sampler = settings.sampler(assets)
    entries = {entry["name"]: entry for entry in manifest["shards"]}
    for unit in settings.units():
        name = settings.shard_name(unit)
        if name in entries and is_whole(out / name, entries[name]):
            progress(unit.count)
            continue
        entries[name] = write_shard(out / name, unit, sampler, settings, progress)
        manifest["shards"] = [entries[name] for name in sorted(entries)]
        write_json(out / MANIFEST, manifest)
    for key in ("tasks", "categories"):
        total = sum((Counter(entry[key]) for entry in manifest["shards"]), Counter())
        manifest[key] = dict(sorted(total.items()))
    write_text(out / CARD, dataset_card(manifest, assets, COLUMNS[settings.task]), durable=True)
    manifest["complete"] = True
    write_json(out / MANIFEST, manifest)
    return manifest


def fingerprint(assets: Assets) -> str:
    """What tells two packs apart: names, facts, splits and the bytes of all files."""
    digest = hashlib.sha256()
    for sprite in assets.sprites.values():
        digest.update(f"{sprite.name}|{sprite.group}|{sprite.fact}|".encode() + sprite.path.read_bytes())
    for photo in assets.photos:
        digest.update(f"{photo.name}|{photo.split}|".encode() + photo.path.read_bytes())
    return digest.hexdigest()[:16]


def write_shard(
    path: Path, unit: Unit, sampler: RandomAccessSampler, settings: SceneDataSettings, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Render and write one file; its entry in the manifest."""
    tasks, categories = Counter[str](), Counter[str]()
    with write_atomically(path, durable=True) as aside, aside.open("wb") as file:
        in_tar = settings.format == "webdataset"
        writer = TarShard(file) if in_tar else ParquetShard(file, parquet_schema(settings.task))
        with closing(writer):
            for index in range(unit.start, unit.start + unit.count):
                sample = sampler[index]
                writer.write(row_of(sample, settings))
                tasks[sample.task] += 1
                categories[sample.category] += 1
                progress(1)
    told = {"name": path.name, "start_index": unit.start, "count": unit.count, **file_entry(path)}
    return {**told, "tasks": dict(sorted(tasks.items())), "categories": dict(sorted(categories.items()))}


def row_of(sample: EditSample | SubjectSample, settings: SceneDataSettings) -> dict[str, Any]:
    """Everything about a sample: `__name__` and the task's `COLUMNS`, pictures as PNG bytes, the rest as plain values.

    There is no `qa` where pictures stand in the instruction, since a question would show its picture too.
    """
    row = {
        "target": png(sample.target),
        "mask": png(sample.mask),
        "references": [png(picture) for picture in sample.references],
        "split": settings.split,
        "seed": settings.seed,
        "size": settings.size,
        **{name: getattr(sample, name) for name in ("index", *KINDS, *TEXTS, "caption_target")},
    }
    if isinstance(sample, EditSample):
        row |= {"source": png(sample.source), "caption_source": sample.caption_source}
        row["qa"] = [{"question": question, "answer": answer} for question, answer in sample.qa()]
    return {"__name__": f"{sample.index:09d}", **{name: row[name] for name in COLUMNS[settings.task]}}


def parquet_schema(task: str = "edits") -> Any:
    """The Arrow schema of a row."""
    kinds = {**dict.fromkeys(PICTURES, "image"), "references": "images", **dict.fromkeys(INTEGERS, "int64")}
    names = [name for name in dict.fromkeys([*kinds, *COLUMNS[task]]) if name in COLUMNS[task]]  # pictures come first
    return arrow_schema(
        {name: ("question", "answer") if name == "qa" else kinds.get(name, "string") for name in names}
    )
