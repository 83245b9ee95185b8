"""Pixels of the packaged default and of a miniature MIGE, as they were when these were written.

Other processors and library versions round otherwise, in the last bits of float32; a picture's means over 8 x 8 blocks
then move by far less than one of 255 levels, while a changed formula, prompt or seed moves them by many. So the means
are compared, within one level. After a wanted change: `python -m tests.pipeline.test_pixels` writes them anew.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from insightedit.config import load_config
from insightedit.model.build import build_editor
from insightedit.pipelines.compose import pipeline_from_editor
from insightedit.pipelines.loading import load_pipeline

PINNED = Path(__file__).parents[1] / "data" / "pixels.npz"
SAMPLE = Path(__file__).parents[2] / "docs" / "assets" / "sample.png"
DEFAULT_EDITS = {
    "remove": ("remove the fish", 0),
    "smaller": ("make the ladybug smaller", 1),
    "colour": ("make the fish blue", 2),
    "background": ("make the background darker", 3),
}
LEVEL = 1.0
BLOCKS = 8  # along one side


def blocks(picture: np.ndarray) -> np.ndarray:
    """(BLOCKS, BLOCKS, 3) means of a picture of any size, in 0 to 255."""
    image = Image.fromarray(np.rint(picture * 255).astype(np.uint8))
    return np.asarray(image.resize((BLOCKS, BLOCKS), Image.Resampling.BOX), dtype=np.float32)


def draw_default() -> dict[str, np.ndarray]:
    """The default's edits of the sample, without the lock, so that every pixel is the model's."""
    pipe = load_pipeline(device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return {
        name: blocks(pipe(SAMPLE, words, seed=seed, background_lock=False, output_type="np").images[0])
        for name, (words, seed) in DEFAULT_EDITS.items()
    }


def draw_mige() -> dict[str, np.ndarray]:
    """An edit and a new picture of the untrained miniature, whose zero layers are filled."""
    config = load_config("mige", 3, ["tiny"])
    torch.manual_seed(0)
    editor = build_editor(config)
    torch.manual_seed(0)
    with torch.no_grad():
        editor.bridge.fusion.out.weight.normal_(std=0.5)
        editor.transformer.pos_embed.proj.weight[:, 4:].normal_(std=0.2)
    pipe = pipeline_from_editor(editor, config)
    pipe.set_progress_bar_config(disable=True)
    y, x = np.mgrid[:32, :32]
    photo = np.stack([8 * x, 8 * y, 4 * (x + y)], axis=-1).astype(np.uint8)
    options = {"reference_images": [photo[::-1].copy()], "seed": 4, "output_type": "np"}
    edited = pipe(photo, "add <imagehere> here", background_lock=False, **options)
    drawn = pipe(instruction="draw <imagehere>", **options)
    return {"mige-edit": blocks(edited.images[0]), "mige-new": blocks(drawn.images[0])}


@pytest.mark.parametrize("draw", [draw_default, draw_mige])
def test_pixels_are_those_of_before(draw):
    pinned = np.load(PINNED)
    for name, found in draw().items():
        assert np.abs(found - pinned[name]).max() <= LEVEL, name


def test_the_pins_tell_edits_apart():
    pinned = dict(np.load(PINNED))
    assert len(pinned) == len(DEFAULT_EDITS) + 2
    names = sorted(pinned)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            assert np.abs(pinned[name] - pinned[other]).max() > 4 * LEVEL, (name, other)


if __name__ == "__main__":
    torch.set_num_threads(1)
    PINNED.parent.mkdir(exist_ok=True)
    np.savez_compressed(PINNED, **draw_default(), **draw_mige())
