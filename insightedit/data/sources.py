"""Where records come from. A source is a sequence: `len(source)` and `source[index] -> EditRecord`.

`scenes` renders on the fly and is endless; the others read what `python -m data_recipes...` and the published
data sets write, through the `datasets` library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.data.multi_prompt import MultiPromptSource
from insightedit.data.records import EditRecord, task_of
from insightedit.imaging import read_rgb

ENDLESS = 2**40  # scenes never repeat within a run
SOURCE_COLUMNS = ("source", "source_image", "source_img", "input_image", "original_image")
TARGET_COLUMNS = ("target", "target_image", "target_img", "edited_image", "output_image")
INSTRUCTION_COLUMNS = ("instruction", "edit_prompt", "edit", "prompt")
REFERENCE_COLUMNS = ("references", "reference_images")
EXPRESSIVE_COLUMNS = ("expressive", "expressive_instruction")
CAPTION_COLUMNS = ("caption", "text", "caption_target")
LOADERS = {"webdataset": "*.tar", "parquet": "*.parquet", "jsonl": "*.jsonl", "arrow": "*.arrow"}


class Source(Protocol):
    """A sequence of records."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> EditRecord: ...


class SceneSource:
    """Scenes rendered on the fly: record `index` is a pure function of (split, size, seed, style, index)."""

    def __init__(self, *, split: str, size: int, seed: int, style: str | None = None) -> None:
        from data_recipes.scenes import SceneSampler

        self.sampler = SceneSampler(split=split, size=size, seed=seed, style=style)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"scenes/{index}",
            instruction=sample.instruction,
            source_image=sample.source,
            target_image=sample.target,
        )


class SceneCaptionSource(SceneSource):
    """Text only: a caption of a scene, or an instruction, in turn. The picture is never used."""

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        texts = (
            sample.caption_source,
            sample.expressive_instruction,
            sample.caption_target,
            sample.instruction,
        )
        text = texts[index % len(texts)]
        return EditRecord(key=f"scene_captions/{index}", instruction=text, caption=text)


class SceneResolvedSource(SceneSource):
    """Picture and instruction, and as `caption` the instruction with every reference resolved, to align with."""

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"scene_resolved/{index}",
            instruction=sample.instruction,
            source_image=sample.source,
            target_image=sample.target,
            caption=sample.expressive_instruction,
        )


class SceneDescriptionSource(SceneSource):
    """Conversation: the assistant spells the instruction out before it draws (MGIE's expressive instruction).

    For stage 1 the words are the text to align with too.
    """

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"scene_descriptions/{index}",
            instruction=sample.instruction,
            source_image=sample.source,
            target_image=sample.target,
            reply=sample.expressive_instruction,
            caption=sample.expressive_instruction,
        )


class SceneFullDescriptionSource(SceneSource):
    """As `descriptions`, but the assistant tells at length: what is there, what to do, and what will be there.

    MGIE's answers before they are summarised.
    """

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        told = f"{sample.caption_source}, {sample.expressive_instruction}, {sample.caption_target}"
        return EditRecord(
            key=f"scene_full_descriptions/{index}",
            instruction=sample.instruction,
            source_image=sample.source,
            target_image=sample.target,
            reply=told,
            caption=sample.expressive_instruction,
        )


class SceneResolvedWordsSource(SceneSource):
    """Scenes told in one fixed form, every reference resolved: editing pairs without any wording of users."""

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"scene_resolved_words/{index}",
            instruction=sample.expressive_instruction,
            source_image=sample.source,
            target_image=sample.target,
        )


class SubjectSource:
    """New pictures of subjects that reference pictures show, rendered on the fly (MIGE's subject-driven generation)."""

    def __init__(self, *, split: str, size: int, seed: int) -> None:
        from data_recipes.scenes import SubjectSampler

        self.sampler = SubjectSampler(split=split, size=size, seed=seed)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"subjects/{index}",
            instruction=sample.instruction,
            target_image=sample.target,
            reference_images=sample.references,
            task="subject",
        )


