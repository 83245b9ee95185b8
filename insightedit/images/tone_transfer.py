"""A whole-picture edit, carried from the model's small drawing to the photograph's own pixels.

A model draws at its own resolution. Where it changes the tone of a picture, its drawing is not needed as a picture: a
*map of colours* is fitted from the source, as the autoencoder brings it back, to what was drawn, and applied to the
photograph itself, whose detail stays. The map has two parts.

An additive one for all of the picture: of each channel and of the luma a smooth curve (penalised splines: Eilers and
Marx, Flexible smoothing with B-splines and penalties, 1996; here of degree 1), products of two channels, and an affine
map whose numbers are polynomials of the place, for what light does (vignettes). It is one ridge regression towards the
identity, reweighted a few times: what is drawn at black or white may lie beyond (censored regression: Tobin, 1958), and
what no colour explains counts less (Cauchy's weights).

A local affine one for what is left: a guided filter (He, Sun and Tang, Guided image filtering, 2013), its numbers
found at low resolution and stretched (He and Sun, Fast guided filter, 2015). Its epsilon pulls towards the first part
plus the mean of what is left, so that flat areas keep the better of the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

KNOTS = 12  # of a curve
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
FITTED = 128  # pixels a side that are fitted at most; larger drawings are averaged
# penalties, 1 weighs like all pixels together: what is simpler is free, so that it serves the colours, too, that the
# drawing lacks
AFFINE, PLACE, PRODUCTS, SMOOTHNESS = 1e-6, 1e-4, 1e-3, 1e-3
ROUNDS = 4  # of reweighting
WINDOW, FLATNESS = 2.0, 1e-2  # the guided filter's standard deviation in fitted pixels, and its epsilon
FINE = 160  # the longer side over this is the radius of what is sharpened, as in `insightedit.images.tones`
MIN_SHARPENING = 0.25  # less is no sharpening, but what an autoencoder does to detail
# a drawing of which the map explains less of the change and less of the detail is no change of tone: a blur, blocks
MIN_CHANGE, MIN_DETAIL = 0.7, 0.75
BLOCKS, MIN_EXPLAINED = 8, 0.5  # blocks a side; share of a block's change that one quadratic map has to explain
PIXELS_AT_ONCE = 2**16  # few enough for a processor's cache


@dataclass(frozen=True)
class ToneMap:
    """What one drawing does to colours, for pictures of any size; colours in [0, 1]."""

    curves: Tensor  # (3, 4, K): added to red, green, blue by red, green, blue and luma; K even steps of 0..1
    products: Tensor  # (3, 3): added to red, green, blue by red x green, red x blue, green x blue
    affine: Tensor  # (3, 4, h, w): red, green, blue of each place from 1, red, green, blue
    sharpening: float  # how much of what a small blur takes away is added
    change: float  # share of the squared change that the additive part explains, at most 1
    detail: float  # share of the drawn detail (squared differences of neighbours) that all of it explains, at most 1

    @property
    def keeps_detail(self) -> bool:
        """Whether what was drawn has the source's detail; if not, its own is all there is."""
        return self.change >= MIN_CHANGE or self.detail >= MIN_DETAIL


def is_tone(round_trip: Tensor, drawn: Tensor) -> bool:
    """Whether a drawing changes the tone of all of the picture, and not things in it: both (3, h, w) in [0, 1].

    Of things, one map of colours explains the change neither where they stand nor around them. So one quadratic map
    (10 x 3 numbers, least squares) has to explain half of the change in four of five blocks.
    """
    x, change = round_trip.double().flatten(1), (drawn - round_trip).double().flatten(1)
    columns = torch.cat([torch.ones_like(x[:1]), x, x * x, _products(x)])
    penalty = torch.diag(x.new_tensor([1e-9] + 3 * [AFFINE] + 6 * [PRODUCTS]))
    found = torch.linalg.solve(columns @ columns.T / x.shape[1] + penalty, columns @ change.T / x.shape[1])
    left = (x + found.T @ columns).clamp(0, 1) - drawn.double().flatten(1)
    energy = torch.stack([left, change]).square().sum(dim=1).reshape(2, *round_trip.shape[1:])
    unexplained, changed = F.adaptive_avg_pool2d(energy, BLOCKS).flatten(1)
    return float((unexplained <= MIN_EXPLAINED * changed).double().mean()) >= 0.8


