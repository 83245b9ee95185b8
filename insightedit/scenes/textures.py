"""Grounds that no photograph shows: stripes, clouds, wood ... Integers only, equal at every size and on any machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from insightedit.scenes.scene import Texture

WAYS = ((1000, 0), (924, 383), (707, 707), (383, 924), (0, 1000), (-383, 924), (-707, 707), (-924, 383))  # thousandths
FAR = 707  # thousandths of the side from the middle to a corner


def draw_texture(texture: Texture, size: int) -> np.ndarray:
    """A fresh (size, size, 3) uint8 picture."""
    share = TEXTURES[texture.kind](texture, size)  # (size, size), 0 for the first colour to 255 for the last
    return _ramp(texture.colours)[np.clip(share, 0, 255)]


def _ramp(colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """(256, 3) uint8: from the first colour to the last in straight lines."""
    steps = np.arange(256)[:, None] * (len(colours) - 1)
    before = np.minimum(steps // 255, max(0, len(colours) - 2))
    table, part = np.array(colours), steps - 255 * before
    after = np.minimum(before + 1, len(colours) - 1)
    return ((table[before[:, 0]] * (255 - part) + table[after[:, 0]] * part + 127) // 255).astype(np.uint8)


def _axes(texture: Texture, size: int) -> tuple[np.ndarray, np.ndarray]:
    """How far each pixel is from the middle along the texture's way and across it, thousandths of the side."""
    places = (2 * np.arange(size, dtype=np.int32) + 1) * 500 // size - 500
    x, y = places, places[:, None]
    dx, dy = WAYS[texture.way]
    return (x * dx + y * dy) // 1000, (y * dx - x * dy) // 1000


def _noise(texture: Texture, size: int, columns: int, rows: int) -> np.ndarray:
    """(size, size) int32 in 0..255: random lattice points with smooth hills between them."""
    bits = np.random.Philox(key=np.array([texture.seed, columns << 32 | rows], dtype=np.uint64))
    lattice = np.random.Generator(bits).integers(0, 256, (rows, columns), dtype=np.uint8)
    return np.array(Image.fromarray(lattice).resize((size, size), Image.Resampling.BICUBIC)).astype(np.int32)


def _plain(texture: Texture, size: int) -> np.ndarray:
    return np.zeros((size, size), dtype=np.int32)


def _gradient(texture: Texture, size: int) -> np.ndarray:
    return (_axes(texture, size)[0] + FAR) * 255 // (2 * FAR)


def _glow(texture: Texture, size: int) -> np.ndarray:
    """Rings of light around a place of its own."""
    along, across = _axes(texture, size)
    x, y = texture.seed % 600 - 300, texture.seed // 600 % 600 - 300
    return ((along - x) ** 2 + (across - y) ** 2) * 255 // 800**2


def _stripes(texture: Texture, size: int) -> np.ndarray:
    return _axes(texture, size)[0] * 2 // texture.period % 2 * 255


def _checks(texture: Texture, size: int) -> np.ndarray:
    along, across = (axis * 2 // texture.period for axis in _axes(texture, size))
    return (along + across) % 2 * 255


def _dots(texture: Texture, size: int) -> np.ndarray:
    period = texture.period
    along, across = (axis % period - period // 2 for axis in _axes(texture, size))
    return np.where(along**2 + across**2 < (period * 3 // 10) ** 2, 255, 0)


def _clouds(texture: Texture, size: int) -> np.ndarray:
    """Three octaves, each half as strong as the one before; contrast doubled."""
    cells = max(2, 1000 // texture.period)
    low, middle, high = (_noise(texture, size, cells << n, cells << n) for n in range(3))
    return (low * 4 + middle * 2 + high) * 2 // 7 - 128


def _blobs(texture: Texture, size: int) -> np.ndarray:
    cells = max(3, 1000 // texture.period)
    return _noise(texture, size, cells, cells) // 86 * 127


def _sand(texture: Texture, size: int) -> np.ndarray:
    return (_noise(texture, size, 90, 90) + _noise(texture, size, 4, 4)) // 2


def _wood(texture: Texture, size: int) -> np.ndarray:
    """Rings, bent by broad waves, with a fine grain along them."""
    cells = max(3, 1000 // texture.period)
    rings = (_noise(texture, size, 2, cells) * 5 + _noise(texture, size, 3, 2)) % 256
    grain = (np.abs(rings - 128) * 2 * 2 + _noise(texture, size, 5, 90)) // 3
    return grain if texture.way % 2 else grain.T


def _horizon(texture: Texture, size: int) -> np.ndarray:
    """Something like a sky above something like a ground."""
    line, y = size * (350 + texture.seed % 400) // 1000, np.arange(size)[:, None]
    return np.where(y < line, y * 100 // line, 150 + _noise(texture, size, 24, 24) * 100 // 255)


TEXTURES: dict[str, Callable[[Texture, int], np.ndarray]] = {
    "plain": _plain, "gradient": _gradient, "glow": _glow, "stripes": _stripes, "checks": _checks, "dots": _dots,
    "clouds": _clouds, "blobs": _blobs, "sand": _sand, "wood": _wood, "horizon": _horizon,
}  # fmt: skip
