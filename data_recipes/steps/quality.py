"""AdvancedEdit's fifth step: what the pixels say, then what a judge says (VIEScore), and who is refused.

The pixels are looked at first, since that costs nothing: an edit has to be where its mask is. Then a judge is asked the
two questions of `insightedit.evaluation.judge` with the rubric "insightedit", 0 to 5: semantic consistency (SC: success
and restraint, it sees both pictures and an instruction) and perceptual quality (PQ: naturalness and cleanness, it sees
the target). Each of the two is the smaller of its scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.backends.base import Question
from data_recipes.runner.records import Record
from data_recipes.runner.steps import Context, Outcome, attempts, one_of, up_to
from data_recipes.steps.asking import Asking, AskingStep, Round, UnusableError, ask_all
from insightedit.chat.rubrics import RUBRICS
from insightedit.chat.scores import parse_reply

Scores = tuple[float, ...]


@dataclass(frozen=True)
class Quality(AskingStep):
    """Refuses pairs that are not what they say, or do not look like a picture.

    No rule on the scores is published: all thresholds are ours.
    """

    min_sc: float = 4.0  # least semantic consistency, on the rubric's scale
    min_pq: float = 3.0  # least perceptual quality; lower, since small faults do less harm than wrong instructions
    # "insightedit" (0 to 5, as published), "viescore" or "gedit" (0 to 10)
    rubric: str = one_of("insightedit", [name for name, one in RUBRICS.items() if {"SC", "PQ"} <= set(one.columns)])
    judged: str = one_of("each", ("each", "first"))  # "first" costs a fraction, and leaves wrong rewordings in
    first_must_fit: bool = True  # refuse a pair whose first wording, which names what it claims to show, does not fit
    attempts: int = attempts()  # how often a question is asked until its answer is readable
    on_missing: str = one_of("reject", ("reject", "keep"))  # what is done without a readable answer
    tolerance: int = up_to(12, 255)  # grey levels, in any channel, up to which two pixels count as the same
    max_outside: float = up_to(0.001, 1)  # largest share of the picture that changes outside the mask
    min_inside: float = up_to(0.2, 1)  # least share of the mask that changes: less, and the mask is loose
    min_changed: float = up_to(0.001, 1)  # least share of the picture that changes

    name = "quality"
    needs = ("judge",)

    def __post_init__(self) -> None:
        super().__post_init__()
        highest = self._part("SC").scale.high
        for setting in ("min_sc", "min_pq"):
            if not 0 <= getattr(self, setting) <= highest:
                raise ValueError(
                    f"steps.{self.name}.{setting} is {getattr(self, setting)}: it has to be from 0 to {highest:g}."
                )

    @property
    def prompts(self) -> Mapping[str, str]:  # type: ignore[override]
        """Of the judge."""
        return {question.part.lower(): question.prompt for question in RUBRICS[self.rubric].questions_for("")}

    def _part(self, part: str) -> Any:
        return next(question for question in RUBRICS[self.rubric].questions_for("") if question.part == part)

    def _prepare(self, record: Record, context: Context) -> Outcome:
        """What the pixels say, without asking anyone."""
        source, target, mask = record.source, record.target, record.mask
        if target is None:
            return self.reject(record, "is no pair")
        if not record.wordings:
            return self.reject(record, "no instruction")
        if mask is not None and not mask.any():
            return self.reject(record, "mask is empty")
        if source is None:
            return record
        if source.shape != target.shape:
            return self.reject(record, "sizes differ", f"{source.shape[:2]} and {target.shape[:2]}")
        changed = changed_pixels(source, target, self.tolerance)
        if changed.mean() < self.min_changed or not changed.any():
            return self.reject(record, "nothing was changed", f"{changed.mean():.3%} of the picture")
        if mask is None:
            return record
        outside = (changed & ~mask).mean()
        if outside > self.max_outside:
            return self.reject(record, "changed outside the mask", f"{outside:.2%} of the picture")
        inside = np.count_nonzero(changed & mask) / np.count_nonzero(mask)
        is_loose = inside < self.min_inside
        return self.reject(record, "mask is loose", f"{inside:.1%} of it changed") if is_loose else record

    def _rounds(self) -> Sequence[Round]:
        def asking(record: Record) -> Asking[Scores]:
            return self._ask(record, "PQ", self._pictures(record)[-1:])

        def use(record: Record, found: Scores) -> Outcome:
            scores = dict(zip(self._part("PQ").scale.names, found, strict=True))
            if min(found) < self.min_pq:
                return self.reject(record, "PQ is too low", _told(scores))
            return record.but(scores={**record.scores, "PQ": min(found), **scores})

        return [(asking, use, partial(self._missing, part="PQ"))]

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """First PQ, which needs one answer a pair; then SC of the pairs that are left, which sees each wording."""
        outcomes = super().__call__(records, context)
        left = [one for (one,) in outcomes if isinstance(one, Record)]
        most = None if self.judged == "each" else 1
        shown = {record.key: self._pictures(record) for record in left}
        asked = [(record, text) for record in left for text in record.wordings[:most]]
        jobs = [self._ask(record, "SC", shown[record.key], text) for record, text in asked]
        said: dict[str, dict[str, Scores | UnusableError]] = {record.key: {} for record in left}
        for (record, text), answer in zip(asked, ask_all(context.backend("judge"), jobs, self.attempts), strict=True):
            said[record.key][text] = answer
        return [[self._with_sc(one, said[one.key]) if isinstance(one, Record) else one] for (one,) in outcomes]

    def _ask(self, record: Record, part: str, shown: tuple[np.ndarray, ...], text: str = "") -> Asking[Scores]:
        question = self._part(part)

        def read(answer: str) -> Scores:
            parsed = parse_reply(answer, question.scale)
            if parsed.scores is None:
                raise UnusableError(str(parsed.missing))
            return parsed.scores

        about = {"instruction": text} if part == "SC" else {}
        return Question(question.ask(text), shown, part.lower(), about, record.truth), read

    def _pictures(self, record: Record) -> tuple[np.ndarray, ...]:
        """What the judge sees: source (else the references) and target, at the rubric's sizes."""
        assert record.target is not None
        if record.source is None:
            return (*record.references, record.target)
        before, after = Image.fromarray(record.source), Image.fromarray(record.target)
        return tuple(np.asarray(one) for one in RUBRICS[self.rubric].prepare(before, after))

    def _with_sc(self, record: Record, said: Mapping[str, Scores | UnusableError]) -> Outcome:
        """The record with the wordings that fit; the scores are the worst among these."""
        known = {text: answer for text, answer in said.items() if not isinstance(answer, UnusableError)}
        if not known:
            return self._missing(record, str(next(iter(said.values()))), "SC")
        fits = {text: scores for text, scores in known.items() if min(scores) >= self.min_sc}
        names = self._part("SC").scale.names
        first = next(iter(said))
        if not fits or (self.first_must_fit and first in known and first not in fits):
            best = known[first] if first in known else max(known.values(), key=min)
            return self.reject(record, "SC is too low", _told(dict(zip(names, best, strict=True))))
        worst = min(fits.values(), key=min)
        unread = set(said) - set(known) if self.on_missing == "keep" else set()
        out = [text for text in said if text not in fits and text not in unread]
        kept = {
            kind: left
            for kind, texts in record.instructions.items()
            if (left := tuple(text for text in texts if text not in out))
        }
        scores = {**record.scores, "SC": min(worst), **dict(zip(names, worst, strict=True))}
        if "PQ" in scores:
            scores["O"] = math.sqrt(scores["SC"] * scores["PQ"])
        notes = {**record.notes, "wordings_refused": out} if out else record.notes
        return record.but(instructions=kept, scores=scores, notes=notes)

    def _missing(self, record: Record, fault: str, part: str) -> Outcome:
        if self.on_missing == "reject":
            return self.reject(record, "judge failed", f"{part}: {fault}")
        failed = [*record.notes.get("judge_failed", ()), part]
        return record.but(notes={**record.notes, "judge_failed": failed})


def changed_pixels(source: np.ndarray, target: np.ndarray, tolerance: int) -> np.ndarray:
    """(H, W) bool: where two (H, W, 3) uint8 pictures differ by more than `tolerance` grey levels in a channel."""
    gap = np.maximum(source, target) - np.minimum(source, target)
    return np.any(gap > tolerance, axis=-1)  # type: ignore[return-value]


def _told(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in scores.items())
