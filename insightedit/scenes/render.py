"""Scene -> pixels, with integers only, so that the same scene gives the same bytes on every machine."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from insightedit.scenes.assets import Assets, load_photo, load_sprite
from insightedit.scenes.scene import COLOURS, Background, Scene, SceneObject

MIRROR_LEFT = 660  # thousandths: the mirror covers the picture's right third
FRAME = (120, 80, 45)


class Renderer:
    """Renders scenes of one world as squares of `size` pixels.

    Raises:
        ValueError: if `size` is under 16 pixels, where sprites can no longer be told apart.
    """

    def __init__(self, assets: Assets, size: int) -> None:
        if size < 16:
            raise ValueError(f"size is {size} px, scenes need at least 16 px: choose 64 or 128.")
        self.assets, self.size = assets, size
        self.photos = {p.name: p for p in assets.photos}
        self.sprite = lru_cache(maxsize=4096)(self._sprite)

    def render(self, scene: Scene) -> np.ndarray:
        """(size, size, 3) uint8 RGB."""
        canvas = self.background(scene.background)
        if scene.mirror:
            draw_mirror(canvas)
        for thing in scene.objects:
            self.paste(canvas, thing)
        return canvas if scene.photometric is None else photometric(canvas, scene.photometric)

    def background(self, background: Background) -> np.ndarray:
        """A fresh (size, size, 3) uint8 crop of the photograph, perhaps with another one shining through."""
        pixels = self._crop(background.photo, background)
        if background.veil is not None:
            veil, share = self._crop(background.veil, background), background.veil_share
            mixed = pixels.astype(np.uint32) * (1000 - share) + veil.astype(np.uint32) * share
            pixels = ((mixed + 500) // 1000).astype(np.uint8)
        pixels = pixels[:, ::-1] if background.flip else pixels
        return np.ascontiguousarray(pixels[..., background.channels])

    def _crop(self, name: str, background: Background) -> np.ndarray:
        """(size, size, 3) uint8."""
        photo = load_photo(self.photos[name].path)
        side = min(photo.size) * background.side // 1000
        left = (photo.width - side) * background.left // 1000
        top = (photo.height - side) * background.top // 1000
        crop = photo.resize((self.size, self.size), Image.Resampling.BOX, (left, top, left + side, top + side))
        return np.array(crop)

    def paste(self, canvas: np.ndarray, thing: SceneObject) -> None:
        """Draw one sprite over `canvas`, in place, cut off at the borders."""
        rgb, alpha = self.sprite(thing.name, max(3, thing.height * self.size // 1000), thing.flip, thing.colour)
        h, w = alpha.shape[:2]
        top, left = thing.y * self.size // 1000 - h // 2, thing.x * self.size // 1000 - w // 2
        y0, x0 = max(0, top), max(0, left)
        y1, x1 = min(self.size, top + h), min(self.size, left + w)
        if y1 <= y0 or x1 <= x0:
            return
        piece = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        below = canvas[y0:y1, x0:x1].astype(np.uint32)
        canvas[y0:y1, x0:x1] = (below * (255 - alpha[piece]) + rgb[piece] * alpha[piece] + 127) // 255

    def _sprite(self, name: str, height: int, flip: bool, colour: str | None) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) and (h, w, 1) uint32, resized with premultiplied alpha, tinted."""
        picture = load_sprite(self.assets.sprites[name].path)
        width = max(3, picture.width * height // picture.height)
        width, height = (self.size * 42 // 100, height) if width > self.size * 42 // 100 else (width, height)
        pixels = np.array(picture.convert("RGBa").resize((width, height), Image.Resampling.BOX).convert("RGBA"))
        pixels = pixels[:, ::-1] if flip else pixels
        rgb, alpha = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
        return (tint(rgb, colour) if colour else rgb), alpha


def tint(rgb: np.ndarray, colour: str) -> np.ndarray:
    """Keep the sprite's light and shade, take the hue of `colour`; (h, w, 3) uint32 in [0, 255]."""
    light = (rgb[..., 0] * 299 + rgb[..., 1] * 587 + rgb[..., 2] * 114) // 1000
    shade = 90 + light * 165 // 255  # dark parts stay visible
    return np.minimum(255, np.array(COLOURS[colour], dtype=np.uint32) * shade[..., None] // 215)


def draw_mirror(canvas: np.ndarray) -> None:
    """A framed glass over the right third: the room's left third, flipped and paler."""
    size = canvas.shape[0]
    left, frame = MIRROR_LEFT * size // 1000, max(1, size // 48)
    reflected = canvas[:, : size - left][:, ::-1].astype(np.uint32)
    canvas[:, left:] = (reflected * 6 + np.array([205, 215, 225], dtype=np.uint32) * 4) // 10
    for rows, columns in (
        (slice(0, frame), slice(left, size)),
        (slice(size - frame, size), slice(left, size)),
        (slice(0, size), slice(left, left + frame)),
        (slice(0, size), slice(size - frame, size)),
    ):
        canvas[rows, columns] = FRAME


def photometric(canvas: np.ndarray, operation: str) -> np.ndarray:
    """One of the global edits (MGIE's), (H, W, 3) uint8 -> the same."""
    x = canvas.astype(np.int32)
    if operation == "blurry":
        return _blur(canvas)
    if operation in ("black and white", "sepia"):
        light = (x[..., 0] * 299 + x[..., 1] * 587 + x[..., 2] * 114) // 1000
        scale = (1000, 1000, 1000) if operation == "black and white" else (1080, 860, 620)
        return np.clip(light[..., None] * np.array(scale) // 1000, 0, 255).astype(np.uint8)
    scale, offset = {
        "brighter": ((1250,) * 3, (30,) * 3),
        "darker": ((550,) * 3, (0,) * 3),
        "warmer": ((1150, 1000, 720), (15, 0, 0)),
        "cooler": ((720, 960, 1150), (0, 0, 20)),
        "more contrast": ((1600,) * 3, (-77,) * 3),
        "less contrast": ((450,) * 3, (70,) * 3),
        "inverted": ((-1000,) * 3, (255,) * 3),
    }[operation]
    return np.clip(x * np.array(scale) // 1000 + np.array(offset), 0, 255).astype(np.uint8)


def _blur(canvas: np.ndarray) -> np.ndarray:
    """Box blur, a sixteenth of the side wide, by running sums."""
    radius = max(1, canvas.shape[0] // 32)
    out = canvas.astype(np.int64)
    for axis in (0, 1):
        padding = [(0, 0)] * 3
        padding[axis] = (radius + 1, radius)
        sums = np.cumsum(np.pad(out, padding, mode="edge"), axis=axis)
        width, length = 2 * radius + 1, canvas.shape[axis]
        out = (np.take(sums, range(width, width + length), axis) - np.take(sums, range(length), axis)) // width
    return out.astype(np.uint8)
