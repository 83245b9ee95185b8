"""Whole-picture operations as people ask photographers for them, with degrees: `slightly warmer`, `much warmer`.

A phrase reads well after "make the whole picture"; it is the one name of its operation everywhere: in scenes, in what
models say, in evaluations. All of it is integers, so that every machine gives the same bytes; radii are shares of the
longer side, so that a small and a large copy of a photograph look alike afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise

import numpy as np

MORE = ("slightly", "", "much")  # degrees of comparatives; "" is the plain one
VERY = ("slightly", "", "very")  # of adjectives
PLAIN = ("",)

# What an operation does to each channel at its plain degree: factors in thousandths, then what is added.
AFFINE: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "brighter": ((1250,) * 3, (30,) * 3),
    "darker": ((550,) * 3, (0,) * 3),
    "warmer": ((1150, 1000, 720), (15, 0, 0)),
    "cooler": ((720, 960, 1150), (0, 0, 20)),
    "higher in contrast": ((1600,) * 3, (-77,) * 3),
    "lower in contrast": ((450,) * 3, (70,) * 3),
    "more red": ((1000, 620, 600), (40, 0, 0)),
    "more orange": ((1080, 800, 400), (35, 12, 0)),
    "more yellow": ((1080, 1050, 420), (20, 20, 0)),
    "more green": ((620, 1020, 600), (0, 30, 0)),
    "more blue": ((560, 640, 1050), (0, 0, 40)),
    "more purple": ((850, 540, 1000), (20, 0, 45)),
    "more pink": ((1000, 680, 860), (55, 10, 45)),
    "more teal": ((480, 920, 900), (0, 25, 30)),
}
WEAKER = (450, 1000, 1400)  # thousandths of the way from no change that a degree goes
SATURATION = {"more colourful": (1450, 1900, 2700), "less colourful": (650, 450, 280)}  # thousandths kept of colour
FADED = (500, 1000, 1400)  # thousandths of the way to lifted blacks and pale colours
SHADOWS = (900, 1600, 2300)  # how much is added, thousandths of t (1 - t)^3
HIGHLIGHTS = (170, 260, 330)  # how much is taken, thousandths of t^3
EDGES = (400, 700, 950)  # share of the light that the corners lose, thousandths
BLUR = (64, 32, 16)  # the longer side over these is the radius
SHARPEN = (800, 1600, 3200)  # how much of the difference to the blurred picture is added, thousandths
BLOCKS = (32, 20, 10)  # how many there are along the longer side
FINE, GLOW = 160, 24  # radii of sharpening and of the dreamy glow, as `BLUR`
PIXELS_AT_ONCE = 1 << 20  # of a strip: bounds the memory that wide numbers take

OPERATIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(AFFINE, MORE), **dict.fromkeys(SATURATION, MORE),
    "black and white": PLAIN, "sepia": PLAIN, "duotone": PLAIN, "vintage": PLAIN, "cinematic": PLAIN,
    "dreamy": PLAIN, "inverted": PLAIN, "solarised": PLAIN, "posterised": PLAIN, "faded": VERY,
    "brighter in the shadows": MORE, "darker in the highlights": MORE, "darker at the edges": MORE,
    "blurry": VERY, "sharper": MORE, "pixelated": VERY,
}  # fmt: skip


def _phrase(operation: str, degree: str) -> str:
    return f"{degree} {operation}".lstrip()


_MEANINGS = {
    _phrase(operation, degree): (operation, number if len(degrees) > 1 else 1)
    for operation, degrees in OPERATIONS.items()
    for number, degree in enumerate(degrees)
}
TONES: tuple[str, ...] = tuple(_MEANINGS)
# Those of which a pixel's new colour does not follow from its old one alone: neighbours or the place count too.
LOCAL_TONES: tuple[str, ...] = tuple(
    phrase
    for phrase, (operation, _) in _MEANINGS.items()
    if operation in ("blurry", "sharper", "pixelated", "dreamy", "vintage", "darker at the edges")
)
Step = Callable[[np.ndarray], np.ndarray]


def apply_tone(pixels: np.ndarray, phrase: str) -> np.ndarray:
    """A picture after a whole-picture operation.

    Args:
        pixels: (H, W, 3) uint8 RGB of any size; stays as it is.
        phrase: One of `TONES`.

    Returns:
        (H, W, 3) uint8, a fresh array; the same bytes on every machine.

    Raises:
        ValueError: For another phrase, or pixels of another kind.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"apply_tone got {pixels.dtype} pixels of shape {pixels.shape}: it needs (height, width, 3) uint8 RGB."
        )
    for step in _steps(phrase):
        pixels = step(pixels)
    return pixels


