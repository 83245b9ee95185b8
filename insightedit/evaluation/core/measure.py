"""One output of one sample by the rules of a protocol: a number, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from insightedit.chat.rubrics import RUBRICS
from insightedit.evaluation.benchmarks.base import BenchmarkSample
from insightedit.evaluation.benchmarks.registry import load_named
from insightedit.evaluation.core.metric_models import MetricModels
from insightedit.evaluation.core.protocol import MetricRule, Protocol
from insightedit.evaluation.core.run_folder import SILENT, Said
from insightedit.evaluation.core.statistics import mean
from insightedit.evaluation.judge.viescore import Verdict, judge_edit
from insightedit.evaluation.metrics import masks, pixels, similarity, subjects
from insightedit.evaluation.metrics.masks import MaskedPair
from insightedit.images.reading import read_rgb, squash

RoundTrip = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Outcome:
    """A column of one output."""

    value: float | None  # None if there is none
    capped: bool = False  # whether it was brought down to a limit
    error: str | None = None  # why there is no value; None exactly if there is one
    facts: Mapping[str, Any] = field(default_factory=dict)  # see `MetricRecord`


PICTURES = ("source", "target", "mask", "references", "subjects")
PARTS = (*PICTURES, "source_caption", "target_caption", "local_caption")  # of a sample, that a metric may need


TOLD = ("understood", "right_degree", "said_so")  # metrics of photographs that need an editor's own words


class UnmeasuredError(ValueError):
    """A column that has no meaning, or no means, for this sample."""


class SampleView:
    """A sample with its pictures, each opened when it is first asked for.

    `round_trip` sends pictures through the editor's autoencoder and back; None if it is not known.
    """

    def __init__(self, sample: BenchmarkSample, round_trip: RoundTrip | None = None) -> None:
        self.sample, self.round_trip = sample, round_trip

    @cached_property
    def source(self) -> np.ndarray | None:
        """(H, W, 3) uint8; None where something is made from nothing."""
        return open_rgb(self.sample.source)

    @cached_property
    def target(self) -> np.ndarray | None:
        """(H, W, 3) uint8; None where there is none."""
        return open_rgb(self.sample.target)

    @cached_property
    def mask(self) -> np.ndarray | None:
        """(H, W) uint8, white where edited; None where there is none."""
        return None if self.sample.mask is None else masks.read_grey(self.sample.mask)

    @cached_property
    def references(self) -> tuple[np.ndarray, ...]:
        """What the editor is given besides."""
        return tuple(map(read_rgb, self.sample.references))

    @cached_property
    def subjects(self) -> tuple[np.ndarray, ...]:
        """Real pictures of the subject."""
        return tuple(map(read_rgb, self.sample.subjects))

    def reference(self, name: str) -> np.ndarray:
        """What an output is compared with, see `MetricRule.reference`, or an UnmeasuredError."""
        if name in ("source", "target"):
            picture = getattr(self, name)
        else:
            picture = next(iter(self.subjects if name == "subject" else self.references), None)
        if picture is None:
            raise UnmeasuredError(f"the sample has no {name}")
        return picture

    @property
    def controls(self) -> list[str]:
        """Rows of pictures that nobody edited, measured beside the editor's."""
        has_source, has_target = self.sample.source is not None, self.sample.target is not None
        names = ["copy_source"] if has_source else ["copy_reference"] if self.sample.references else []
        names += ["oracle_target"] if has_target else []
        if self.round_trip is not None:
            names += ["autoencoder_source"] * has_source + ["autoencoder_target"] * has_target
        return names

    def control(self, name: str) -> np.ndarray | None:
        """(H, W, 3) uint8 of a control row; None if this sample has none."""
        kind, _, what = name.partition("_")
        picture = self.reference("input subject" if what == "reference" else what)
        return self.round_trip([picture])[0] if kind == "autoencoder" and self.round_trip is not None else picture

    def exact(self, edited: np.ndarray, said: Said) -> Mapping[str, Any]:
        """All that can be told of an output where the right answer is known exactly, else an UnmeasuredError."""
        raise UnmeasuredError("the sample's answer is not known exactly")


def open_rgb(path: Path | None) -> np.ndarray | None:
    """(H, W, 3) uint8 of a file; None for None."""
    return None if path is None else read_rgb(path)


