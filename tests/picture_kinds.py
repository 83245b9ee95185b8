"""Pictures of every kind that users have, in every container that can hold them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tests.profiles import adobe_rgb, grey, inks

SIZE = (23, 16)  # (width, height)
CONTAINERS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "WEBP": ".webp",
    "TIFF": ".tif",
    "AVIF": ".avif",
    "BMP": ".bmp",
    "GIF": ".gif",
}
LOSSLESS = ("PNG", "TIFF", "BMP")
ORIENTATION = 0x0112


def noise(channels: int, seed: int = 0) -> np.ndarray:
    """(H, W, C) uint8, smooth enough for lossy containers."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, channels), dtype=np.uint8)
    planes = [Image.fromarray(small[..., c]).resize(SIZE, Image.Resampling.BICUBIC) for c in range(channels)]
    return np.dstack([np.asarray(plane) for plane in planes])


def stripes() -> np.ndarray:
    """Clear, half and full in stripes."""
    return np.broadcast_to(np.resize(np.repeat(np.array([0, 128, 255], np.uint8), 4), SIZE[0]), SIZE[::-1])


def _deep(channels: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write."""
    values = noise(channels).astype(np.uint16) * 256 + 128
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    colour_type = {1: 0, 3: 2, 4: 6}[channels]
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", *SIZE, 16, colour_type, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _turned(orientation: int) -> Callable[[], tuple[Image.Image, dict]]:
    def make() -> tuple[Image.Image, dict]:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        return Image.fromarray(noise(3)), {"exif": exif.tobytes()}

    return make


def _plain(mode: str, **options: object) -> Callable[[], tuple[Image.Image, dict]]:
    def make() -> tuple[Image.Image, dict]:
        if mode in ("I;16", "I;16B", "I", "F"):
            values = noise(1)[..., 0].astype(np.uint16) * 256 + 128
            if mode == "F":
                return Image.fromarray(values.astype(np.float32) / np.float32(65535)), {}
            if mode == "I;16B":
                return Image.frombytes("I;16B", SIZE, values.astype(">u2").tobytes()), {}
            return Image.fromarray(values if mode == "I;16" else values.astype(np.int32)), {}
        bands = {"L": 1, "LA": 1, "CMYK": 4}.get(mode, 3)
        image = Image.fromarray(noise(bands)[..., 0] if bands == 1 else noise(bands), "CMYK" if bands == 4 else None)
        if mode in ("LA", "RGBA"):
            image.putalpha(Image.fromarray(stripes().copy()))
        given = dict(options)
        if mode == "P" and "transparency" in given:
            image = image.quantize(32)
            given["transparency"] = bytes([0, 100] + [255] * 30)
        elif image.mode != mode:
            image = image.convert(mode)
        return image, given

    return make


KINDS: dict[str, Callable[[], tuple[Image.Image, dict]]] = {
    **{f"EXIF {n}": _turned(n) for n in range(1, 9)},
    **{mode: _plain(mode) for mode in ("1", "L", "LA", "RGB", "RGBA", "P", "CMYK", "YCbCr", "LAB", "HSV")},
    **{mode: _plain(mode) for mode in ("I;16", "I;16B", "I", "F")},
    "P transparent": _plain("P", transparency=True),
    "RGB one clear colour": _plain("RGB", transparency=tuple(int(v) for v in noise(3)[5, 5])),
    "RGB of Adobe": _plain("RGB", icc_profile=adobe_rgb()),
    "grey of gamma 1": _plain("L", icc_profile=grey(1.0)),
    "CMYK of inks": _plain("CMYK", icc_profile=inks()),
}
RAW = {"RGB 16 bit": lambda: _deep(3), "RGBA 16 bit": lambda: _deep(4)}  # PNG only


def encoded() -> Iterator[tuple[str, str, bytes | None]]:
    """(kind, container, content); None where the container cannot hold the kind."""
    for kind, make in KINDS.items():
        for container in CONTAINERS:
            image, options = make()
            file = io.BytesIO()
            if container in LOSSY_OPTIONS:
                options |= LOSSY_OPTIONS[container]
            try:
                image.save(file, container, **options)
            except (OSError, ValueError, KeyError, TypeError):
                yield kind, container, None
            else:
                yield kind, container, file.getvalue()
    for kind, make in RAW.items():
        for container in CONTAINERS:
            yield kind, container, make() if container == "PNG" else None


LOSSY_OPTIONS: dict[str, dict] = {"JPEG": {"quality": 95}, "AVIF": {"speed": 10}}
