"""Colour profiles that are not sRGB, built from their definition: Adobe's colours, grey of another gamma, inks."""

from __future__ import annotations

import struct
from functools import cache

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))  # XYZ at D50


def _fixed(values) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"made for tests"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" * 79,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(D50),
        **tags,
    }
    start, table, data = 132 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value + b"\0" * (-len(value) % 4)
    head = struct.pack(">I4sI", start + len(data), b"\0" * 4, 0x02400000) + kind + space + pcs
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + _fixed(D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


@cache
def adobe_rgb() -> bytes:
    """Wider primaries, gamma 2.2."""
    tags = {name: b"XYZ \0\0\0\0" + _fixed(xyz) for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), ADOBE, strict=True)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _gamma(2.2)))


@cache
def grey(gamma: float = 1.0) -> bytes:
    """Grey of another gamma than sRGB's."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def _lut8(inputs: int, grid: int, nodes: np.ndarray) -> bytes:
    outputs = nodes.shape[1]
    ramp = bytes(range(256))
    head = b"mft1\0\0\0\0" + bytes([inputs, outputs, grid, 0]) + _fixed(np.eye(3).reshape(-1))
    return head + ramp * inputs + np.rint(nodes).clip(0, 255).astype(np.uint8).tobytes() + ramp * outputs


def _steps(inputs: int, grid: int) -> np.ndarray:
    axes = np.meshgrid(*[np.linspace(0, 1, grid)] * inputs, indexing="ij")
    return np.stack(axes, -1).reshape(-1, inputs)


@cache
def inks() -> bytes:
    """CMYK through tables, both ways: paper of L* 90, inks darker than a screen's."""
    cmyk = _steps(4, 3)
    light = 90 * (1 - cmyk[:, 3]) * (1 - 0.6 * cmyk[:, :3].mean(axis=1))
    a = 60 * (1 - cmyk[:, 3]) * (cmyk[:, 1] - cmyk[:, 0])
    b = 60 * (1 - cmyk[:, 3]) * (cmyk[:, 2] - (cmyk[:, 0] + cmyk[:, 1]) / 2)
    forth = np.stack([light * 2.55, a + 128, b + 128], axis=1)
    lab = _steps(3, 9) * (100, 255, 255) - (0, 128, 128)
    black = (1 - lab[:, 0] / 90).clip(0, 1)
    magenta, yellow = (lab[:, 1] / 60).clip(0, 1), (lab[:, 2] / 60).clip(0, 1)
    cyan = (-lab[:, 1] / 60).clip(0, 1)
    back = np.stack([cyan, magenta, yellow, black], axis=1) * 255
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": _lut8(4, 3, forth), b"B2A0": _lut8(3, 9, back)})
