"""The edit report: one HTML file that shows what was asked, what was changed, where, and with which settings.

Everything is inside the file (pictures as data addresses, no script or style from elsewhere), and the numbers
stand in it once more as JSON under the id `edit-report`, for programs.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment
from PIL import Image

from insightedit.files import write_text
from insightedit.images.background import EditComparison, native_drawing, psnr
from insightedit.images.picture_files import picture_address
from insightedit.images.reading import Picture, PictureInput, read_picture, strips, to_rgb

if TYPE_CHECKING:
    from insightedit.pipelines.base import InsightEditOutput

MAX_SHOWN = 1024  # pixels; larger pictures are shown smaller, the numbers are of the full size

_HEAT = np.array([[0, 0, 0], [120, 0, 40], [230, 60, 20], [255, 180, 40], [255, 255, 210]], dtype=np.float32)


@dataclass(frozen=True)
class EditReport:
    """What a report says about one edit."""

    instruction: str  # what the user asked for
    expressive_instruction: str | None  # what the language model made of it, if it was asked to
    width: int
    height: int
    changed_ratio: float  # share of the visible pixels (alpha above 0) inside the mask, 0..1
    different_ratio: float  # share of the visible pixels whose value differs from the source's, 0..1
    psnr_outside: float | None  # dB outside the mask, of the picture as given; None if exact or without an outside
    psnr_outside_unlocked: float | None  # the same of the model's picture without the lock
    exact_outside: bool | None  # whether every pixel outside the mask equals the source's; None without an outside
    seed: int  # of the noise
    seconds: float | None = None  # that the edit took, loading not counted; None if not measured
    settings: dict[str, Any] = field(default_factory=dict)  # arguments of the call
    versions: dict[str, str] = field(default_factory=dict)  # of the software
    warnings: list[str] = field(default_factory=list)  # why the picture may not be what was asked for
    understood: bool = True  # whether the model understood the request; where not, the picture is the source's own
    confidence: float | None = None  # 0..1 that the right edit was understood; None where the model tells none
    signs: dict[str, float] | None = None  # what the confidence is computed of


def build_report(
    source: PictureInput,
    output: InsightEditOutput,
    *,
    instruction: str,
    index: int = 0,
    settings: dict[str, Any] | None = None,
    seconds: float | None = None,
) -> EditReport:
    """The numbers of one edit: of the picture `index` of what the pipeline gave back, with `output_type="pil"`."""
    picture = read_picture(source)
    edited = read_picture(output.images[index])
    before, after = to_rgb(picture), to_rgb(edited)
    mask = output.masks[index]
    outside = psnr(before, after, ~mask)
    parts = list(strips(picture.size))
    exact = all(np.array_equal(picture.colour[rows][~mask[rows]], edited.colour[rows][~mask[rows]]) for rows in parts)
    different = sum(int((before[rows] != after[rows]).any(axis=2).sum()) for rows in parts)
    visible = mask.size if picture.visible is None else int(picture.visible.sum())
    return EditReport(
        instruction=instruction,
        expressive_instruction=output.expressive_instructions[index],
        width=picture.size[0],
        height=picture.size[1],
        changed_ratio=changed_ratio(mask, picture),
        different_ratio=different / max(visible, 1),
        psnr_outside=None if outside is None or math.isinf(outside) else outside,
        psnr_outside_unlocked=psnr(before, _unlocked(picture, output.evidence[index]), ~mask),
        exact_outside=None if outside is None else exact,
        seed=output.seeds[index],
        seconds=seconds,
        settings=dict(settings or {}),
        versions=dict(output.versions),
        warnings=[warning.message for warning in output.warnings[index]],
        understood=output.understood[index],
        confidence=output.confidence[index],
        signs=None if (signs := output.signs[index]) is None else asdict(signs),
    )


def changed_ratio(mask: np.ndarray, picture: Picture) -> float:
    """Share of a picture inside a mask (H, W), 0..1; what is fully transparent counts as no part of the picture."""
    visible = picture.visible
    return float(mask.mean()) if visible is None else float(mask.sum() / max(int(visible.sum()), 1))


def _unlocked(picture: Picture, evidence: EditComparison) -> np.ndarray:
    """(H, W, 3) uint8: what the model drew, in the picture's size."""
    drawn = np.empty((*picture.colour.shape[:2], 3), np.uint8)
    for rows in strips(picture.size):
        drawn[rows] = np.rint(native_drawing(evidence, picture.size, rows))
    return drawn


def write_report(
    path: Path, report: EditReport, source: PictureInput, output: InsightEditOutput, *, index: int = 0
) -> None:
    """Write the report as one HTML file; an old one is replaced only once the new one is whole."""
    write_text(Path(path), render_report(report, read_picture(source), output, index=index))


def render_report(report: EditReport, source: Picture, output: InsightEditOutput, *, index: int = 0) -> str:
    """The report as HTML text."""
    before = _shown(to_rgb(source))
    pictures = {
        "before": before,
        "after": _shown(to_rgb(read_picture(output.images[index]))),
        "heat": heat_overlay(before, _shown(output.edit_maps[index])),
        "mask": _shown(output.masks[index].astype(np.uint8) * 255),
        "unlocked": _shown(_unlocked(source, output.evidence[index])),
    }
    template = files("insightedit").joinpath("templates/report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["decibel"] = lambda value: "-" if value is None else f"{value:.1f} dB"
    environment.filters["percent"] = lambda value: f"{100 * value:.2f} %"
    data = json.dumps(_finite(asdict(report)), ensure_ascii=False, sort_keys=True).replace("<", "\\u003c")
    addresses = {name: picture_address(Image.fromarray(_shown(rgb)), optimize=True) for name, rgb in pictures.items()}
    return environment.from_string(template).render(report=report, pictures=addresses, data=data)


def _finite(value: Any) -> Any:
    """JSON has no infinity: such numbers become text."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def heat_overlay(rgb: np.ndarray, edit_map: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: `rgb` in dim grey, the edit map (H, W) in [0, 1] glowing on it where the edit is strongest."""
    strength = edit_map / max(float(edit_map.max()), 0.1)  # so that noise of a no-op does not glow
    steps = np.linspace(0.0, 1.0, len(_HEAT))
    heat = np.stack([np.interp(strength, steps, _HEAT[:, c]) for c in range(3)], axis=2)
    grey = rgb.mean(axis=2, keepdims=True) * 0.5
    weight = np.sqrt(strength)[:, :, None] * 0.9
    return np.rint(grey * (1.0 - weight) + heat * weight).clip(0, 255).astype(np.uint8)


def side_by_side(before: np.ndarray, after: np.ndarray, gap: int = 8) -> Image.Image:
    """Two (H, W, 3) uint8 pictures of one size beside each other on white, source on the left."""
    space = np.full((before.shape[0], gap, 3), 255, dtype=np.uint8)
    return Image.fromarray(np.concatenate([before, space, after], axis=1))


def _shown(values: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 or (H, W) float32 or uint8, made smaller than `MAX_SHOWN` where needed."""
    if max(values.shape[:2]) <= MAX_SHOWN:
        return values
    image = Image.fromarray(values)
    image.thumbnail((MAX_SHOWN, MAX_SHOWN))
    return np.asarray(image)
