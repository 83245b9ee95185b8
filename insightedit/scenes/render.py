"""Scenes, reference pictures and backdrops -> pixels: integers only, so that all machines give the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image

from insightedit.images.tones import apply_tone
from insightedit.scenes.assets import Assets, load_photo, load_sprite
from insightedit.scenes.scene import COLOURS, HEIGHTS, SLOT_CENTRES, Background, Scene, SceneObject
from insightedit.scenes.textures import draw_texture
from insightedit.scenes.wordings import PLACEHOLDER, article

MIRROR_LEFT = 660  # thousandths: the mirror covers the picture's right third
FRAME = (120, 80, 45)
Colour = tuple[int, int, int]

PAPERS: tuple[Colour, ...] = (
    (255, 255, 255), (250, 242, 220), (226, 238, 250), (230, 246, 228), (250, 230, 236), (232, 232, 236),
)  # fmt: skip
TINTS: tuple[str | None, ...] = (None, *(name for name in COLOURS if name != "white"))  # paper is white
BACKDROP_COLOURS: dict[str, Colour] = {**COLOURS, "grey": (150, 150, 150), "brown": (120, 75, 40)}
CROP_DETAIL = 4  # a photograph's shorter side is kept at as many times a picture's: what is more costs time alone
CLOSE_UP = 2  # a reference shows the subject twice as large as the picture that it will stand in


@dataclass(frozen=True)
class Subject:
    """What a reference picture shows."""

    name: str  # class name of the sprite
    colour: str | None = None  # name of its tint, one of `TINTS`; None for the sprite's own colours
    flip: bool = False  # mirrored left to right
    paper: int = 0  # index into `PAPERS`, the light ground that it is shown on, which does not matter

    def standing_at(self, slot: int) -> SceneObject:
        """The subject in a picture: medium height, at the centre of a place, else as the reference shows it."""
        x, y = SLOT_CENTRES[slot]
        return SceneObject(self.name, slot, x, y, HEIGHTS["medium"], self.flip, self.colour)


@dataclass(frozen=True)
class Backdrop:
    """What subjects are put on in a new picture.

    `kind` is `plain` (one colour) or `gradient` (two), told in words; `swatch` (one or two colours without names) or
    `photo`, told by a reference picture.
    """

    kind: str
    colours: tuple[Colour, ...] = ()  # one or two, RGB in 0..255; none for a photo
    names: tuple[str, ...] = ()  # theirs; none for a swatch or a photo
    across: bool = False  # whether a gradient goes from left to right; else from top to bottom
    photo: Background | None = None  # the crop, for a photo

    @property
    def is_pictured(self) -> bool:
        """Whether a reference picture tells it, since words do not."""
        return not self.names

    @property
    def words(self) -> str:
        """`a red background`; `<imagehere>` where a picture tells it."""
        if self.is_pictured:
            return PLACEHOLDER
        if self.kind == "plain":
            return article(f"{self.names[0]} background")
        start, end = ("at the left", "at the right") if self.across else ("at the top", "at the bottom")
        return f"a background from {self.names[0]} {start} to {self.names[1]} {end}"

    @property
    def meaning(self) -> str:
        """The same, with words for what a picture tells."""
        return {"swatch": "a coloured background", "photo": "a photo"}.get(self.kind, self.words)


def is_held_out_subject(name: str, colour: str | None, classes: tuple[str, ...]) -> bool:
    """Whether this class is never shown in this tint in training: one pair in eleven, spread evenly."""
    return (classes.index(name) * 5 + TINTS.index(colour) * 4) % 11 == 3


class Renderer:
    """Renders scenes of one world as squares of `size` pixels; ValueError under 16, where sprites all look alike."""

    def __init__(self, assets: Assets, size: int) -> None:
        if size < 16:
            raise ValueError(f"size is {size} px, scenes need at least 16 px: choose 64 or 128.")
        self.assets, self.size = assets, size
        self.photos = {p.name: p for p in assets.photos}
        self.sprite = lru_cache(maxsize=4096)(self._sprite)
        self._paint = lru_cache(maxsize=4096)(self._painted)
        self._kept_ground = lru_cache(maxsize=4)(self._ground)  # the same before and after an edit

    def render(self, scene: Scene) -> np.ndarray:
        """(size, size, 3) uint8 RGB."""
        return self.draw(self.ground(scene), scene.objects, scene.photometric)

    def draw(self, canvas: np.ndarray, things: tuple[SceneObject, ...], look: str | None = None) -> np.ndarray:
        """Things over `canvas`, in place, back to front; then a global change of the whole."""
        for thing in things:
            self.paste(canvas, thing)
        return canvas if look is None else apply_tone(canvas, look)

    def ground(self, scene: Scene) -> np.ndarray:
        """A fresh (size, size, 3) uint8 picture of what stands behind the objects: background, and perhaps a mirror.

        The mirror is a framed glass over the right third: the room's left third, flipped and paler.
        """
        return self._kept_ground(scene.background, scene.mirror).copy()

    def _ground(self, background: Background, mirror: bool) -> np.ndarray:
        canvas = self.background(background)
        if not mirror:
            return canvas
        left, frame = MIRROR_LEFT * self.size // 1000, max(1, self.size // 48)
        reflected = canvas[:, : self.size - left][:, ::-1].astype(np.uint32)
        canvas[:, left:] = (reflected * 6 + np.array([205, 215, 225], dtype=np.uint32) * 4) // 10
        glass = canvas[:, left:]
        glass[:frame], glass[-frame:], glass[:, :frame], glass[:, -frame:] = FRAME, FRAME, FRAME, FRAME
        return canvas

    def background(self, background: Background) -> np.ndarray:
        """A fresh (size, size, 3) uint8 crop of the photograph in its disguise, or a texture."""
        if background.texture is not None:
            return draw_texture(background.texture, self.size)
        pixels = self._crop(background.photo, background)
        if background.veil is not None:
            veil, share = self._crop(background.veil, background), background.veil_share
            mixed = pixels.astype(np.uint32) * (1000 - share) + veil.astype(np.uint32) * share
            pixels = ((mixed + 500) // 1000).astype(np.uint8)
        pixels = pixels[:, ::-1] if background.flip else pixels
        pixels = np.rot90(pixels[..., background.channels], background.turns)
        if background.lift or background.gains != (1000, 1000, 1000):
            lit = pixels * np.array(background.gains, dtype=np.int32) // 1000 + background.lift
            pixels = np.clip(lit, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels) if background.tone is None else apply_tone(pixels, background.tone)

    def _crop(self, name: str, background: Background) -> np.ndarray:
        """(size, size, 3) uint8."""
        photo = load_photo(self.photos[name].path, max(256, CROP_DETAIL * self.size))
        side = min(photo.size) * background.side // 1000
        left = (photo.width - side) * background.left // 1000
        top = (photo.height - side) * background.top // 1000
        way = Image.Resampling.BOX if side >= self.size else Image.Resampling.BILINEAR  # no blocks where it grows
        crop = photo.resize((self.size, self.size), way, (left, top, left + side, top + side))
        return np.array(crop)

    def backdrop(self, backdrop: Backdrop) -> np.ndarray:
        """A fresh (size, size, 3) uint8 picture of a backdrop alone."""
        if backdrop.photo is not None:
            return self.background(backdrop.photo)
        first, last = (np.array(backdrop.colours[i], dtype=np.uint32) for i in (0, -1))
        step = np.arange(self.size, dtype=np.uint32)[:, None]
        ramp = (first * (self.size - 1 - step) + last * step + (self.size - 1) // 2) // (self.size - 1)
        line = ramp[None, :] if backdrop.across else ramp[:, None]
        return np.ascontiguousarray(np.broadcast_to(line, (self.size, self.size, 3)).astype(np.uint8))

    @cached_property
    def _close_up(self) -> Renderer:
        return Renderer(self.assets, CLOSE_UP * self.size)

    def reference(self, subject: Subject) -> np.ndarray:
        """(size, size, 3) uint8: the subject in the middle of light paper, twice as large as it will be."""
        whole = self._close_up.size
        canvas = np.full((whole, whole, 3), PAPERS[subject.paper], dtype=np.uint8)
        self._close_up.paste(canvas, subject.standing_at(4))
        inner = slice((whole - self.size) // 2, (whole + self.size) // 2)
        return np.ascontiguousarray(canvas[inner, inner])

    def paste(self, canvas: np.ndarray, thing: SceneObject) -> None:
        """Draw one sprite over `canvas`, in place, cut off at the borders."""
        key = thing.name, max(3, thing.height * self.size // 1000), thing.flip, thing.colour
        through, paint = self._paint(*key)
        h, w = paint.shape[:2]
        top, left = thing.y * self.size // 1000 - h // 2, thing.x * self.size // 1000 - w // 2
        y0, x0 = max(0, top), max(0, left)
        y1, x1 = min(self.size, top + h), min(self.size, left + w)
        if y1 <= y0 or x1 <= x0:
            return
        piece = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        mixed = canvas[y0:y1, x0:x1] * through[piece]
        mixed += paint[piece]
        mixed += 1 + (mixed >> 8)  # // 255, exactly, below 65535
        canvas[y0:y1, x0:x1] = mixed >> 8

    def _painted(self, name: str, height: int, flip: bool, colour: str | None) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 1) and (h, w, 3) uint16: what shows through, and what is added, 255 times; no sum passes 65152."""
        rgb, alpha = self.sprite(name, height, flip, colour)
        return (255 - alpha).astype(np.uint16), (rgb * alpha + 127).astype(np.uint16)

    def _sprite(self, name: str, height: int, flip: bool, colour: str | None) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) and (h, w, 1) uint32, resized with premultiplied alpha, tinted."""
        picture = load_sprite(self.assets.sprites[name].path)
        width = max(3, picture.width * height // picture.height)
        width, height = (self.size * 42 // 100, height) if width > self.size * 42 // 100 else (width, height)
        pixels = np.array(picture.convert("RGBa").resize((width, height), Image.Resampling.BOX).convert("RGBA"))
        pixels = pixels[:, ::-1] if flip else pixels
        rgb, alpha = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
        return (tint(rgb, colour) if colour else rgb), alpha


def changed_pixels(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(H, W) bool: where two (H, W, 3) pictures differ; `any` over so short an axis would take seven times as long."""
    red, green, blue = np.moveaxis(before != after, -1, 0)
    return red | green | blue


def tint(rgb: np.ndarray, colour: str) -> np.ndarray:
    """Keep the sprite's light and shade, take the hue of `colour`; (h, w, 3) uint32 in [0, 255]."""
    light = (rgb[..., 0] * 299 + rgb[..., 1] * 587 + rgb[..., 2] * 114) // 1000
    shade = 90 + light * 165 // 255  # dark parts stay visible
    return np.minimum(255, np.array(COLOURS[colour], dtype=np.uint32) * shade[..., None] // 215)
