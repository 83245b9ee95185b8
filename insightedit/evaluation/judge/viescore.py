"""Scores of edits by a judge: ask three times, ask again where nothing can be read, average, count what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image

from insightedit.chat.rubrics import Rubric
from insightedit.chat.scores import Parsed, parse_reply
from insightedit.evaluation.core.statistics import group_by, mean, ratings_kappa

if TYPE_CHECKING:
    from insightedit.chat.clients import ChatClient

REPEATS = 3
MAX_ATTEMPTS = 3  # per question


@dataclass(frozen=True)
class Verdict:
    """What a judge says about one edit, once."""

    sample_id: str
    category: str
    repeat: int  # which of the repeats, from 0
    values: Mapping[str, float | None]  # column -> number, None if missing; see `Rubric.values`
    scores: Mapping[str, float | None]  # name -> single score, None if missing
    missing: Mapping[str, str] = field(default_factory=dict)  # part -> why it has no scores
    attempts: Mapping[str, int] = field(default_factory=dict)  # part -> how often it was asked
    judge: str = ""
    rubric: str = ""
    rubric_hash: str = ""  # of prompts and rules
    date: str = ""  # when the last reply was given, ISO 8601, UTC; "" if unknown


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
) -> list[Verdict]:
    """Ask a judge about one edit of RGB pictures: so many verdicts, or one of a deterministic judge.

    Where a reply cannot be read it is asked up to `MAX_ATTEMPTS` times, a deterministic judge once. What cannot be
    asked is a ValueError; a judge that cannot be reached a ChatError, which is no missing reply.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}: a judge gives at least one verdict.")
    is_sure = bool(judge.settings.get("deterministic"))
    before, after = rubric.prepare(source, edited)
    verdicts = []
    for repeat in range(1 if is_sure else repeats):
        parsed: dict[str, Parsed] = {}
        attempts: dict[str, int] = {}
        scores: dict[str, float | None] = {}
        date = ""
        for question in rubric.questions_for(category):
            part, prompt = question.part, question.ask(instruction)
            pictures = [before, after] if question.sees_source else [after]
            for attempt in range(1 if is_sure else MAX_ATTEMPTS):
                reply = judge.ask(prompt, pictures, repeat=repeat, attempt=attempt)
                parsed[part] = parse_reply(reply.text, question.scale, finish_reason=reply.finish_reason)
                attempts[part], date = attempt + 1, reply.date
                if parsed[part].scores is not None:
                    break
            names = question.scale.names
            scores |= dict(zip(names, parsed[part].scores or [None] * len(names), strict=True))
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


@dataclass(frozen=True)
class ColumnMean:
    """One number of a table."""

    mean: float | None  # over the samples that have a value, each the mean of its repeats; None if none has
    pessimistic: float  # the same with 0 for every missing reply
    n: int  # samples that have a value


@dataclass(frozen=True)
class JudgeSummary:
    """Averages of a method's verdicts."""

    judge: str
    rubric: str
    rubric_hash: str  # numbers of two hashes never share a column
    dates: tuple[str, str]  # first and last day of the replies, "" if unknown
    n: int  # samples
    repeats: int  # verdicts per sample
    columns: Mapping[str, ColumnMean]  # column -> mean over samples (micro)
    macro: Mapping[str, ColumnMean]  # column -> mean over the categories' means, every category counting the same
    missing_samples: int  # samples without the main number in any repeat
    reasons: Mapping[str, int]  # why questions had no scores, most frequent first
    repeat_kappa: Mapping[str, float | None]  # single score -> Fleiss' kappa of the repeats; empty with one repeat


def summarise(verdicts: Sequence[Verdict]) -> JudgeSummary:
    """Average verdicts of one method by one judge and rubric, as many for each sample; ValueError if they are not."""
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
    categories = group_by(verdicts, lambda one: one.category).values()
    macro = {}
    for name in names:  # of the categories that have a value
        found = [_column(group, name) for group in categories]
        n = sum(one.mean is not None for one in found)
        macro[name] = ColumnMean(mean(one.mean for one in found), mean(one.pessimistic for one in found) or 0.0, n)
    days = sorted(one.date[:10] for one in verdicts if one.date) or [""]
    columns = {name: _column(verdicts, name) for name in names}
    kappas = {}
    for name in verdicts[0].scores if repeats[0] > 1 else ():  # repeats are the raters; all of a sample, or none
        rows = [[one.scores[name] for one in group] for group in samples.values()]
        whole = [[value for value in row if value is not None] for row in rows if None not in row]
        kappas[name] = ratings_kappa(whole) if whole else None
    return JudgeSummary(
        *kinds[0],
        dates=(days[0], days[-1]),
        n=len(samples),
        repeats=repeats[0],
        columns=columns,
        macro=macro,
        missing_samples=len(samples) - columns[names[0]].n,
        reasons=dict(Counter(reason for one in verdicts for reason in one.missing.values()).most_common()),
        repeat_kappa=kappas,
    )


def _column(verdicts: Sequence[Verdict], name: str) -> ColumnMean:
    samples = group_by(verdicts, lambda one: one.sample_id).values()
    means = [mean(one.values[name] for one in group) for group in samples]
    zeros = [mean(one.values[name] or 0.0 for one in group) for group in samples]
    return ColumnMean(mean(means), mean(zeros) or 0.0, sum(value is not None for value in means))
