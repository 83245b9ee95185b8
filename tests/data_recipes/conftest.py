"""A small made-up pack, and samples that several tests look at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from insightedit.scenes import EditSample, SceneSampler

SPLITS = ("train", "val", "test")
COUNT = 600


@pytest.fixture(scope="session")
def samples() -> dict[str, list[EditSample]]:
    """The first samples of each split; pictures are small, and drawn when asked for."""
    return {split: [SceneSampler(split, 32)[i] for i in range(COUNT)] for split in SPLITS}


@pytest.fixture(scope="session")
def plain_samples() -> dict[str, list[EditSample]]:
    """The same in the few wordings of strict readers."""
    return {split: [SceneSampler(split, 32, plain=True)[i] for i in range(COUNT)] for split in SPLITS}


def pack_entries() -> list[dict]:
    sprites = [{"file": f"{n}.png", "kind": "sprite", "name": n} for n in "abcdefghij"]
    return sprites + [{"file": f"{n}.png", "kind": "photo", "name": n} for n in "vwxyz"]


def write_pack(folder: Path, entries: list[dict]) -> Path:
    """Discs on stripes, one hue each, with `metadata.jsonl`."""
    folder.mkdir(exist_ok=True)
    for number, entry in enumerate(pack_entries()):
        rows, columns = np.mgrid[:24, :24]
        hue = np.array([number * 53 % 256, number * 97 % 256, number * 31 % 256])
        pixels = np.broadcast_to(hue, (24, 24, 3)).astype(np.uint8)
        if entry["kind"] == "sprite":
            disc = ((rows - 12) ** 2 + (columns - 12) ** 2 < 121)[..., None] * 255
            pixels = np.concatenate([pixels, disc.astype(np.uint8)], axis=-1)
        Image.fromarray(pixels).save(folder / entry["file"])
    text = "\n".join(json.dumps(entry) for entry in entries)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return write_pack(tmp_path / "pack", pack_entries())
