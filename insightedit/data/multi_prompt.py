"""MIGE's published annotations: one JSON list of prompts in which pictures stand.

Each entry has `image` (the wanted picture), `multi_prompt` (words with one `<imagehere>` per entry of `entity_path`,
in order), `entity_path` and `source_path` (lists of pictures; no source where the picture is drawn from blank), `width`
and `height`. The source stands among the entities too, for instance in "add <imagehere> to <imagehere>".

Source: the files of MIGE's training data and of MIGEBench.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from insightedit.config.load import ConfigError
from insightedit.data.records import REFERENCE_PLACEHOLDER, EditRecord, task_of
from insightedit.imaging import read_rgb

SOURCE_WORDS = (
    "the picture"  # in place of the source's own mark: a reader of such records marks the source itself
)


class MultiPromptSource:
    """Records of a JSON file; which task each is follows from the pictures that it has, never from their names.

    Args:
        path: the JSON file.
        images: folder that the file's paths start from; None for the file's own.

    Raises:
        ConfigError: if the file is missing or holds no list of entries.
    """

    def __init__(self, *, path: str, images: str | None = None) -> None:
        self.path = Path(path)
        self.images = self.path.parent if images is None else Path(images)
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"data.sources: cannot read {path} ({error}): kind `mige` reads one JSON list of entries with "
                "multi_prompt, image, entity_path and source_path."
            ) from None
        if not isinstance(entries, list) or not entries:
            raise ConfigError(
                f"data.sources: {path} holds no list of entries: kind `mige` reads a JSON list, as MIGE publishes it."
            )
        self.entries: list[Any] = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> EditRecord:
        """Record `index`.

        Raises:
            ValueError: if a key is missing, or pictures and marks differ in number.
            OSError: if a picture cannot be read.
        """
        number = index % len(self.entries)
        key, entry = f"{self.path.name}/{number}", self.entries[number]
        if not isinstance(entry, dict) or not all(entry.get(name) for name in ("image", "multi_prompt")):
            raise ValueError(f"{key} needs `image` and `multi_prompt`: complete the entry or drop it.")
        sources, entities = _paths(entry.get("source_path")), _paths(entry.get("entity_path"))
        if len(sources) > 1:
            raise ValueError(f"{key} has {len(sources)} pictures in `source_path`: an edit has one, or none.")
        texts = str(entry["multi_prompt"]).split(REFERENCE_PLACEHOLDER)
        if len(texts) - 1 != len(entities):
            raise ValueError(
                f"{key} has {len(texts) - 1} {REFERENCE_PLACEHOLDER} for {len(entities)} pictures in `entity_path`: "
                "there has to be one for each."
            )
        references = [path for path in entities if path not in sources]
        marks = [SOURCE_WORDS if path in sources else REFERENCE_PLACEHOLDER for path in entities]
        return EditRecord(
            key=key,
            instruction=texts[0] + "".join(m + t for m, t in zip(marks, texts[1:], strict=True)),
            source_image=self._pixels(sources[0]) if sources else None,
            target_image=self._pixels(entry["image"]),
            reference_images=tuple(self._pixels(path) for path in references),
            task=task_of(bool(sources), bool(references)),
        )

    def _pixels(self, path: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_rgb(self.images / path)


def _paths(value: object) -> list[str]:
    """One path, several or none."""
    if isinstance(value, str):
        return [value] if value else []
    return [str(path) for path in value] if isinstance(value, list) else []
