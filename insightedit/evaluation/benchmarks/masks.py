"""Masks in other forms than white on black, written once as such beside the benchmark."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from insightedit.evaluation.benchmarks.reading import Notes
from insightedit.files import write_bytes
from insightedit.images.reading import PictureError, open_picture, read_region

FOLDER = Path("unpacked") / "masks"


def white_mask(notes: Notes, path: Path, name: str) -> Path | None:
    """A mask in which white is to be edited, also where the published one is a picture with a hole.

    One without transparency is given back as it is, and one that cannot be read (what checks pictures says so).
    Another is written as `name`; None with a warning noted if that cannot be.
    """
    try:
        with open_picture(path) as picture:
            if not picture.has_transparency_data:
                return path
        into = notes.folder / FOLDER / f"{name}.png"
        if into.is_file() and into.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            return into
        region = read_region(path)
    except (OSError, PictureError):
        return path
    return write_mask(notes, region, name)


def write_mask(notes: Notes, region: np.ndarray, name: str) -> Path | None:
    """Write an (H, W) region, uint8 (255 = to be edited) or bool, as grey PNG below `unpacked/masks/`.

    Gives the path; None with a warning noted if it cannot be written.
    """
    into = notes.folder / FOLDER / f"{name}.png"
    values = region.astype(np.uint8) * 255 if region.dtype == np.bool_ else region
    packed = io.BytesIO()
    Image.fromarray(values).save(packed, format="PNG", compress_level=1)
    try:
        if into.is_file() and into.read_bytes() == packed.getvalue():
            return into
        into.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(into, packed.getvalue())
    except OSError as error:
        notes.warn(
            f"Masks are left out: {notes.short(into.parent)} cannot be written ({error.strerror or error}).",
            differs=True,
        )
        return None
    return into