class SubjectEditSource:
    """Scenes that a subject is put into, rendered on the fly (MIGE's subject addition and replacement, 1:1)."""

    def __init__(self, *, split: str, size: int, seed: int) -> None:
        from data_recipes.scenes import SubjectEditSampler

        self.sampler = SubjectEditSampler(split=split, size=size, seed=seed)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> EditRecord:
        sample = self.sampler[index]
        return EditRecord(
            key=f"subject_edits/{index}",
            instruction=sample.instruction,
            source_image=sample.source,
            target_image=sample.target,
            reference_images=sample.references,
            task="subject_editing",
        )


class TableSource:
    """Rows of a data set on disk, columns found by their published names.

    Pictures are columns of pictures or, in JSON lines, paths, relative to the folder of the file.

    Args:
        kind: webdataset, parquet, jsonl or arrow.
        path: file or folder.
        split: which files of the folder.
        expressive: take a column of expressive instructions as the assistant's words.
    """

    def __init__(self, *, kind: str, path: str, split: str, expressive: bool = False) -> None:
        self.expressive = expressive
        self.folder = _folder_of_pictures(kind, Path(path), split)
        # as Arrow, since `datasets` would decode pictures itself, in another way than the rest of the package
        self.table = _load_table(kind, Path(path), split).with_format("arrow")
        self.name = f"{kind}:{path}"
        names = self.table.column_names
        self.source = _find(SOURCE_COLUMNS, names)
        self.target = _find(TARGET_COLUMNS, names)
        self.references = _find(REFERENCE_COLUMNS, names)
        self.instruction = _find(INSTRUCTION_COLUMNS, names)
        self.caption = None if self.instruction else _find(CAPTION_COLUMNS, names)
        if self.instruction is None and self.caption is None and "json" not in names:
            raise ConfigError(
                f"{path} has the columns {names}, none of which holds a text: name one of them "
                f"{' or '.join(INSTRUCTION_COLUMNS[:2])}, or `caption` for a text-only source."
            )

    def __len__(self) -> int:
        return len(self.table)

    def row(self, index: int) -> dict[str, Any]:
        """A row as it is stored: pictures are their content, a path, or {bytes, path}."""
        row = self.table[index % len(self.table)].to_pylist()[0]
        return {**row, **(row.get("json") or {})}

    def __getitem__(self, index: int) -> EditRecord:
        row = self.row(index)
        instruction = row.get(self.instruction or "instruction") or row.get(self.caption or "caption")
        if isinstance(instruction, list):
            instruction = instruction[index % len(instruction)]
        key, source = f"{self.name}/{index}", _pixels(row.get(self.source or ""), self.folder)
        replies = (row.get(name) for name in EXPRESSIVE_COLUMNS) if self.expressive else ()
        references = _reference_images(key, row.get(self.references or ""), self.folder)
        return EditRecord(
            key=key,
            instruction=instruction,
            source_image=source,
            target_image=_pixels(row.get(self.target or ""), self.folder),
            reply=next((reply for reply in replies if reply), None),
            caption=instruction if self.caption else None,
            reference_images=references,
            task=task_of(source is not None, True) if references else "editing",
        )


def is_arrow(path: Path) -> bool:
    """Whether `save_to_disk` of the `datasets` library wrote this folder."""
    return any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _load_table(kind: str, path: Path, split: str) -> Any:
    """Files of one kind as one table, memory-mapped."""
    from datasets import DatasetDict, load_dataset, load_from_disk

    if kind != "arrow":
        loader = "json" if kind == "jsonl" else kind
        files = [str(file) for file in data_files(kind, path, split)]
        return load_dataset(loader, data_files=files, split="train")
    if not is_arrow(path):
        raise ConfigError(
            f"data.sources: {path} is no folder that `Dataset.save_to_disk` wrote: it has no state.json and no "
            "dataset_dict.json."
        )
    loaded = load_from_disk(str(path))
    if isinstance(loaded, DatasetDict) and split not in loaded:
        raise ConfigError(f"data.sources: {path} has the splits {', '.join(loaded)}, not `{split}`.")
    return loaded[split] if isinstance(loaded, DatasetDict) else loaded


def data_files(kind: str, path: Path, split: str) -> list[Path]:
    """The files of a split: `path/split/*.ext`, `path/*split*.ext`, else every file of the kind."""
    if path.is_file():
        return [path]
    pattern = LOADERS[kind]
    for files in (path.glob(f"{split}/{pattern}"), path.glob(f"*{split}*{pattern[1:]}"), path.glob(pattern)):
        found = sorted(files)
        if found:
            return found
    raise ConfigError(
        f"data.sources: {path} holds no {pattern} file: check the path, or write one with "
        f"`python -m data_recipes.scenes --out {path} --format {kind}`."
    )


