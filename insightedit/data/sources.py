"""Where records come from. A source is a sequence: `len(source)` and `source[index] -> EditRecord`.

`scenes` renders on the fly and is endless; the others read what `python -m data_recipes...` and the published
data sets write, through the `datasets` library.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.data.records import EditRecord

ENDLESS = 2**40  # scenes never repeat within a run
SOURCE_COLUMNS = ("source", "source_image", "source_img", "input_image", "original_image")
TARGET_COLUMNS = ("target", "target_image", "target_img", "edited_image", "output_image")
INSTRUCTION_COLUMNS = ("instruction", "edit_prompt", "edit", "prompt")
CAPTION_COLUMNS = ("caption", "text", "caption_target")
LOADERS = {"webdataset": "*.tar", "parquet": "*.parquet", "jsonl": "*.jsonl"}


class Source(Protocol):
    """A sequence of records."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> EditRecord: ...


class SceneSource:
    """Scenes rendered on the fly: record `index` is a pure function of (split, size, seed, index)."""

    def __init__(self, *, split: str, size: int, seed: int) -> None:
        from data_recipes.scenes import SceneSampler

        self.sampler = SceneSampler(split=split, size=size, seed=seed)

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


class TableSource:
    """Rows of a data set on disk, columns found by their published names."""

    def __init__(self, *, kind: str, path: str, split: str) -> None:
        from datasets import load_dataset

        files = _data_files(kind, Path(path), split)
        loader = "json" if kind == "jsonl" else kind
        self.table = load_dataset(loader, data_files=[str(f) for f in files], split="train")
        self.name = f"{kind}:{path}"
        names = self.table.column_names
        self.source = _find(SOURCE_COLUMNS, names)
        self.target = _find(TARGET_COLUMNS, names)
        self.instruction = _find(INSTRUCTION_COLUMNS, names)
        self.caption = None if self.instruction else _find(CAPTION_COLUMNS, names)
        if self.instruction is None and self.caption is None and "json" not in names:
            raise ConfigError(
                f"{path} has the columns {names}, none of which holds a text: name one of them "
                f"{' or '.join(INSTRUCTION_COLUMNS[:2])}, or `caption` for a text-only source."
            )

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> EditRecord:
        row = self.table[index % len(self.table)]
        row = {**row, **(row.get("json") or {})}
        instruction = row.get(self.instruction or "instruction") or row.get(self.caption or "caption")
        if isinstance(instruction, list):
            instruction = instruction[index % len(instruction)]
        return EditRecord(
            key=f"{self.name}/{index}",
            instruction=instruction,
            source_image=_pixels(row.get(self.source or "")),
            target_image=_pixels(row.get(self.target or "")),
            caption=instruction if self.caption else None,
        )


def _data_files(kind: str, path: Path, split: str) -> list[Path]:
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


def _pixels(value: object) -> np.ndarray | None:
    return None if value is None else np.asarray(value.convert("RGB"))  # type: ignore[attr-defined]


SCENE_SOURCES: dict[str, Callable[..., Source]] = {
    "scenes": SceneSource,
    "captions": SceneCaptionSource,
    "resolved": SceneResolvedSource,
    "descriptions": SceneDescriptionSource,
}


def build_source(config: SourceConfig, *, size: int, seed: int) -> Source:
    """The source that one entry of `data.sources` names.

    Args:
        config: kind, path, split.
        size: pixels of the square pictures that scenes are rendered at.
        seed: seed of rendered sources.

    Raises:
        ConfigError: for an unknown kind, a missing path, or a folder without matching files.
    """
    if config.kind in SCENE_SOURCES and config.path is None:
        return SCENE_SOURCES[config.kind](split=config.split, size=size, seed=seed)
    if config.kind not in LOADERS:
        known = ", ".join([*SCENE_SOURCES, *LOADERS])
        raise ConfigError(
            f"data.sources: unknown kind `{config.kind}` with path {config.path}; known kinds: {known}."
        )
    if config.path is None:
        raise ConfigError(f"data.sources: kind `{config.kind}` reads files: give its `path`.")
    return TableSource(kind=config.kind, path=config.path, split=config.split)
