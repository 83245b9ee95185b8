"""Whether a request was understood: what the model refuses in words, and how sure one may be of all the rest.

A model that learnt to refuse says so before it edits ("there is no ladybug", "i cannot do that"); its folder names how
such sentences begin (`refusals`). Of what it does not refuse, a logistic model of a few signs tells how likely the
right edit was understood (`confidence_calibration`, fitted by `insightedit calibrate`): how sure the language model
was of its words, whether the drawing lies where the words say, and whether the request's words are known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from insightedit.pipelines.warnings import EditWarning, agrees, content_words, listed, split_words, told_words
from insightedit.scenes.scene import SLOTS
from insightedit.scenes.wordings import PLACES

if TYPE_CHECKING:
    from insightedit.images.background import EditComparison
    from insightedit.types import Answer

CELL_MARGIN = 0.1  # of the side: objects are wider than the ninth of the picture that they are told to stand in
MAX_REFUSALS = 1000  # characters of the setting
_PLACE = re.compile("|".join(sorted(map(re.escape, PLACES.values()), key=len, reverse=True)))  # longest first
DEEDS = ("add", "make", "paint", "remove", "replace")  # how an edit that our own data teaches to say begins
_ABSENT = re.compile(r"there (?:is|are) no (.+)")


@dataclass(frozen=True)
class Signs:
    """What speaks for and against an edit, of which a confidence is computed."""

    mean_log_prob: float  # of the tokens that the language model wrote, greedily; 0 or less
    min_log_prob: float  # of the least likely of them; 0 or less
    place: float  # how far the drawing lies where the words say, 0..1: see `agreement`
    unknown_words: float  # share of the request's words that the model was never taught, 0..1
    agrees: float  # 1 where what it says it will do follows from the request by known wordings, else 0


SIGNS = tuple(field.name for field in fields(Signs))


@dataclass(frozen=True)
class Calibration:
    """A logistic model of the signs, and from which confidence on an edit is drawn."""

    weights: Mapping[str, float]  # sign -> its weight
    bias: float
    threshold: float  # 0..1
    # what it was fitted on, and how well it does there; for people
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> Calibration | None:
        """From the setting `confidence_calibration`; None without one, a ValueError for what is none."""
        if settings is None:
            return None
        known = isinstance(settings, Mapping) and isinstance(settings.get("weights"), Mapping)
        numbers = [settings.get("bias"), settings.get("threshold"), *settings["weights"].values()] if known else [None]
        if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
            raise ValueError(
                "`confidence_calibration` needs finite numbers as `bias`, `threshold` and `weights` by sign: "
                "`insightedit calibrate` writes one."
            )
        if strange := sorted(settings["weights"].keys() - set(SIGNS)):
            raise ValueError(
                f"`confidence_calibration` weighs {strange[0][:40]!r}, which is no sign: {', '.join(SIGNS)} are."
            )
        if not 0 <= settings["threshold"] <= 1:
            raise ValueError(f"`confidence_calibration` has the threshold {settings['threshold']}: it lies in 0 to 1.")
        return cls(settings["weights"], settings["bias"], settings["threshold"], settings)

    def confidence(self, signs: Signs) -> float:
        """How likely the right edit was understood, 0..1."""
        score = self.bias + sum(weight * getattr(signs, name) for name, weight in self.weights.items())
        return 1.0 / (1.0 + math.exp(-min(max(score, -50.0), 50.0)))  # beyond, `exp` overflows


@dataclass(frozen=True)
class Understanding:
    """What was made of one request."""

    said: str | None = None  # the language model's words; None where it was not asked
    is_refusal: bool = False  # whether they say that it cannot, or no edit at all
    signs: Signs | None = None  # None without words, for a refusal, and where nothing was decoded (latents)
    confidence: float | None = None  # 0..1 that the right edit was understood; None where nothing is calibrated
    threshold: float = 0.0  # of the confidence

    @property
    def is_understood(self) -> bool:
        """Whether it is drawn without being forced to."""
        return not self.is_refusal and (self.confidence is None or self.confidence >= self.threshold)

    def warnings(self, unknown: Sequence[str] = (), forced: bool = False) -> list[EditWarning]:
        """Why nothing was changed, or, `forced`, was all the same; none for what was understood.

        `unknown` are words of the request that the model does not know.
        """
        if self.is_understood:
            return []
        said, why = told_words(self.said), f", and does not know {listed(unknown)}" if unknown else ""
        if self.is_refusal:
            absent = _ABSENT.fullmatch(said)
            told = f"there is no {absent[1]} in this picture" if absent else f'the model says "{said}"'
            end = ", but it was forced to draw" if forced else ", so nothing was changed"
            return [EditWarning("refused", told + why * (absent is None) + end)]
        assert self.confidence is not None
        told = (
            f"the model is not sure that it understood ({100 * self.confidence:.0f} %, and "
            f"{100 * self.threshold:.0f} % are needed){why}"
        )
        end = (
            f'it was forced to do "{said}"'
            if forced
            else (f'it would have done "{said}"; nothing was changed, force=True (--force) insists')
        )
        return [EditWarning("unsure", f"{told}: {end}")]


def check_refusals(refusals: str | None) -> None:
    """Refuse a setting `refusals` that is no list of beginnings of sentences, parted by `|`."""
    if refusals is None:
        return
    if not isinstance(refusals, str) or len(refusals) > MAX_REFUSALS or not all(map(split_words, refusals.split("|"))):
        raise ValueError(
            f"`refusals` is {str(refusals)[:60]!r}: give how refusing sentences begin, parted by |, e.g. "
            f'"there is no|i cannot", of at most {MAX_REFUSALS} characters.'
        )


def is_refusal(said: str | None, refusals: str | None) -> bool:
    """Whether what a model wrote begins, word for word, with one of the beginnings that `refusals` parts by `|`."""
    words = split_words(said or "")
    return any(words[: len(start)] == start for start in map(split_words, (refusals or "").split("|")) if start)


def refuses(said: str | None, settings: Mapping[str, Any]) -> bool:
    """Whether a model says that it cannot, or, where it learnt from our own data what to say, names no edit at all.

    Of those a question is answered ("2"), and on nonsense they babble. `settings` of the pipeline: `refusals` and
    `known_words` count.
    """
    refusals = settings.get("refusals")
    if said is None or refusals is None:
        return False
    names_none = settings.get("known_words") is not None and not {*split_words(said)[:1]} & {*DEEDS}
    return names_none or is_refusal(said, refusals)


def tells_whole_picture(told: str | None, known_words: str | None) -> bool | None:
    """Whether the language model says that it changes the whole picture; None where its words do not tell.

    Models of our own data have a list of their words, and name an object or the whole picture; of others' words, only
    the latter is sure.
    """
    if told is not None and "whole picture" in told.lower():
        return True
    return False if told and known_words is not None else None


def agreement(said: str, evidence: EditComparison) -> float:
    """How far a drawing lies where the words say, 0..1.

    Of named places it is the share of the change (the edit map inside the mask) that lies in their ninths of the
    picture. Of "the whole picture" it is the share of the ninths that the change fills, counted as the inverse
    participation ratio (sum m)^2 / (9 sum m^2) of their sums m, which does not depend on how strong the change is:
    1 for an even change, 1/9 for one in a single ninth. It is 0 where nothing was drawn, or no place is named.
    """
    edit_map, side = evidence.edit_map.astype(np.float64), evidence.edit_map.shape[0]
    if tells_whole_picture(said, None):
        edges = np.linspace(0, side, 4).round().astype(int)[:3]
        sums = np.add.reduceat(np.add.reduceat(edit_map, edges, axis=0), edges, axis=1)
        total = np.square(sums).sum()
        return float(np.square(sums.sum()) / (9 * total)) if total else 0.0
    change = np.where(evidence.mask, edit_map, 0.0)
    named = {place for place, words in PLACES.items() if words in _PLACE.findall(said)}
    if not named or not change.any():
        return 0.0
    centres = (np.arange(side) + 0.5) / side
    near = [np.abs(centres - (2 * i + 1) / 6) <= 1 / 6 + CELL_MARGIN for i in range(3)]
    cells = [np.outer(near[SLOTS.index(place) // 3], near[SLOTS.index(place) % 3]) for place in named]
    return float(change[np.logical_or.reduce(cells)].sum() / change.sum())


def understand_request(
    instruction: str,
    answer: Answer | None,
    evidence: EditComparison | None,
    settings: Mapping[str, Any],
    unknown: Sequence[str] = (),
) -> Understanding:
    """What was made of one request.

    Args:
        instruction: as the model read it.
        answer: what its language model wrote; None where it was not asked.
        evidence: what was drawn; None where nothing was, or nothing was decoded.
        settings: of the pipeline: `refusals`, `known_words` and `confidence_calibration` count, where it has them.
        unknown: words of the instruction that the model does not know.
    """
    if answer is None:
        return Understanding()
    if refuses(answer.text, settings):
        return Understanding(answer.text, is_refusal=True)
    if evidence is None:
        return Understanding(answer.text)
    log_probs, words = answer.log_probs or (0.0,), split_words(instruction)
    signs = Signs(
        mean_log_prob=sum(log_probs) / len(log_probs),
        min_log_prob=min(log_probs),
        place=agreement(answer.text, evidence),
        unknown_words=len(content_words(unknown)) / max(1, len(words)),
        agrees=float(agrees(instruction, answer.text)),
    )
    calibration = Calibration.of(settings.get("confidence_calibration"))
    if calibration is None:
        return Understanding(answer.text, signs=signs)
    return Understanding(answer.text, False, signs, calibration.confidence(signs), calibration.threshold)