def _find(candidates: tuple[str, ...], names: list[str]) -> str | None:
    for candidate in candidates:
        for name in (candidate, f"{candidate}.png", f"{candidate}.jpg"):
            if name in names:
                return name
    return None


def _folder_of_pictures(kind: str, path: Path, split: str) -> Path:
    """Where paths in a table start."""
    return data_files(kind, path, split)[0].parent if kind == "jsonl" else path


def _pixels(value: Any, folder: Path) -> np.ndarray | None:
    """A picture: its content, a path, or {bytes, path} as `datasets` stores it."""
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    return None if value is None else read_rgb(folder / value if isinstance(value, str) else value)


def _reference_images(key: str, value: Any, folder: Path) -> tuple[np.ndarray, ...]:
    """A list of pictures, or one picture of squares side by side, as tar files hold them."""
    if isinstance(value, list):
        return tuple(pixels for one in value if (pixels := _pixels(one, folder)) is not None)
    strip = _pixels(value, folder)
    if strip is None:
        return ()
    height, width = strip.shape[:2]
    if width % height:
        raise ValueError(
            f"{key} has references of {width} x {height} pixels: put squares side by side, or make it a list column."
        )
    return tuple(strip[:, left : left + height] for left in range(0, width, height))


SCENE_SOURCES: dict[str, Callable[..., Source]] = {
    "scenes": SceneSource,
    "captions": SceneCaptionSource,
    "resolved": SceneResolvedSource,
    "descriptions": SceneDescriptionSource,
    "full_descriptions": SceneFullDescriptionSource,
    "resolved_words": SceneResolvedWordsSource,
    "subjects": SubjectSource,
    "subject_edits": SubjectEditSource,
}


def build_source(
    config: SourceConfig, *, size: int, seed: int, expressive: bool = False, held_out: bool = False
) -> Source:
    """The source that one entry of `data.sources` names, without what it holds out (or that alone).

    Args:
        config: kind, path, split.
        size: pixels of the square pictures that scenes are rendered at.
        seed: seed of rendered sources.
        expressive: whether the model learns to write what will change; then rows with such a text teach it.
        held_out: give the records that `val_fraction` keeps from training.

    Raises:
        ConfigError: for an unknown kind, a missing path, a folder without matching files, or a style where there
            is none to choose.
    """
    if config.val_fraction > 0 or held_out:
        from insightedit.data.held_out import part_of

        whole = build_source(replace(config, val_fraction=0.0), size=size, seed=seed, expressive=expressive)
        if len(whole) == ENDLESS:
            raise ConfigError(
                f"data.sources: kind `{config.kind}` never ends, so no share of it can be held out: leave "
                "`val_fraction` out; rendered scenes have a split `val`."
            )
        return part_of(whole, config.val_fraction, held_out=held_out, name=str(config.path))
    if config.kind in SCENE_SOURCES and config.path is None:
        source = SCENE_SOURCES[config.kind]
        if config.style is None:
            return source(split=config.split, size=size, seed=seed)
        if isinstance(source, type) and issubclass(source, SceneSource):
            return source(split=config.split, size=size, seed=seed, style=config.style)
    if config.style is not None:
        raise ConfigError(
            f"data.sources: kind `{config.kind}` has no style `{config.style}` to choose: leave `style` out; rendered "
            "scenes have one (kind scenes)."
        )
    from insightedit.data.published import PUBLISHED  # which reads rows through TableSource

    if config.kind not in {*LOADERS, *PUBLISHED, "mige"}:
        known = ", ".join([*SCENE_SOURCES, *LOADERS, *PUBLISHED, "mige", "mixture"])
        raise ConfigError(
            f"data.sources: unknown kind `{config.kind}` with path {config.path}; known kinds: {known}."
        )
    if config.path is None:
        raise ConfigError(f"data.sources: kind `{config.kind}` reads files: give its `path`.")
    if config.kind == "mige":
        return MultiPromptSource(path=config.path, images=config.images)
    if config.kind in PUBLISHED:
        return PUBLISHED[config.kind](config)
    return TableSource(kind=config.kind, path=config.path, split=config.split, expressive=expressive)