class Prediction:
    """One output of a sample, (H, W, 3) uint8, what was told of it, and what several columns of it share."""

    def __init__(
        self, view: SampleView, edited: np.ndarray, protocol: Protocol, models: MetricModels, said: Said = SILENT
    ) -> None:
        self.view, self.edited, self.said = view, edited, said
        self.protocol, self.models = protocol, models
        self._pairs: dict[str, MaskedPair] = {}

    def pair(self, rule: MetricRule) -> MaskedPair:
        """Source and output with the edited region black."""
        if rule.frame not in self._pairs:
            source, mask = self.view.reference("source"), self._mask()
            if rule.variant == "paper":
                made = masks.paper_pair(source, self.edited, mask, side=self.protocol.side)
            else:
                made = masks.strict_pair(
                    source,
                    self.edited,
                    mask,
                    side=self.protocol.side,
                    threshold=self.protocol.mask_threshold,
                    dilation=self.protocol.dilation,
                )
            self._pairs[rule.frame] = made
        return self._pairs[rule.frame]

    def crop(self, rule: MetricRule) -> np.ndarray:
        """The edited region."""
        if rule.variant == "paper":
            return masks.paper_crop(self.edited, self._mask(), side=self.protocol.side)
        source = self.view.reference("source")
        return masks.strict_crop(self.edited, self._mask(), like=source, side=self.protocol.side)

    def same_size(self, rule: MetricRule) -> tuple[np.ndarray, np.ndarray]:
        """Output and reference in one frame."""
        reference = self.view.reference(rule.reference)
        edited = masks.match_size(self.edited, reference)
        if rule.frame != "square":
            return edited, reference
        height, width = reference.shape[:2]
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        middle = masks.Box(left, top, left + side, top + side)
        first, second = (squash(masks.crop(one, middle), self.protocol.side) for one in (edited, reference))
        return first, second

    def tool(self, rule: MetricRule) -> Any:
        """The network that a column is measured with."""
        return self.models.found[rule.models[0]]

    def caption(self, rule: MetricRule) -> str:
        """What the output is compared with, in words."""
        text: str = getattr(self.view.sample, rule.caption)
        if not text.strip():
            raise UnmeasuredError(f"the sample has no {rule.caption}")
        return text

    @cached_property
    def cut(self) -> subjects.SubjectCut:
        """The subject, cut out of the output."""
        phrase = self.view.sample.extra.get("object", "")
        if not phrase:
            raise UnmeasuredError("the sample does not say what its subject is")
        found = self.models.found
        return subjects.cut_subject(self.edited, phrase, detector=found["detector"], segmenter=found["segmenter"])

    @cached_property
    def exact(self) -> Mapping[str, Any]:
        """See `SampleView.exact`."""
        return self.view.exact(self.edited, self.said)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What the judge says, once per repeat."""
        sample = self.view.sample
        model = next(one for one in self.protocol.models if one.kind == "judge")
        return judge_edit(
            self.models.found[model.key],
            RUBRICS[model.name],
            Image.fromarray(self.view.reference("source")),
            Image.fromarray(self.edited),
            instruction=" Then: ".join((*sample.earlier, sample.instruction)),
            sample_id=sample.sample_id,
            category=sample.category,
            repeats=self.protocol.repeats,
        )

    def _mask(self) -> np.ndarray:
        if self.view.mask is None:
            raise UnmeasuredError("the sample has no mask")
        return self.view.mask


def measure(output: Prediction, rule: MetricRule) -> Outcome:
    """One column of an output: a number, or why there is none: its network is missing, or it fails for this sample.

    Raises:
        ChatError, MissingReplyError: if a judge gives no reply at all.
    """
    if lacking := [key for key in rule.models if key in output.models.missing]:
        return Outcome(None, error=f"not measured: {', '.join(lacking)} is missing, run.json says why")
    try:
        found = MEASURES.get(rule.measure, _named)(output, rule)
        return found if isinstance(found, Outcome) else Outcome(found)
    except (UnmeasuredError, masks.MaskError) as error:
        return Outcome(None, error=str(error))
    except (ValueError, TypeError) as error:
        return Outcome(None, error=f"failed: {error}")


def _background_psnr(output: Prediction, rule: MetricRule) -> Outcome:
    pair = output.pair(rule)
    found = pixels.psnr(pair.source, pair.edited, keep=pair.region, cap=output.protocol.psnr_cap)
    return Outcome(found.value, found.capped)


def _background_ssim(output: Prediction, rule: MetricRule) -> float:
    pair = output.pair(rule)
    return pixels.ssim(pair.source, pair.edited, keep=pair.region, crop_border=output.protocol.ssim_border)


def _background_lpips(output: Prediction, rule: MetricRule) -> float:
    pair = output.pair(rule)
    return output.tool(rule).distance(pair.source, pair.edited, keep=pair.region)


def _crop_clip_score(output: Prediction, rule: MetricRule) -> float:
    label = output.caption(rule) if rule.variant == "paper" else output.caption(rule).strip()
    return similarity.clip_score(output.tool(rule), output.crop(rule), label)


def _text_similarity(output: Prediction, rule: MetricRule) -> float:
    sample, caption = output.view.sample, output.caption(rule)
    is_equal = bool(sample.source_caption) and sample.source_caption == sample.target_caption
    if rule.equal_captions == "leave out" and is_equal:
        raise UnmeasuredError("left out: the captions before and after are equal")
    return similarity.text_similarity(output.tool(rule), output.edited, caption, scale=rule.scale)


def _direction(output: Prediction, rule: MetricRule) -> float:
    before, after = output.view.sample.source_caption, output.caption(rule)
    if not before.strip():
        raise UnmeasuredError("the sample has no source_caption")
    source = output.view.reference("source")
    value = similarity.direction_similarity(output.tool(rule), source, output.edited, before, after)
    if value is None and rule.equal_captions != "zero":
        raise UnmeasuredError("left out: the captions before and after are equal")
    return value or 0.0


def _subject_similarity(output: Prediction, rule: MetricRule) -> float:
    subject, cut = output.view.reference(rule.reference), output.cut
    if rule.variant == "strict" and cut.detection is None:
        raise UnmeasuredError("left out: the subject was not found")
    return similarity.image_similarity(output.tool(rule), cut.picture, subject)


def _judged(output: Prediction, rule: MetricRule) -> float:
    column = rule.measure.removeprefix("judge_")
    values = [verdict.values[column] for verdict in output.verdicts]
    if rule.variant == "strict":
        return math.fsum(value or 0.0 for value in values) / len(values)
    average = mean(values)
    if average is None:
        reasons = sorted({reason for verdict in output.verdicts for reason in verdict.missing.values()})
        raise UnmeasuredError(f"no answer of the judge can be read: {', '.join(reasons)}")
    return average


def _scenes(output: Prediction, rule: MetricRule) -> Outcome:
    is_success = rule.name in ("success", "pair_success")
    value = output.exact["success" if is_success else rule.name]
    if value is None:
        raise UnmeasuredError("has no meaning for this scene")
    is_capped = rule.name == "psnr_background" and output.exact["capped"]
    return Outcome(float(value), is_capped, facts=output.exact if is_success else {})


def _photos(output: Prediction, rule: MetricRule) -> Outcome:
    value = output.exact.get(rule.name)
    if value is None:
        silent = "not measured: the editor does not tell what it understood"
        raise UnmeasuredError(silent if rule.name in TOLD else "has no meaning for this photograph")
    is_first = rule.name == output.view.sample.metrics[0]
    is_capped = rule.name == "psnr" and output.exact["capped"]
    return Outcome(float(value), is_capped, facts=output.exact if is_first else {})


MEASURES: dict[str, Callable[[Prediction, MetricRule], float | Outcome]] = {
    "background_psnr": _background_psnr,
    "background_ssim": _background_ssim,
    "background_lpips": _background_lpips,
    "crop_clip_score": _crop_clip_score,
    "l1": lambda output, rule: pixels.l1(*output.same_size(rule)),
    "l2": lambda output, rule: pixels.l2(*output.same_size(rule)),
    "ssim": lambda output, rule: pixels.ssim(*output.same_size(rule), crop_border=output.protocol.ssim_border),
    "lpips": lambda output, rule: output.tool(rule).distance(*output.same_size(rule)),
    "image_similarity": lambda output, rule: similarity.image_similarity(
        output.tool(rule), output.edited, output.view.reference(rule.reference), scale=rule.scale
    ),
    "mean_image_similarity": lambda output, rule: similarity.mean_image_similarity(
        output.tool(rule), output.edited, output.view.subjects
    ),
    "text_similarity": _text_similarity,
    "direction": _direction,
    "subject_similarity": _subject_similarity,
    "subject_found": lambda output, rule: float(output.cut.detection is not None),
    "scenes": _scenes,
    "photos": _photos,
    **dict.fromkeys(("judge_O", "judge_SC", "judge_PQ", "judge_mean"), _judged),
}


def metric_rule(name: str, protocol: Protocol) -> MetricRule:
    """The column of a metric that somebody else wrote, to be added to a protocol.

    A metric is a function, or a class that is called, of a `Prediction` that gives a number, or None where it has no
    meaning. It may say `name` (else its own), `better` ("higher" or "lower"), and `needs`: pictures and captions of the
    sample, e.g. "target", without which there is no value, and keys of the protocol's models.

    Args:
        name: `my_package.my_module:my_metric`.
        protocol: whose models it may take.

    Raises:
        ValueError: if it cannot be imported, or needs what there is not.
    """
    found = load_named(name, "metric")
    needs, better = tuple(getattr(found, "needs", ())), getattr(found, "better", "higher")
    keys = {model.key for model in protocol.models}
    if not callable(found) or {*needs} - keys - {*PARTS} or better not in ("higher", "lower"):
        raise ValueError(
            f"{name} is no metric: it is called with a prediction, its `better` is higher or lower, and it needs what "
            f"there is: {', '.join((*PARTS, *sorted(keys)))}."
        )
    title = getattr(found, "name", None) or getattr(found, "__name__", name.rpartition(":")[2])
    return MetricRule(title, name, better=better, models=tuple(n for n in needs if n in keys))


def _named(output: Prediction, rule: MetricRule) -> float:
    """The value of a metric that is named by where it lies."""
    metric = load_named(rule.measure, "metric")
    for part in getattr(metric, "needs", ()):
        if part in PARTS:
            found = getattr(output.view if part in PICTURES else output.view.sample, part)
            if found is None or len(found) == 0:
                raise UnmeasuredError(f"the sample has no {part}")
    value = metric(output)
    if value is None or not math.isfinite(value):
        raise UnmeasuredError("the metric gives no value" if value is None else f"the metric gives {value}")
    return float(value)
