"""Scores of edits by a judge: ask, read, ask again where nothing can be read, average, count what is missing.

Every edit is asked about three times. A question whose reply cannot be read is asked again, a few times; then it is
missing: it has no value, it is counted, and in the pessimistic column it counts as 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from insightedit.chat.rubrics import Rubric, RubricQuestion
from insightedit.chat.scores import Missing, Parsed, parse_reply
from insightedit.evaluation.core.statistics import FEW, group_by, mean
from insightedit.evaluation.judge.agreement import ratings_kappa

if TYPE_CHECKING:
    from insightedit.chat.clients import ChatClient

REPEATS = 3
MAX_ATTEMPTS = 3  # per question


@dataclass(frozen=True)
class Verdict:
    """What a judge says about one edit, once.

    Attributes:
        sample_id: of the edit.
        category: of the edit.
        repeat: which of the repeats, from 0.
        values: column -> number, None if missing; see `Rubric.values`.
        scores: name -> single score, None if missing.
        missing: part -> why it has no scores.
        attempts: part -> how often it was asked.
        judge: name of the judge.
        rubric: name of the rubric.
        rubric_hash: of prompts and rules.
        date: when the last reply was given, ISO 8601, UTC; "" if unknown.
    """

    sample_id: str
    category: str
    repeat: int
    values: Mapping[str, float | None]
    scores: Mapping[str, float | None]
    missing: Mapping[str, str] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    judge: str = ""
    rubric: str = ""
    rubric_hash: str = ""
    date: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def judge_edit(
    judge: ChatClient,
    rubric: Rubric,
    source: Image.Image,
    edited: Image.Image,
    *,
    instruction: str,
    sample_id: str = "",
    category: str = "",
    repeats: int = REPEATS,
    max_attempts: int = MAX_ATTEMPTS,
) -> list[Verdict]:
    """Ask a judge about one edit.

    Args:
        judge: who is asked.
        rubric: what is asked, from `RUBRICS`.
        source: RGB.
        edited: RGB.
        instruction: what the editor was told.
        sample_id: of the edit.
        category: of the edit.
        repeats: verdicts, at least 1; a deterministic judge gives one.
        max_attempts: how often each question is asked until its reply can be read, at least 1; a deterministic
            judge is asked once.

    Returns:
        One verdict per repeat.

    Raises:
        ValueError: if a number is below 1, the instruction is empty, a picture is not RGB, or the rubric has no
            questions about edits of this category.
        ChatError: if the judge cannot be reached; this is no missing reply.
    """
    if min(repeats, max_attempts) < 1:
        raise ValueError(f"repeats is {repeats}, max_attempts {max_attempts}: both are at least 1.")
    if judge.settings.get("deterministic"):
        repeats = max_attempts = 1
    before, after = rubric.prepare(source, edited)
    verdicts = []
    for repeat in range(repeats):
        parsed: dict[str, Parsed] = {}
        attempts: dict[str, int] = {}
        scores: dict[str, float | None] = {}
        date = ""
        for question in rubric.questions_for(category):
            pictures = [before, after] if question.sees_source else [after]
            found, attempts[question.part], date = _ask(
                judge, question, question.ask(instruction), pictures, repeat, max_attempts
            )
            parsed[question.part] = found
            names = question.scale.names
            scores |= dict(zip(names, found.scores or [None] * len(names), strict=True))
        verdicts.append(
            Verdict(
                sample_id=sample_id,
                category=category,
                repeat=repeat,
                values=rubric.values({part: found.scores for part, found in parsed.items()}),
                scores=scores,
                missing={part: found.missing.value for part, found in parsed.items() if found.missing},
                attempts=attempts,
                judge=judge.name,
                rubric=rubric.name,
                rubric_hash=rubric.hash,
                date=date,
            )
        )
    return verdicts


def _ask(
    judge: ChatClient,
    question: RubricQuestion,
    prompt: str,
    pictures: Sequence[Image.Image],
    repeat: int,
    max_attempts: int,
) -> tuple[Parsed, int, str]:
    """The first readable reply, or the last one; how often was asked; the date of that reply."""
    parsed, date, attempt = Parsed(None, Missing.EMPTY), "", 0
    for attempt in range(max_attempts):
        reply = judge.ask(prompt, pictures, repeat=repeat, attempt=attempt)
        parsed = parse_reply(reply.text, question.scale, finish_reason=reply.finish_reason)
        date = reply.date
        if parsed.scores is not None:
            break
    return parsed, attempt + 1, date


@dataclass(frozen=True)
class ColumnMean:
    """One number of a table.

    Attributes:
        mean: over the samples that have a value, each the mean of its repeats; None if none has.
        pessimistic: the same with 0 for every missing reply.
        n: samples that have a value.
    """

    mean: float | None
    pessimistic: float
    n: int


@dataclass(frozen=True)
class JudgeSummary:
    """Averages of a method's verdicts.

    Attributes:
        judge: name of the judge.
        rubric: name of the rubric.
        rubric_hash: numbers of two hashes never share a column.
        dates: first and last day of the replies, "" if unknown.
        n: samples.
        repeats: verdicts per sample.
        columns: column -> mean over samples (micro).
        macro: column -> mean over the categories' means, every category counting the same.
        categories: category -> column -> mean.
        few: categories of fewer than 20 samples, whose means say little.
        missing_verdicts: verdicts without the main number.
        missing_samples: samples without it in any repeat.
        reasons: why questions had no scores, most frequent first.
        repeat_kappa: column of single scores -> Fleiss' kappa of the repeats over samples that have all of them;
            empty with one repeat.
    """

    judge: str
    rubric: str
    rubric_hash: str
    dates: tuple[str, str]
    n: int
    repeats: int
    columns: Mapping[str, ColumnMean]
    macro: Mapping[str, ColumnMean]
    categories: Mapping[str, Mapping[str, ColumnMean]]
    few: tuple[str, ...]
    missing_verdicts: int
    missing_samples: int
    reasons: Mapping[str, int]
    repeat_kappa: Mapping[str, float | None]


def summarise(verdicts: Sequence[Verdict]) -> JudgeSummary:
    """Average verdicts of one method by one judge and rubric.

    Raises:
        ValueError: if there is none, they are of several judges or rubrics, or samples differ in their repeats.
    """
    if not verdicts:
        raise ValueError("there is no verdict to average: judge at least one edit.")
    kinds = sorted({(one.judge, one.rubric, one.rubric_hash) for one in verdicts})
    if len(kinds) > 1:
        named = ", ".join(f"{judge} by {rubric} {digest}" for judge, rubric, digest in kinds)
        raise ValueError(f"the verdicts are of different kinds ({named}): average each alone.")
    samples = group_by(verdicts, lambda one: one.sample_id)
    repeats = sorted({len(group) for group in samples.values()})
    if len(repeats) > 1:
        raise ValueError(
            f"samples have {repeats[0]} to {repeats[-1]} verdicts: finish the run, and give one method's verdicts only."
        )
    names = list(verdicts[0].values)
    categories = {
        str(category): {name: _column(group, name) for name in names}
        for category, group in group_by(verdicts, lambda one: one.category).items()
    }
    days = sorted(one.date[:10] for one in verdicts if one.date) or [""]
    sizes = Counter(group[0].category for group in samples.values())
    return JudgeSummary(
        *kinds[0],
        dates=(days[0], days[-1]),
        n=len(samples),
        repeats=repeats[0],
        columns={name: _column(verdicts, name) for name in names},
        macro={name: _macro([columns[name] for columns in categories.values()]) for name in names},
        categories=categories,
        few=tuple(name for name, size in sorted(sizes.items()) if size < FEW),
        missing_verdicts=sum(one.values[names[0]] is None for one in verdicts),
        missing_samples=len(samples) - _column(verdicts, names[0]).n,
        reasons=dict(Counter(reason for one in verdicts for reason in one.missing.values()).most_common()),
        repeat_kappa=_repeat_kappa(list(samples.values())) if repeats[0] > 1 else {},
    )


def sample_means(verdicts: Iterable[Verdict], column: str) -> dict[str, float | None]:
    """Sample id -> mean of a column over the repeats that have it, None if none has; for `correlate`."""
    samples = group_by(verdicts, lambda one: one.sample_id)
    return {str(name): mean(one.values[column] for one in group) for name, group in samples.items()}


def _column(verdicts: Sequence[Verdict], name: str) -> ColumnMean:
    means = sample_means(verdicts, name)
    samples = group_by(verdicts, lambda one: one.sample_id)
    zeros = [mean(one.values[name] or 0.0 for one in group) for group in samples.values()]
    return ColumnMean(mean(means.values()), mean(zeros) or 0.0, sum(value is not None for value in means.values()))


def _macro(groups: Sequence[ColumnMean]) -> ColumnMean:
    """Mean of the groups that have a value; `n` counts the groups."""
    n = sum(group.mean is not None for group in groups)
    return ColumnMean(mean(g.mean for g in groups), mean(g.pessimistic for g in groups) or 0.0, n)


def _repeat_kappa(samples: Sequence[Sequence[Verdict]]) -> dict[str, float | None]:
    """Repeats are the raters; samples of which one has no score do not count."""
    kappas = {}
    for name in samples[0][0].scores:
        rows = [[one.scores[name] for one in group] for group in samples]
        whole = [[value for value in row if value is not None] for row in rows if None not in row]
        kappas[name] = ratings_kappa(whole) if whole else None
    return kappas
