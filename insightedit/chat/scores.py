"""What judges say of scores.

A reply either states all scores of its question, in range, or it is missing with a reason. Nothing is guessed,
rounded, clipped or drawn at random. Scores that are there count, whatever the tone of their reasoning: only the
lowest ones, by a judge that says it cannot judge, are a refusal.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from insightedit.chat.replies import FILTERED, whole_text

DELIMITER = "||V^=^V||"  # VIEScore asks for it around the JSON

_FENCE = re.compile(r"```\w*\s*(.*?)```", re.DOTALL)
_UNKNOWN_ESCAPE = re.compile(r"""\\[^'"\\/nrtu]""")
_REFUSAL = re.compile(
    r"\bi(?:['’]m| am)?(?: (?:so|very|truly))?(?: sorry| unable to| not able to| cannot| can['’]t| won['’]t)\b"
    r"|\bas an ai\b|^\s*sorry\b",
    re.IGNORECASE,
)
_REFUSES_TO_JUDGE = re.compile(
    r"^\W*(?:(?:i['’]m |i am )?(?:so |very |truly )?(?:sorry|unfortunately|my apologies)\b\W*|as an ai\b[^.]{0,40}?)?"
    r"(?:but |however,? )?i(?:['’]m| am)?(?: unable to| not able to| cannot| can ?not| can['’]t| won['’]t| will not) "
    r"(?:assist|help|evaluate|assess|rate|score|judge|compare|analy[sz]e|view|see (?:the|these|any) (?:image|picture)s?"
    r"|access|open|load|process|comply|fulfil+)\b"
    r"(?![^.]*\b(?:above|beyond|higher|highly|better|different|differences?|chang\w*|edit\w*|success\w*|good)\b)",
    re.IGNORECASE,
)  # an honest "I cannot rate this edit higher" speaks of the edit


class Missing(StrEnum):
    """Why a reply has no scores."""

    EMPTY = "empty"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    NO_SCORES = "no scores"
    NOT_NUMBERS = "not numbers"
    WRONG_COUNT = "wrong count"
    OUT_OF_RANGE = "out of range"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True)
class Scale:
    """What a question asks for.

    Attributes:
        names: of its scores, in the order of the reply.
        low: lowest score.
        high: highest score.
    """

    names: tuple[str, ...]
    low: float = 0.0
    high: float = 10.0


@dataclass(frozen=True)
class Parsed:
    """A reply as read.

    Attributes:
        scores: one per name of the scale, `low`..`high`; None if the reply is missing.
        missing: why; None exactly if there are scores.
        reasoning: the judge's own words, "" without.
    """

    scores: tuple[float, ...] | None
    missing: Missing | None = None
    reasoning: str = ""


class ScoreReply(BaseModel):
    """The JSON that every prompt asks for: `{"score": [a, b], "reasoning": "..."}`; other keys are ignored.

    Numbers only: "8", true and NaN are refused. One number stands for a list of one.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    score: list[float]
    reasoning: Any = ""

    @field_validator("score", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, int | float) else value


def parse_reply(text: str, scale: Scale, *, finish_reason: str = "") -> Parsed:
    """Read the scores of a reply.

    Looked at are the texts between pairs of `||V^=^V||`, or else the fenced blocks, or else all of it; of each the
    whole, or else what lies between its first `{` and its last `}`. That has to be an object with `score`, a list or
    a number, in JSON or with Python's single quotes. Thoughts up to `</think>` are left out.

    Args:
        text: the reply.
        scale: how many scores there have to be, and their range.
        finish_reason: of the reply, see `Reply`.

    Returns:
        Scores, or the reason why there are none.
    """
    if finish_reason in FILTERED:
        return Parsed(None, Missing.REFUSAL)
    answer = text.rpartition("</think>")[2]
    if "<think>" in answer:
        return Parsed(None, Missing.TRUNCATED)
    if not answer.strip():
        return Parsed(None, Missing.TRUNCATED if finish_reason == "length" else Missing.EMPTY)
    found = [_validated(value, scale) for body in _bodies(answer) for value in _values(body)]
    if found:
        is_one = len({(one.scores, one.missing) for one in found}) == 1
        return found[0] if is_one else Parsed(None, Missing.AMBIGUOUS)
    return Parsed(None, _why_unreadable(answer, finish_reason))


def _bodies(answer: str) -> list[str]:
    """The parts of a reply that are to hold its object, by the strongest mark that it uses."""
    parts = answer.split(DELIMITER)
    between = [part for part in parts[1:-1:2] if part.strip()]
    answers = between or [answer.replace(DELIMITER, " ")]
    return [body for one in answers for body in (_FENCE.findall(one) or [one])]


def _values(body: str) -> Iterator[Any]:
    """The value that a body is, or that stands between its outer braces; nothing if it is neither."""
    start, end = body.find("{"), body.rfind("}")
    for text in (body.strip(), body[start : end + 1] if 0 <= start < end else ""):
        try:
            yield _load(text)
        except ValueError:
            continue
        return


def _load(text: str) -> Any:
    """JSON, or a Python literal where single quotes make it none.

    Raises:
        ValueError: if it is neither.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        is_bracketed = text[:1] + text[-1:] in ("{}", "[]")
        if not is_bracketed or "'" not in text or _UNKNOWN_ESCAPE.search(text):
            raise ValueError("no JSON") from None
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("no Python literal") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no score")


def _validated(value: Any, scale: Scale) -> Parsed:
    """What a value says, by the schema and the scale."""
    try:
        reply = ScoreReply.model_validate(value if isinstance(value, dict) else {"score": value})
    except ValidationError as error:
        lacks_score = any(fault["type"] == "missing" for fault in error.errors())
        return Parsed(None, Missing.NO_SCORES if lacks_score else Missing.NOT_NUMBERS)
    told = reply.reasoning
    reasoning = whole_text(told) if isinstance(told, str) else json.dumps(told, default=str)
    if len(reply.score) != len(scale.names):
        return Parsed(None, Missing.WRONG_COUNT, reasoning)
    if not all(scale.low <= score <= scale.high for score in reply.score):
        return Parsed(None, Missing.OUT_OF_RANGE, reasoning)
    if set(reply.score) == {scale.low} and _REFUSES_TO_JUDGE.search(reasoning):
        return Parsed(None, Missing.REFUSAL, reasoning)  # zeros that were filled in
    return Parsed(tuple(reply.score), None, reasoning)


def _why_unreadable(answer: str, finish_reason: str) -> Missing:
    if _REFUSAL.search(answer) and "{" not in answer:
        return Missing.REFUSAL
    is_open = answer.count("{") > answer.count("}") or answer.count("[") > answer.count("]")
    if is_open or finish_reason == "length":
        return Missing.TRUNCATED
    return Missing.MALFORMED if "{" in answer else Missing.NO_SCORES
