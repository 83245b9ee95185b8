"""How sure a model has to be before it draws: a confidence fitted on scenes whose right answer is known.

A model edits scenes of the split `val`, a share of which ask for what cannot be done (task `decline`). Of each it is
known whether drawing was right, and `insightedit.pipelines.understanding.Signs` were noted. A logistic regression of
the signs gives the confidence; the threshold is the one that decides right most often (draws what is right, leaves
alone what is not), as long as it holds back few of the edits that would have been right. All numbers about it are
cross-fitted: each request is judged by a model that was fitted without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from insightedit.evaluation.core.editing_methods import noise_seed, to_uint8
from insightedit.evaluation.scenes.benchmark import case_of
from insightedit.evaluation.scenes.scoring import score_edit
from insightedit.pipelines.understanding import SIGNS

if TYPE_CHECKING:
    from insightedit.pipelines.edit import InsightEditPipeline
    from insightedit.pipelines.understanding import Signs
    from insightedit.scenes import EditSample

DECLINES = 0.25  # share of the requests that ask for what cannot be done
MAX_HELD_BACK = 0.05  # of the edits that would have been right
FOLDS, BINS = 5, 10
RIDGE = 1.0  # penalty on weights of standardised signs, against a log loss that is summed over the requests
DIGITS = 5  # of what is kept


@dataclass(frozen=True)
class CalibrationCase:
    """What a model made of one request."""

    signs: Signs | None  # None where it refused in words
    is_right: bool  # whether drawing what it drew is right; False where it refused
    is_possible: bool  # whether the request can be done


def ask(pipeline: InsightEditPipeline, samples: Sequence[EditSample], *, seed: int = 0) -> list[CalibrationCase]:
    """What a model makes of scenes, by words and drawing, whatever its own confidence: with the background lock.

    Drawing is right if the edit succeeds by the scenes' scoring, or if the right words were said and of all candidates
    the right one is nearest. Of a request that cannot be done it is right only if nothing changed.
    """
    kept = pipeline.config["confidence_calibration"]
    pipeline.register_to_config(confidence_calibration=None)
    try:
        result: Any = pipeline(
            image=[sample.source for sample in samples],
            instruction=[sample.instruction for sample in samples],
            seed=[noise_seed(sample, seed) for sample in samples],
            batch_size=len(samples),
            output_type="np",
        )
    finally:
        pipeline.register_to_config(confidence_calibration=kept)
    outcomes = []
    told = zip(samples, result.images, result.expressive_instructions, result.understood, result.signs, strict=True)
    for number, (sample, picture, said, understood, signs) in enumerate(told):
        possible = sample.task != "decline"
        if said is None:
            raise ValueError("this model writes nothing before it edits: there is nothing to be sure of.")
        if not possible:
            is_right = understood and not result.masks[number].any()
        elif is_right := understood:
            scores = score_edit(case_of(sample), to_uint8(np.asarray(picture)))
            is_right = scores.success or (said == sample.expressive_instruction and scores.nearest == "target")
        outcomes.append(CalibrationCase(signs, is_right, possible))
    return outcomes


def fit(signs: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (S,) and bias of a ridge logistic regression of signs (N, S) float64 on what was right (N,) bool."""
    mean, spread = signs.mean(axis=0), signs.std(axis=0)
    spread[spread == 0] = np.inf  # a sign that never differs gets no weight
    scaled, wanted = (signs - mean) / spread, right.astype(np.float64)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        score = scaled @ values[:-1] + values[-1]
        gap = expit(score) - wanted  # the log loss's slope
        total = np.logaddexp(0.0, score).sum() - wanted @ score + RIDGE / 2 * np.square(values[:-1]).sum()
        return float(total), np.append(gap @ scaled + RIDGE * values[:-1], gap.sum())

    found = minimize(loss, np.zeros(signs.shape[1] + 1), jac=True, method="BFGS").x
    weights = found[:-1] / spread
    return weights, float(found[-1] - weights @ mean)


