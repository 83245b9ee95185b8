"""One output of one sample by the rules of a protocol: a number, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from insightedit.evaluation.core.statistics import mean
from insightedit.evaluation.judge.viescore import Verdict, judge_edit
from insightedit.evaluation.metrics import masks, pixels, similarity, subjects
from insightedit.evaluation.metrics.masks import MaskedPair
from insightedit.images.reading import read_picture, squash, to_rgb

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


class UnmeasuredError(ValueError):
    """A column that has no meaning, or no means, for this sample."""


class SampleView:
    """A sample with its pictures, each opened when it is first asked for.

    Attributes:
        sample: what is looked at.
        round_trip: pictures through the editor's autoencoder and back; None if it is not known.
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
        return _open_all(self.sample.references)

    @cached_property
    def subjects(self) -> tuple[np.ndarray, ...]:
        """Real pictures of the subject."""
        return _open_all(self.sample.subjects)

    def reference(self, name: str) -> np.ndarray:
        """What an output is compared with, see `MetricRule.reference`.

        Raises:
            UnmeasuredError: if the sample has no such picture.
        """
        pictures = {
            "source": lambda: self.source,
            "target": lambda: self.target,
            "subject": lambda: next(iter(self.subjects), None),
            "input subject": lambda: next(iter(self.references), None),
        }
        picture = pictures[name]()
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

    def exact(self, edited: np.ndarray) -> Mapping[str, Any]:
        """All that can be told of an output where the right answer is known exactly.

        Raises:
            UnmeasuredError: if it is not.
        """
        raise UnmeasuredError("the sample's answer is not known exactly")


def open_rgb(path: Path | None) -> np.ndarray | None:
    """(H, W, 3) uint8 of a file; None for None."""
    return None if path is None else to_rgb(read_picture(path))


def _open_all(paths: Iterable[Path]) -> tuple[np.ndarray, ...]:
    return tuple(to_rgb(read_picture(path)) for path in paths)


class Prediction:
    """One output of a sample, and what several columns of it share.

    Attributes:
        view: the sample.
        edited: (H, W, 3) uint8.
        protocol: its rules.
        models: what it measures with.
    """

    def __init__(self, view: SampleView, edited: np.ndarray, protocol: Protocol, models: MetricModels) -> None:
        self.view, self.edited = view, edited
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
        if rule.frame == "square":
            return middle_square(edited, self.protocol.side), middle_square(reference, self.protocol.side)
        return edited, reference

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
        return self.view.exact(self.edited)

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


