"""How much of the picture an editor gives up for the edit: success against the kept background over image guidance.

Source: the trade-off curves of InstructPix2Pix and MGIE (figure 3), with exact measures on both axes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insightedit.console import MAX_SCALE, titled_table
from insightedit.evaluation.core.statistics import Rate
from insightedit.evaluation.scenes.metrics import PSNR_CAP
from insightedit.files import check_folder, write_atomically, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from insightedit.evaluation.scenes.benchmark import EditFn
    from insightedit.evaluation.scenes.report import SceneReport, SceneRow

SCALES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2)
FILES = ("tradeoff.json", "tradeoff.png")
MIN_PSNR = 0.0  # dB, where the front's area begins; it ends at `PSNR_CAP`
INK, FAINT, CURVE = "#19191e", "#8a8a92", "#14783c"


@dataclass(frozen=True)
class TradeoffPoint:
    """What one setting gives."""

    name: str  # "1.4" for an image guidance scale of 1.4, or the name of a control row
    success: Rate  # rate of edits that succeed
    background: float  # strict PSNR of the background, dB, mean over the edits that have one
    exact: Rate | None  # rate of exact edits, None without graphs
    progress: float | None  # RPS
    leak: float | None  # 0..1


@dataclass(frozen=True)
class Tradeoff:
    """A sweep over image guidance."""

    points: tuple[TradeoffPoint, ...]  # one per scale, in the order asked for
    controls: tuple[TradeoffPoint, ...]  # the control rows on the same scenes
    area: float  # under the Pareto front of the points, 0..1: see `front_area`
    protocol: Mapping[str, Any]  # of the scenes
    settings: Mapping[str, Any] = field(default_factory=dict)  # `own_scale`: the one that it is used with


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of (kept, success) that no other one beats in one respect without losing in the other; kept rises."""
    front: list[tuple[float, float]] = []
    for kept, success in sorted(set(points), reverse=True):
        if not front or success > front[-1][1]:
            front.append((kept, success))
    return front[::-1]


def front_area(points: Sequence[tuple[float, float]], low: float = MIN_PSNR, high: float = PSNR_CAP) -> float:
    """Area under the Pareto front, 0..1: the mean, over all demands on what is kept, of the best success meeting them.

    The front of the (kept, success) pairs is a staircase: a demand of `kept >= x`, between `low` and `high`, is met by
    the points to the right of x. An editor that always succeeds and keeps `high` has 1, one that copies has 0.

    Raises:
        ValueError: without points, or if `high` is not above `low`.
    """
    if not points:
        raise ValueError("no point to draw a front through: measure at least one setting.")
    if high <= low:
        raise ValueError(f"demands run from {low} to {high}: the end has to lie above the beginning.")
    clipped = [(min(max(kept, low), high), success) for kept, success in points]
    area, left = 0.0, low
    for kept, success in pareto_front(clipped):
        area += (kept - left) * success
        left = kept
    return area / (high - low)


def sweep(
    edit_with_scale: Callable[[float], EditFn],
    scales: Sequence[float],
    measure: Callable[[EditFn, bool], SceneReport],
    settings: Mapping[str, Any] | None = None,
) -> Tradeoff:
    """Measure an editor at several image guidance scales on the same scenes.

    Raises:
        ValueError: for fewer than two scales, a scale twice, one that is not positive, or scenes without any
            background.
    """
    check_scales(scales)
    reports = [measure(edit_with_scale(scale), number == 0) for number, scale in enumerate(scales)]
    points = tuple(_point(f"{scale:g}", report.model) for scale, report in zip(scales, reports, strict=True))
    controls = tuple(_point(row.name, row) for row in reports[0].rows[1:])
    area = front_area([(point.background, point.success.value) for point in points])
    protocol = reports[0].to_dict()["protocol"]
    return Tradeoff(points, controls, area, protocol, {**reports[0].settings, **(settings or {})})


def check_scales(scales: Sequence[float]) -> None:
    """Refuse what is no list of image guidance scales, with the ValueError of `sweep`."""
    if len(set(scales)) < max(2, len(scales)):
        told = ", ".join(f"{scale:g}" for scale in scales) or "none"
        raise ValueError(f"scales are {told}: name at least two, each once, e.g. 1.0,1.4,1.8.")
    if wrong := [scale for scale in scales if not 0 < scale <= MAX_SCALE]:
        raise ValueError(f"a scale is {wrong[0]:g}: image guidance scales are above 0, up to {MAX_SCALE:g}.")