def cross_fitted(signs: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(N,) float64 in [0, 1]: the confidence in each request of a model that was fitted without its fold."""
    confidence = np.empty(len(right))
    for fold in range(FOLDS):
        own = np.arange(len(right)) % FOLDS == fold
        weights, bias = fit(signs[~own], right[~own])
        confidence[own] = expit(signs[own] @ weights + bias)
    return confidence


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean distance of confidence and rate of what was right, over bins of equal numbers of requests; 0..1.

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning" (AAAI 2015).
    """
    order = np.argsort(confidence, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if part.size]
    return float(sum(abs(confidence[part].mean() - right[part].mean()) * part.size for part in bins) / len(right))


def best_threshold(confidence: np.ndarray, right: np.ndarray) -> float:
    """The threshold that decides most requests right and holds back at most `MAX_HELD_BACK` of the right edits.

    Those at or above it are drawn. Of equally good ones the lowest, which draws most.
    """
    between = np.unique(confidence)
    choices = np.append(0.0, (between[1:] + between[:-1]) / 2)
    drawn = confidence >= choices[:, None]
    held_back = (~drawn & right).sum(axis=1) / max(1, int(right.sum()))
    decided = (drawn == right).sum(axis=1)
    return float(choices[np.argmax(np.where(held_back <= MAX_HELD_BACK, decided, -1))])


def calibrate(outcomes: Sequence[CalibrationCase], about: str) -> dict[str, Any]:
    """The setting `confidence_calibration` of a pipeline, with what is known of how good it is.

    `about` says on what. Beside `weights`, `bias` and `threshold` it holds rates, 0..1: `decided_right` of all requests
    (and `decided_right_ungated`, without the threshold), `held_back` of the edits that would have been right,
    `refused_wrongly` of the requests that can be done (in words or by the threshold, though drawing would have been
    right, or nobody knows), `left_alone` of those that cannot.

    Raises:
        ValueError: if there are not at least `FOLDS` requests of each kind, drawn right and drawn wrong.
    """
    judged = [one for one in outcomes if one.signs is not None]
    right = np.array([one.is_right for one in judged], dtype=bool)
    if min(right.sum(), (~right).sum()) < FOLDS:
        raise ValueError(
            f"of {len(judged)} requests that it draws the model understood {int(right.sum())}: at least {FOLDS} right "
            "and wrong ones are needed. Take more, or a model that can do some of them."
        )
    signs = np.array([[getattr(one.signs, name) for name in SIGNS] for one in judged], dtype=np.float64)
    confidence = cross_fitted(signs, right)
    threshold = best_threshold(confidence, right)
    drawn, possible = confidence >= threshold, np.array([one.is_possible for one in judged])
    refused = [one for one in outcomes if one.signs is None]
    refused_right = sum(not one.is_possible for one in refused)
    total, doable = len(outcomes), sum(one.is_possible for one in outcomes)
    weights, bias = fit(signs, right)
    rates = {
        "expected_calibration_error": expected_calibration_error(confidence, right),
        "brier": float(np.square(confidence - right).mean()),
        "decided_right": (int((drawn == right).sum()) + refused_right) / total,
        "decided_right_ungated": (int(right.sum()) + refused_right) / total,
        "held_back": int((~drawn & right).sum()) / int(right.sum()),
        "refused_wrongly": (len(refused) - refused_right + int((~drawn & right & possible).sum())) / max(1, doable),
        "left_alone": (int((~drawn & ~possible).sum()) + refused_right) / max(1, total - doable),
    }
    return {
        "weights": {name: round(float(weight), DIGITS) for name, weight in zip(SIGNS, weights, strict=True)},
        "bias": round(bias, DIGITS),
        "threshold": round(threshold, DIGITS),
        "data": about,
        "count": total,
        **{name: round(rate, DIGITS) for name, rate in rates.items()},
    }


def calibrate_model(
    pipeline: InsightEditPipeline,
    *,
    count: int = 400,
    seed: int = 0,
    pack: Path | None = None,
    batch_size: int = 16,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """`calibrate` on the first `count` scenes of the split `val`; `pack` has photographs of one's own beside.

    Args:
        pipeline: of a model that writes before it edits.
        count: requests, `DECLINES` of which cannot be done.
        seed: of scenes and noise.
        pack: see `Assets.embedded`.
        batch_size: requests at a time.
        progress: called with how many more are done.
    """
    from insightedit.scenes import Assets, SceneSampler

    side = int(pipeline.config["resolution"])
    sampler = SceneSampler("val", side, seed, Assets.embedded(pack), declines=DECLINES)
    outcomes: list[CalibrationCase] = []
    for start in range(0, count, batch_size):
        part = [sampler[index] for index in range(start, min(start + batch_size, count))]
        outcomes += ask(pipeline, part, seed=seed)
        if progress is not None:
            progress(len(part))
    shown = "" if pack is None else f" and photographs of {Path(pack).name}"
    return calibrate(outcomes, f"{count} scenes of the split val{shown} at {side} px, seed {seed}")