def fit_tone(round_trip: Tensor, drawn: Tensor) -> ToneMap:
    """The map from a source, as the autoencoder brings it back, to what was drawn: both (3, h, w) in [0, 1]."""
    step = -(-max(round_trip.shape[1:]) // FITTED)
    source, goal = (F.avg_pool2d(one.double()[None], step, ceil_mode=True)[0] for one in (round_trip, drawn))
    tone = _fit_additive(source, goal)
    left = goal - apply_tone(tone, source)
    change = 1.0 - float(left.square().sum() / (goal - source).square().sum().clamp_min(1e-9))
    tone = replace(tone, affine=tone.affine + _fit_local(source, left), change=change)
    tone = replace(tone, curves=tone.curves.float(), products=tone.products.float(), affine=tone.affine.float())
    # at the drawing's own resolution: how much it sharpens, and how much of its detail comes from the source's
    goal, mapped = drawn.float(), apply_tone(tone, round_trip.float())
    fine = mapped - box_mean(mapped, 1)
    sharpening = float(((goal - mapped) * fine).sum() / fine.square().sum().clamp_min(1e-9))
    sharpening = sharpening if sharpening > MIN_SHARPENING else 0.0
    mapped = (mapped + sharpening * fine).clamp(0, 1)
    missed, all_of_it = (sum(one.diff(dim=axis).square().sum() for axis in (1, 2)) for one in (goal - mapped, goal))
    detail = 1.0 - float(missed / all_of_it) if all_of_it > 1e-6 else 1.0  # a plain area has none to explain
    return replace(tone, sharpening=sharpening, detail=detail)


def _fit_additive(source: Tensor, goal: Tensor) -> ToneMap:
    """The first part, of pictures (3, h, w) float64."""
    x, y, (height, width) = source.flatten(1), goal.flatten(1), source.shape[1:]
    affine, places = torch.cat([torch.ones_like(x[:1]), x]), _places(height, width).flatten(1)
    hats = [_hats(one) for one in (*x, _luma(x))]
    spatial = [place * affine for place in places]
    columns = torch.cat([affine, _products(x), *spatial, *hats])  # (F, N)
    linear = len(columns) - 4 * KNOTS
    ridge = [1e-9] + 3 * [AFFINE] + 3 * [PRODUCTS] + (len(columns) - 7) * [PLACE]
    penalty = torch.diag(x.new_tensor(ridge))
    bend = torch.eye(KNOTS, dtype=x.dtype).diff(n=2, dim=0)
    curve = SMOOTHNESS * (bend.T @ bend + 0.3 * torch.eye(KNOTS, dtype=x.dtype))
    penalty[linear:, linear:] = torch.block_diag(*[curve] * 4)
    identity = x.new_zeros(3, len(columns))
    identity[:, 1:4] = torch.eye(3, dtype=x.dtype)
    found, weights = identity, torch.ones_like(y)
    for _ in range(ROUNDS):
        weighted = columns * weights[:, None] / x.shape[1]  # (3, F, N), a regression for each channel
        found = identity + torch.linalg.solve(weighted @ columns.T + penalty, weighted @ (y - x)[..., None])[..., 0]
        error = found @ columns - y
        usual = error.abs().median(dim=1, keepdim=True).values.clamp_min(0.004)
        beyond = ((y > 0.98) & (error > 0)) | ((y < 0.02) & (error < 0))
        weights = torch.where(beyond, 1e-3, 1.0 / (1.0 + (error / (5.0 * usual)).square()))
    numbers = torch.cat([found[:, None, :4], found[:, 7:linear].reshape(3, -1, 4)], dim=1)  # (3, 1 + P, 4)
    everywhere = torch.cat([torch.ones_like(places[:1]), places]).reshape(-1, height, width)
    fields = torch.einsum("cpk,phw->ckhw", numbers, everywhere)
    return ToneMap(found[:, linear:].reshape(3, 4, KNOTS), found[:, 4:7], fields, 0.0, 1.0, 1.0)


def _places(height: int, width: int) -> Tensor:
    """(P, h, w): low polynomials of the place in -1..1, with the fourth power of the distance from the middle."""
    down, across = ((2 * torch.arange(n, dtype=torch.float64) + 1 - n) / n for n in (height, width))
    v, u = torch.meshgrid(down, across, indexing="ij")
    return torch.stack([u, v, u * u, u * v, v * v, (u * u + v * v).square()])


def _products(x: Tensor) -> Tensor:
    return torch.stack([x[0] * x[1], x[0] * x[2], x[1] * x[2]])


def _luma(x: Tensor) -> Tensor:
    return LUMA[0] * x[0] + LUMA[1] * x[1] + LUMA[2] * x[2]


def _hats(values: Tensor) -> Tensor:
    """(N,) in [0, 1] -> (K, N): how much each knot counts in linear interpolation."""
    return (1.0 - (values.clamp(0, 1) * (KNOTS - 1) - torch.arange(KNOTS)[:, None]).abs()).clamp_min(0)


def _fit_local(source: Tensor, left: Tensor) -> Tensor:
    """(3, 4, h, w): the guided filter's affine map from the source to what is left, both (3, h, w)."""
    mean, mean_left = _smooth(source), _smooth(left)
    spread = _smooth(source[:, None] * source) - mean[:, None] * mean  # (3, 3, h, w)
    common = _smooth(source[:, None] * left) - mean[:, None] * mean_left
    matrices = spread.permute(2, 3, 0, 1) + FLATNESS * torch.eye(3, dtype=source.dtype)
    slopes = torch.linalg.solve(matrices, common.permute(2, 3, 0, 1)).permute(3, 2, 0, 1)  # (to, from, h, w)
    offset = mean_left - (slopes * mean).sum(dim=1)
    return _smooth(torch.cat([offset[:, None], slopes], dim=1))


def _smooth(planes: Tensor) -> Tensor:
    """(..., h, w) after a Gaussian of `WINDOW`, edges repeated."""
    reach = int(4 * WINDOW)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=planes.dtype) / WINDOW).square())
    kernel, shape = (kernel / kernel.sum()).reshape(1, 1, -1), planes.shape
    flat = planes.reshape(-1, 1, *shape[-2:])
    flat = F.conv2d(F.pad(flat, (reach, reach, reach, reach), mode="replicate"), kernel[..., None])
    return F.conv2d(flat, kernel[:, :, None]).reshape(shape)