def _point(name: str, row: SceneRow) -> TradeoffPoint:
    means = row.means
    if means["psnr_background"] is None:
        raise ValueError("no scene has a background to keep: take more scenes.")
    return TradeoffPoint(name, row.success, means["psnr_background"], row.exact, means["progress"], means["leak"])


def tradeoff_table(tradeoff: Tradeoff) -> Table:
    """Scales and controls, one a line."""
    title = f"image guidance, protocol {tradeoff.protocol['hash']}; area under the front {tradeoff.area:.3f} of 1"
    table = titled_table(title, ["scale"], ["success %", "exact %", "progress", "background dB", "leak"])
    own = tradeoff.settings.get("own_scale")
    for point in (*tradeoff.points, *tradeoff.controls):
        is_own = own is not None and point.name == f"{own:g}"
        rates = ("-" if rate is None else f"{100 * rate.value:.1f}" for rate in (point.success, point.exact))
        name = point.name.replace("_", " ") + (" (the model's own)" if is_own else "")
        progress = "-" if point.progress is None else f"{point.progress:.2f}"
        leak = "-" if point.leak is None else f"{100 * point.leak:.1f} %"
        table.add_row(name, *rates, progress, f"{point.background:.1f}", leak)
    return table


def draw_tradeoff(tradeoff: Tradeoff) -> Figure:
    """The curve: one point per scale with its 95 % interval, the Pareto front's area, and the control rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    spots = [(point.background, point.success.value) for point in tradeoff.points]
    front = pareto_front(spots)
    corners = [(MIN_PSNR, front[0][1]), *front, (front[-1][0], 0.0)]
    axes.fill_between(
        [x for x, _ in corners], [100 * y for _, y in corners], step="pre", color=CURVE, alpha=0.12, linewidth=0
    )
    low = [100 * (point.success.value - point.success.low) for point in tradeoff.points]
    high = [100 * (point.success.high - point.success.value) for point in tradeoff.points]
    axes.errorbar(
        [x for x, _ in spots], [100 * y for _, y in spots], yerr=[low, high], color=CURVE, marker="o",
        linewidth=1.4, elinewidth=0.8, capsize=2, label="scale of image guidance, 95 % interval",
    )  # fmt: skip
    own = tradeoff.settings.get("own_scale")
    for point, (x, y) in zip(tradeoff.points, spots, strict=True):
        axes.annotate(
            point.name, (x, 100 * y), textcoords="offset points", xytext=(6, 5), fontsize=8, color=INK, zorder=4,
            fontweight="bold" if own is not None and point.name == f"{own:g}" else "normal",
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.7, "linewidth": 0},
        )  # fmt: skip
    for control in tradeoff.controls:
        spot = control.background, 100 * control.success.value
        axes.plot(*spot, marker="D", markersize=5, color=FAINT, linestyle="none", zorder=1)
        is_inside = 0 < control.success.value < 0.5  # where the curve tends to be
        side, align = (-6, "right") if is_inside or spot[0] > PSNR_CAP * 0.75 else (6, "left")
        axes.annotate(
            control.name.replace("_", " "), spot, textcoords="offset points", xytext=(side, 6 if is_inside else -11),
            ha=align, fontsize=8, color=FAINT, zorder=1,
        )  # fmt: skip
    axes.set(xlabel="strict PSNR of the background, dB", ylabel="edits that succeed, %")
    axes.set(xlim=(0, PSNR_CAP + 2), ylim=(-8, 108))
    scenes = f"{tradeoff.protocol['count']} scenes at {tradeoff.protocol['size']} px"
    axes.set_title(f"{scenes}, area under the front {tradeoff.area:.3f} of 1", fontsize=10, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", fontsize=8, frameon=False)
    return figure


def write_tradeoff(tradeoff: Tradeoff, folder: Path) -> list[Path]:
    """Write `tradeoff.json` and `tradeoff.png`; older files of the same name are replaced."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in FILES]
    write_text(paths[0], json.dumps(asdict(tradeoff), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    with write_atomically(paths[1]) as aside:
        draw_tradeoff(tradeoff).savefig(aside, format="png")
    return paths
