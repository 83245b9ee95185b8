"""Scenes as a data set on disk: tar shards or parquet files, the same bytes for the same settings.

Every shard is written under a temporary name and renamed, then `manifest.json` is brought up to date, so that a run
that was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_recipes.formats.shards import ParquetShard, ShardWriter, TarShard, arrow_schema, png
from data_recipes.scenes.card import dataset_card
from insightedit.console import MAX_RECORDS, MAX_SCENE_SEED, SCENE_SIDES
from insightedit.files import check_folder, write_atomically, write_text
from insightedit.scenes.assets import SPLITS, Assets
from insightedit.scenes.draws import RandomAccessSampler
from insightedit.scenes.sampler import EditSample, SceneSampler
from insightedit.scenes.subjects import SubjectEditSampler, SubjectSample, SubjectSampler

FORMATS = {"webdataset": "tar", "parquet": "parquet"}
SAMPLERS: dict[str, type[RandomAccessSampler]] = {
    "edits": SceneSampler,
    "subjects": SubjectSampler,
    "subject_edits": SubjectEditSampler,
}
MANIFEST = "manifest.json"
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
class Shard:
    """One file of the data set: its name, and the `count` samples from `start` on that it holds."""

    name: str
    start: int
    count: int


@dataclass(frozen=True)
class SceneDataSettings:
    """What a data set holds. The same settings give the same bytes.

    Attributes:
        split: train, val or test.
        count: pairs.
        size: side of the square pictures in pixels, 16 to 1024.
        seed: seed of the sampler, under 2**24.
        format: webdataset or parquet.
        shard_size: pairs a file.
        start_index: first index of the sampler, so that several machines can share one data set.
        task: edits, subjects (new pictures of subjects) or subject_edits (subjects put into scenes).

    Raises:
        ValueError: if a setting is out of range; all such faults are told at once.
    """

    split: str
    count: int
    size: int = 64
    seed: int = 0
    format: str = "webdataset"
    shard_size: int = 1000
    start_index: int = 0
    task: str = "edits"

    def __post_init__(self) -> None:
        chosen = (("split", SPLITS), ("format", FORMATS), ("task", SAMPLERS))
        faults = [
            f"{name} is {getattr(self, name)!r}: choose one of {', '.join(known)}"
            for name, known in chosen
            if getattr(self, name) not in known
        ]
        faults += [
            f"{name.replace('_', ' ')} is {getattr(self, name)}: choose {low} to {high}"
            for name, (low, high) in RANGES.items()
            if not low <= getattr(self, name) <= high
        ]
        if faults:
            raise ValueError("; ".join(faults) + ".")

    def sampler(self, assets: Assets) -> RandomAccessSampler:
        """Where the samples come from."""
        return SAMPLERS[self.task](self.split, self.size, self.seed, assets)

    def shards(self) -> tuple[Shard, ...]:
        """The files in order, named `train-00000-of-00010.tar` and so on."""
        number = -(-self.count // self.shard_size)
        ending, end = FORMATS[self.format], self.start_index + self.count
        starts = range(self.start_index, end, self.shard_size)
        return tuple(
            Shard(f"{self.split}-{i:05d}-of-{number:05d}.{ending}", start, min(self.shard_size, end - start))
            for i, start in enumerate(starts)
        )


def write_dataset(
    out: Path,
    settings: SceneDataSettings,
    *,
    assets: Assets | None = None,
    progress: Callable[[int], None] = lambda pairs: None,
) -> dict[str, Any]:
    """Write a data set with its manifest and card, or finish the one that the same settings began in `out`.

    Args:
        out: folder for the shards, `manifest.json` and `README.md`.
        settings: what to write.
        assets: sprites and photographs; the embedded ones by default.
        progress: told how many pairs have just been written, or found whole from an earlier run.

    Raises:
        ValueError: if `out` holds a data set of other settings, or other files.
        OSError: if `out` cannot be written.
    """
    assets = assets or Assets.embedded()
    manifest = open_manifest(out, {**asdict(settings), "assets": fingerprint(assets)})
    sampler = settings.sampler(assets)
    entries = {entry["name"]: entry for entry in manifest["shards"]}
    for shard in settings.shards():
        if shard.name in entries and is_whole(out / shard.name, entries[shard.name]):
            progress(shard.count)
            continue
        entries[shard.name] = write_shard(out, shard, sampler, settings, progress)
        manifest["shards"] = [entries[name] for name in sorted(entries)]
        write_manifest(out, manifest)
    for key in ("tasks", "categories"):
        total = sum((Counter(entry[key]) for entry in manifest["shards"]), Counter())
        manifest[key] = dict(sorted(total.items()))
    write_text(out / CARD, dataset_card(manifest, assets, COLUMNS[settings.task]), durable=True)
    manifest["complete"] = True
    write_manifest(out, manifest)
    return manifest


def open_manifest(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The manifest in `out`, or a new one in a new or empty folder.

    Raises:
        ValueError: if `out` is a file, or holds a data set of other settings, files but no manifest, or a broken one.
    """
    check_folder(out)
    path = out / MANIFEST
    if not path.is_file():
        if out.is_dir() and any(not name.name.startswith(".") for name in out.iterdir()):
            raise ValueError(f"{out} holds files but no {MANIFEST} of scenes: name a new or empty folder with --out.")
        out.mkdir(parents=True, exist_ok=True)
        manifest = {"name": "scenes", "settings": settings, "complete": False, "shards": []}
        write_manifest(out, manifest)
        return manifest
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        begun, _ = {"task": "edits", **manifest["settings"]}, manifest["shards"]  # older ones name no task
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path} is not a manifest of scenes: name a new or empty folder with --out.") from None
    differing = [key for key in settings if begun.get(key) != settings[key]]
    if differing:
        told = ", ".join(f"{key} {begun.get(key)} (now {settings[key]})" for key in differing)
        raise ValueError(f"{out} was begun with {told}: give the same settings to go on, or name another folder.")
    manifest["settings"] = settings
    return manifest