def operation_of(phrase: str) -> str:
    """The operation of a phrase without its degree: `warmer` for `much warmer`; ValueError for no phrase of `TONES`."""
    return _meaning(phrase)[0]


def _meaning(phrase: str) -> tuple[str, int]:
    if phrase not in _MEANINGS:
        raise ValueError(
            f"unknown tone {phrase!r}: choose one of {', '.join(OPERATIONS)}, some with slightly, much or very before "
            "them (insightedit.images.tones.TONES has all)."
        )
    return _MEANINGS[phrase]


@cache
def _steps(phrase: str) -> tuple[Step, ...]:
    """What a phrase does, one after the other; each takes and gives (H, W, 3) uint8, never in place."""
    operation, degree = _meaning(phrase)
    if operation in AFFINE:
        scale, offset = AFFINE[operation]
        share = WEAKER[degree]
        part = [((1000 + (s - 1000) * share // 1000), o * share // 1000) for s, o in zip(scale, offset, strict=True)]
        return (_affine(*part),)
    if operation in SATURATION:
        return (partial(_saturated, share=SATURATION[operation][degree]),)
    if operation == "faded":
        share = FADED[degree]
        part = [(1000 - 330 * share // 1000, lift * share // 1000) for lift in (58, 56, 68)]
        return partial(_saturated, share=1000 - 400 * share // 1000), _affine(*part)
    fixed: dict[str, Callable[[], tuple[Step, ...]]] = {
        "black and white": lambda: (_grey,),
        "sepia": lambda: (_grey, _affine((1080, 0), (860, 0), (620, 0))),
        "duotone": lambda: (_grey, _affine((784, 55), (800, 15), (60, 105))),
        "vintage": lambda: (
            partial(_saturated, share=650), _affine((860, 38), (820, 28), (560, 48)), partial(_edges, loss=550),
        ),
        "cinematic": lambda: (_affine((1300, -38), (1060, -10), (760, 24)), _curve(_s_shaped)),
        "dreamy": lambda: (_glowing,),
        "inverted": lambda: (_affine(*[(-1000, 255)] * 3),),
        "solarised": lambda: (_curve(lambda x: x if x < 128 else 255 - x),),
        "posterised": lambda: (_curve(lambda x: x // 64 * 85),),
        "brighter in the shadows": lambda: (
            _curve(lambda x: x + SHADOWS[degree] * x * (255 - x) ** 3 // (1000 * 255**3)),
        ),
        "darker in the highlights": lambda: (_curve(lambda x: x - HIGHLIGHTS[degree] * x**3 // (1000 * 255**2)),),
        "darker at the edges": lambda: (partial(_edges, loss=EDGES[degree]),),
        "blurry": lambda: (partial(_blurred, part=BLUR[degree]),),
        "sharper": lambda: (partial(_sharpened, share=SHARPEN[degree]),),
        "pixelated": lambda: (partial(_blocks, part=BLOCKS[degree]),),
    }  # fmt: skip
    return fixed[operation]()


def _affine(*channels: tuple[int, int]) -> Step:
    """Each channel times a factor in thousandths, plus what is added; cut off at 0 and 255."""
    return _curves([[x * scale // 1000 + offset for x in range(256)] for scale, offset in channels])


def _curve(value: Callable[[int], int]) -> Step:
    """The same curve for all channels."""
    return _curves([[value(x) for x in range(256)]] * 3)


def _curves(tables: list[list[int]]) -> Step:
    """One table of 256 values for each channel."""
    red, green, blue = np.clip(tables, 0, 255).astype(np.uint8)
    return lambda x: np.stack([red[x[..., 0]], green[x[..., 1]], blue[x[..., 2]]], axis=-1)


def _s_shaped(x: int) -> int:
    """A gentle S: the mean of the straight line and of 3 t^2 - 2 t^3."""
    return (x * 255**2 + 3 * 255 * x**2 - 2 * x**3) // (2 * 255**2)


def _light(pixels: np.ndarray) -> np.ndarray:
    """(H, W) int32 in 0..255: ITU-R BT.601's luma."""
    return (pixels @ np.array((299, 587, 114), dtype=np.int32)) // 1000


def _by_strips(pixels: np.ndarray, change: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """A fresh picture of the strips that `change` gives for their first and last row + 1, cut off at 0 and 255."""
    (height, width), changed = pixels.shape[:2], np.empty_like(pixels)
    rows = max(1, PIXELS_AT_ONCE // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        changed[top:bottom] = np.clip(change(top, bottom), 0, 255)
    return changed


def _grey(pixels: np.ndarray) -> np.ndarray:
    return _by_strips(pixels, lambda top, bottom: _light(pixels[top:bottom])[..., None])


def _saturated(pixels: np.ndarray, share: int) -> np.ndarray:
    """How far each pixel is from its own grey, times `share` thousandths."""

    def change(top: int, bottom: int) -> np.ndarray:
        strip = pixels[top:bottom].astype(np.int32)
        light = _light(pixels[top:bottom])[..., None]
        return light + (strip - light) * share // 1000

    return _by_strips(pixels, change)


def _edges(pixels: np.ndarray, loss: int) -> np.ndarray:
    """The corners lose `loss` thousandths of their light, the middles of the sides two fifths of that."""
    across, down = ((2 * np.arange(n) + 1 - n) ** 2 * 1000 // n**2 for n in (pixels.shape[1], pixels.shape[0]))

    def change(top: int, bottom: int) -> np.ndarray:
        far = np.minimum(1000, (down[top:bottom, None] + across) ** 2 // 2500)  # 0 in the middle
        kept = (1_000_000 - far * loss) // 1000
        return pixels[top:bottom] * kept[..., None].astype(np.int32) // 1000

    return _by_strips(pixels, change)


def _radius(pixels: np.ndarray, part: int) -> int:
    return max(1, max(pixels.shape[:2]) // part)


def _box(pixels: np.ndarray, radius: int, top: int, bottom: int) -> np.ndarray:
    """Rows of the box blur as (h, W, 3) int32, by running sums: exact, so that strips are equal to the whole."""
    rows = np.clip(np.arange(top - radius - 1, bottom + radius), 0, pixels.shape[0] - 1)
    sums, width = np.cumsum(pixels[rows], axis=0, dtype=np.int32), 2 * radius + 1
    blurred = (sums[width:] - sums[:-width]) // width
    sums = np.cumsum(np.pad(blurred, ((0, 0), (radius + 1, radius), (0, 0)), mode="edge"), axis=1, dtype=np.int32)
    return (sums[:, width:] - sums[:, :-width]) // width


def _blurred(pixels: np.ndarray, part: int) -> np.ndarray:
    return _by_strips(pixels, partial(_box, pixels, _radius(pixels, part)))


def _sharpened(pixels: np.ndarray, share: int) -> np.ndarray:
    """An unsharp mask: `share` thousandths of what blurring takes away are added."""

    def change(top: int, bottom: int) -> np.ndarray:
        strip = pixels[top:bottom].astype(np.int32)
        return strip + (strip - _box(pixels, _radius(pixels, FINE), top, bottom)) * share // 1000

    return _by_strips(pixels, change)


def _glowing(pixels: np.ndarray) -> np.ndarray:
    """Half of the picture's own light and half of its blurred copy's screened over it, as in an Orton print."""

    def change(top: int, bottom: int) -> np.ndarray:
        strip, soft = pixels[top:bottom].astype(np.int32), _box(pixels, _radius(pixels, GLOW), top, bottom)
        return (strip + soft) // 4 + (255 - (255 - strip) * (255 - soft) // 255) // 2

    return _by_strips(pixels, change)


def _blocks(pixels: np.ndarray, part: int) -> np.ndarray:
    """Square blocks from the top left corner, `part` of them along the longer side, each in its mean colour."""
    changed, longer = np.empty_like(pixels), max(pixels.shape[:2])
    grid = np.unique(np.arange(part + 1) * longer // part)  # the same places at every size
    rows, columns = (np.append(grid[grid < end], end) for end in pixels.shape[:2])
    for top, bottom in pairwise(rows):
        sums = np.add.reduceat(pixels[top:bottom].sum(axis=0, dtype=np.int64), columns[:-1], axis=0)
        means = sums // ((bottom - top) * np.diff(columns)[:, None])
        changed[top:bottom] = np.repeat(means, np.diff(columns), axis=0)
    return changed
