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
from typing import Any

import numpy as np
from PIL import Image

from data_recipes.backends.base import Question
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context, Outcome, Step, attempts, one_of, up_to
from data_recipes.steps.asking import Answer, UnusableError, ask_all
from insightedit.chat.rubrics import RUBRICS
from insightedit.chat.scores import parse_reply

Scores = tuple[float, ...]


@dataclass(frozen=True)
class Quality(Step):
    """Refuses pairs that are not what they say, or do not look like a picture.

    No rule on the scores is published: all thresholds are ours.
    """

    min_sc: float = 4.0  # least semantic consistency, on the rubric's scale
    # least perceptual quality; below `min_sc`, since small faults do less harm than wrong instructions
    min_pq: float = 3.0
    # "insightedit" (0 to 5, as published), "viescore" or "gedit" (0 to 10)
    rubric: str = one_of("insightedit", [name for name, one in RUBRICS.items() if {"SC", "PQ"} <= set(one.columns)])
    # "each" wording is judged, and those that do not fit are taken out; or only the "first", which costs a fraction
    # and leaves wrong rewordings in
    judged: str = one_of("each", ("each", "first"))
    # whether a pair is refused if its first wording, which names what the pair claims to show, does not fit; else it
    # goes on with the wordings that do
    first_must_fit: bool = True
    attempts: int = attempts()  # how often a question is asked until its answer is readable
    # "reject" or "keep" a pair whose judge gave no readable answer
    on_missing: str = one_of("reject", ("reject", "keep"))
    # difference of two pixels in grey levels, in any channel, up to which they count as the same
    tolerance: int = up_to(12, 255)
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

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """Records with scores; refused: see `pixel_fault`, no instruction, judge failed, SC or PQ is too low."""

        def spoilt(record: Record) -> Rejected | None:
            reason, detail = self.pixel_fault(record)
            return self.reject(record, reason, detail) if reason else None

        return self.batched(records, spoilt, lambda left: self._judged(left, context.backend("judge")))

    def pixel_fault(self, record: Record) -> tuple[str, str]:
        """Why a pair is refused without asking anyone, and about this one; both "" if it is not."""
        if record.target is None or not record.wordings:
            return ("is no pair", "") if record.target is None else ("no instruction", "")
        if record.mask is not None and not record.mask.any():
            return "mask is empty", ""
        if record.source is None:
            return "", ""
        if record.source.shape != record.target.shape:
            return "sizes differ", f"{record.source.shape[:2]} and {record.target.shape[:2]}"
        changed = changed_pixels(record.source, record.target, self.tolerance)
        if changed.mean() < self.min_changed or not changed.any():
            return "nothing was changed", f"{changed.mean():.3%} of the picture"
        if record.mask is None:
            return "", ""
        outside = (changed & ~record.mask).mean()
        if outside > self.max_outside:
            return "changed outside the mask", f"{outside:.2%} of the picture"
        inside = np.count_nonzero(changed & record.mask) / np.count_nonzero(record.mask)
        if inside < self.min_inside:
            return "mask is loose", f"{inside:.1%} of it changed"
        return "", ""

    def _judged(self, records: Sequence[Record], judge: Any) -> list[Outcome]:
        """First PQ, which needs one answer a pair; then SC of the pairs that are left."""
        pictures = [self._pictures(record) for record in records]
        prompt = self._part("PQ").ask("")
        asked = [
            Question(prompt, seen[-1:], "pq", truth=record.truth)
            for record, seen in zip(records, pictures, strict=True)
        ]
        answers = self._ask(judge, "PQ", asked)
        outcomes = [self._with_pq(record, answer) for record, answer in zip(records, answers, strict=True)]
        most = None if self.judged == "each" else 1
        texts = [outcome.wordings[:most] if isinstance(outcome, Record) else () for outcome in outcomes]
        asked = [
            Question(self._part("SC").ask(text), seen, "sc", {"instruction": text}, record.truth)
            for record, seen, wordings in zip(records, pictures, texts, strict=True)
            for text in wordings
        ]
        verdicts = iter(self._ask(judge, "SC", asked))
        found = [{text: next(verdicts) for text in wordings} for wordings in texts]
        return [
            self._with_sc(outcome, said) if isinstance(outcome, Record) else outcome
            for outcome, said in zip(outcomes, found, strict=True)
        ]

    def _ask(self, judge: Any, part: str, questions: Sequence[Question]) -> list[Answer[Scores]]:
        scale = self._part(part).scale

        def read(text: str) -> Scores:
            parsed = parse_reply(text, scale)
            if parsed.scores is None:
                raise UnusableError(str(parsed.missing))
            return parsed.scores

        return ask_all(judge, [(question, read) for question in questions], self.attempts)

    def _pictures(self, record: Record) -> tuple[np.ndarray, ...]:
        """What the judge sees: source (else the references) and target, at the rubric's sizes."""
        assert record.target is not None
        if record.source is None:
            return (*record.references, record.target)
        before, after = Image.fromarray(record.source), Image.fromarray(record.target)
        return tuple(np.asarray(one) for one in RUBRICS[self.rubric].prepare(before, after))

    def _with_pq(self, record: Record, answer: Answer[Scores]) -> Outcome:
        if answer.value is None:
            return self._missing(record, "PQ", answer.fault)
        scores = dict(zip(self._part("PQ").scale.names, answer.value, strict=True))
        value = min(answer.value)
        if value < self.min_pq:
            return self.reject(record, "PQ is too low", _told(scores))
        return record.but(scores={**record.scores, "PQ": value, **scores})

    def _with_sc(self, record: Record, said: Mapping[str, Answer[Scores]]) -> Outcome:
        """The record with the wordings that fit; the scores are the worst among these."""
        known = {text: answer.value for text, answer in said.items() if answer.value is not None}
        if not known:
            return self._missing(record, "SC", next(iter(said.values())).fault)
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

    def _missing(self, record: Record, part: str, fault: str) -> Outcome:
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