def middle_square(picture: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (side, side, 3) uint8: the middle square, bicubic."""
    return squash(masks.crop(picture, _middle(picture.shape[1], picture.shape[0])), side)


def _middle(width: int, height: int) -> masks.Box:
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return masks.Box(left, top, left + side, top + side)


def measure(output: Prediction, rules: Sequence[MetricRule]) -> dict[MetricRule, Outcome]:
    """All columns of an output.

    Args:
        output: what is measured.
        rules: columns of its protocol.

    Returns:
        MetricRule -> number or reason; a column whose network is missing, or that fails for this sample, has a reason.

    Raises:
        ChatError, MissingReplyError: if a judge gives no reply at all.
    """
    return {rule: _measured(output, rule) for rule in rules}


def _measured(output: Prediction, rule: MetricRule) -> Outcome:
    lacking = [key for key in rule.models if key in output.models.missing]
    if lacking:
        return Outcome(None, error=f"not measured: {', '.join(lacking)} is missing, run.json says why")
    try:
        return MEASURES.get(rule.measure, _named)(output, rule)
    except (UnmeasuredError, masks.MaskError) as error:
        return Outcome(None, error=str(error))
    except (ValueError, TypeError) as error:
        return Outcome(None, error=f"failed: {error}")


def _background_psnr(output: Prediction, rule: MetricRule) -> Outcome:
    pair = output.pair(rule)
    found = pixels.psnr(pair.source, pair.edited, keep=pair.region, cap=output.protocol.psnr_cap)
    return Outcome(found.value, found.capped)


def _background_ssim(output: Prediction, rule: MetricRule) -> Outcome:
    pair = output.pair(rule)
    border = output.protocol.ssim_border
    return Outcome(pixels.ssim(pair.source, pair.edited, keep=pair.region, crop_border=border))


def _background_lpips(output: Prediction, rule: MetricRule) -> Outcome:
    pair = output.pair(rule)
    return Outcome(_tool(output, rule).distance(pair.source, pair.edited, keep=pair.region))


def _crop_clip_score(output: Prediction, rule: MetricRule) -> Outcome:
    label = _caption(output, rule)
    label = label if rule.variant == "paper" else label.strip()
    return Outcome(similarity.clip_score(_tool(output, rule), output.crop(rule), label))


def _l1(output: Prediction, rule: MetricRule) -> Outcome:
    return Outcome(pixels.l1(*output.same_size(rule)))


def _l2(output: Prediction, rule: MetricRule) -> Outcome:
    return Outcome(pixels.l2(*output.same_size(rule)))


def _ssim(output: Prediction, rule: MetricRule) -> Outcome:
    return Outcome(pixels.ssim(*output.same_size(rule), crop_border=output.protocol.ssim_border))


def _lpips(output: Prediction, rule: MetricRule) -> Outcome:
    return Outcome(_tool(output, rule).distance(*output.same_size(rule)))


def _image_similarity(output: Prediction, rule: MetricRule) -> Outcome:
    reference = output.view.reference(rule.reference)
    return Outcome(similarity.image_similarity(_tool(output, rule), output.edited, reference, scale=rule.scale))


def _mean_image_similarity(output: Prediction, rule: MetricRule) -> Outcome:
    return Outcome(similarity.mean_image_similarity(_tool(output, rule), output.edited, output.view.subjects))


def _text_similarity(output: Prediction, rule: MetricRule) -> Outcome:
    caption = _caption(output, rule)
    if rule.equal_captions == "leave out" and _are_captions_equal(output):
        raise UnmeasuredError("left out: the captions before and after are equal")
    return Outcome(similarity.text_similarity(_tool(output, rule), output.edited, caption, scale=rule.scale))


def _direction(output: Prediction, rule: MetricRule) -> Outcome:
    sample, caption = output.view.sample, _caption(output, rule)
    if not sample.source_caption.strip():
        raise UnmeasuredError("the sample has no source_caption")
    source = output.view.reference("source")
    value = similarity.direction_similarity(_tool(output, rule), source, output.edited, sample.source_caption, caption)
    if value is not None:
        return Outcome(value)
    if rule.equal_captions == "zero":
        return Outcome(0.0)
    raise UnmeasuredError("left out: the captions before and after are equal")


def _subject_similarity(output: Prediction, rule: MetricRule) -> Outcome:
    subject, cut = output.view.reference(rule.reference), output.cut
    if rule.variant == "strict" and cut.detection is None:
        raise UnmeasuredError("left out: the subject was not found")
    return Outcome(similarity.image_similarity(_tool(output, rule), cut.picture, subject))


def _subject_found(output: Prediction, rule: MetricRule) -> Outcome:
    return Outcome(float(output.cut.detection is not None))


def _judged(output: Prediction, rule: MetricRule) -> Outcome:
    column = rule.measure.removeprefix("judge_")
    values = [verdict.values[column] for verdict in output.verdicts]
    if rule.variant == "strict":
        return Outcome(math.fsum(value or 0.0 for value in values) / len(values))
    average = mean(values)
    if average is None:
        reasons = sorted({reason for verdict in output.verdicts for reason in verdict.missing.values()})
        raise UnmeasuredError(f"no answer of the judge can be read: {', '.join(reasons)}")
    return Outcome(average)


def _scenes(output: Prediction, rule: MetricRule) -> Outcome:
    is_success = rule.name in ("success", "pair_success")
    value = output.exact["success" if is_success else rule.name]
    if value is None:
        raise UnmeasuredError("has no meaning for this scene")
    is_capped = rule.name == "psnr_background" and output.exact["capped"]
    return Outcome(float(value), is_capped, facts=output.exact if is_success else {})


MEASURES: dict[str, Callable[[Prediction, MetricRule], Outcome]] = {
    "background_psnr": _background_psnr,
    "background_ssim": _background_ssim,
    "background_lpips": _background_lpips,
    "crop_clip_score": _crop_clip_score,
    "l1": _l1,
    "l2": _l2,
    "ssim": _ssim,
    "lpips": _lpips,
    "image_similarity": _image_similarity,
    "mean_image_similarity": _mean_image_similarity,
    "text_similarity": _text_similarity,
    "direction": _direction,
    "subject_similarity": _subject_similarity,
    "subject_found": _subject_found,
    "scenes": _scenes,
    "judge_O": _judged,
    "judge_SC": _judged,
    "judge_PQ": _judged,
    "judge_mean": _judged,
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


def _named(output: Prediction, rule: MetricRule) -> Outcome:
    """The value of a metric that is named by where it lies."""
    metric = load_named(rule.measure, "metric")
    for part in getattr(metric, "needs", ()):
        if part in PARTS and not _has(output.view, part):
            raise UnmeasuredError(f"the sample has no {part}")
    value = metric(output)
    if value is None:
        raise UnmeasuredError("the metric gives no value")
    if not math.isfinite(value):
        raise UnmeasuredError(f"the metric gives {value}")
    return Outcome(float(value))


def _has(view: SampleView, part: str) -> bool:
    found = getattr(view if part in PICTURES else view.sample, part)
    return found is not None and len(found) > 0


def _tool(output: Prediction, rule: MetricRule) -> Any:
    return output.models.found[rule.models[0]]


def _caption(output: Prediction, rule: MetricRule) -> str:
    text: str = getattr(output.view.sample, rule.caption)
    if not text.strip():
        raise UnmeasuredError(f"the sample has no {rule.caption}")
    return text


def _are_captions_equal(output: Prediction) -> bool:
    sample = output.view.sample
    return bool(sample.source_caption) and sample.source_caption == sample.target_caption