def fingerprint(assets: Assets) -> str:
    """What tells two packs apart: names, facts, splits and the bytes of all files."""
    digest = hashlib.sha256()
    for sprite in assets.sprites.values():
        digest.update(f"{sprite.name}|{sprite.group}|{sprite.fact}|".encode() + sprite.path.read_bytes())
    for photo in assets.photos:
        digest.update(f"{photo.name}|{photo.split}|".encode() + photo.path.read_bytes())
    return digest.hexdigest()[:16]


def is_whole(path: Path, entry: dict[str, Any]) -> bool:
    """Whether the file is there with the size and the digest that the manifest says."""
    if not path.is_file() or path.stat().st_size != entry["bytes"]:
        return False
    return sha256(path) == entry["sha256"]


def sha256(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_shard(
    out: Path, shard: Shard, sampler: RandomAccessSampler, settings: SceneDataSettings, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Render and write one file; its entry in the manifest."""
    tasks, categories, path = Counter[str](), Counter[str](), out / shard.name
    with write_atomically(path, durable=True) as aside, aside.open("wb") as file:
        in_tar = settings.format == "webdataset"
        writer: ShardWriter = TarShard(file) if in_tar else ParquetShard(file, parquet_schema(settings.task))
        with closing(writer):
            for index in range(shard.start, shard.start + shard.count):
                sample = sampler[index]
                writer.write(row_of(sample, settings))
                tasks[sample.task] += 1
                categories[sample.category] += 1
                progress(1)
    return {
        "name": shard.name, "start_index": shard.start, "count": shard.count, "bytes": path.stat().st_size,
        "sha256": sha256(path), "tasks": dict(sorted(tasks.items())), "categories": dict(sorted(categories.items())),
    }  # fmt: skip


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


def write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    """Replace `manifest.json` in one step."""
    write_text(out / MANIFEST, json.dumps(manifest, indent=1) + "\n", durable=True)