def box_mean(pixels: Tensor, radius: int) -> Tensor:
    """(3, h, w) -> each pixel's mean over (2 radius + 1)^2 neighbours, edges repeated; by running sums."""
    for axis in (1, 2):
        length = pixels.shape[axis]
        ends = torch.arange(-radius - 1, length + radius).clamp(0, length - 1)
        sums = pixels.double().index_select(axis, ends).cumsum(dim=axis)
        ahead, behind = sums.narrow(axis, 2 * radius + 1, length), sums.narrow(axis, 0, length)
        pixels = ((ahead - behind) / (2 * radius + 1)).to(pixels.dtype)
    return pixels


def apply_tone(tone: ToneMap, pixels: Tensor, rows: slice | None = None, height: int | None = None) -> Tensor:
    """A picture after a tone map, without what it sharpens.

    Args:
        tone: the map.
        pixels: (3, H, W) in [0, 1], of any size: all of a picture, or the `rows` of one of `height` rows.
        rows: which they are.
        height: of the whole picture.

    Returns:
        (3, H, W) in [0, 1], of the map's dtype.
    """
    total, width = height or pixels.shape[1], pixels.shape[2]
    start = 0 if rows is None else rows.start
    tables = _interpolated(tone.curves, 16 * 255 + 1, exact_ends=True)
    fields = _interpolated(tone.affine, width)  # (3, 4, h, W)
    mapped = torch.empty(pixels.shape, dtype=tone.affine.dtype)
    for part in _parts(pixels.shape[1], width):
        x = pixels[:, part].to(mapped.dtype)
        lower, upper, share = _neighbours(torch.arange(start + part.start, start + part.stop), total, fields.shape[2])
        steps = [(one * (tables.shape[2] - 1)).round().clamp_(0, tables.shape[2] - 1).int() for one in (*x, _luma(x))]
        products = _products(x)
        for to in range(3):
            here = torch.lerp(fields[to, :, lower], fields[to, :, upper], share[:, None].to(mapped.dtype))
            value = here[0].addcmul_(here[1], x[0]).addcmul_(here[2], x[1]).addcmul_(here[3], x[2])
            for table, at in zip(tables[to], steps, strict=True):
                value += table.index_select(0, at.flatten()).view(value.shape)
            for factor, product in zip(tone.products[to].tolist(), products, strict=True):
                value.add_(product, alpha=factor)
            mapped[to, part] = value.clamp_(0, 1)
    return mapped


def sharpen_radius(size: tuple[int, int], side: int) -> int:
    """Pixels of a picture of `size` = (W, H) that a drawing of `side` pixels sharpens over, its finest detail."""
    return max(1, max(size) // max(FINE, side))


def _parts(height: int, width: int) -> Iterator[slice]:
    """Rows, few at a time."""
    rows = max(1, PIXELS_AT_ONCE // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _neighbours(places: Tensor, length: int, known: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of places on a line of `length` pixels: the two of `known` wider pixels around them, and the second's share."""
    at = ((places.double() + 0.5) * known / length - 0.5).clamp(0, known - 1)
    lower = at.long()
    return lower, (lower + 1).clamp_max(known - 1), at - lower


def _interpolated(values: Tensor, length: int, exact_ends: bool = False) -> Tensor:
    """(..., n) -> (..., length), linear; the first and last value lie at the ends, or half a pixel inside."""
    flat = F.interpolate(values.flatten(0, -2)[None], length, mode="linear", align_corners=exact_ends)
    return flat.reshape(*values.shape[:-1], length)
