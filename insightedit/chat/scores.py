"""What judges say of scores.

A reply either states all scores of its question, in range, or it is missing with a reason. Nothing is guessed,
rounded, clipped or drawn at random. Scores that are there count, whatever the tone of their reasoning: only the
lowest ones, by a judge that says it cannot judge, are a refusal.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

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
    """What a question asks for."""

    names: tuple[str, ...]  # of its scores, in the order of the reply
    low: float = 0.0
    high: float = 10.0


@dataclass(frozen=True)
class Parsed:
    """A reply as read."""

    scores: tuple[float, ...] | None  # one per name of the scale, `low`..`high`; None if the reply is missing
    missing: Missing | None = None  # why; None exactly if there are scores
    reasoning: str = ""  # the judge's own words


def parse_reply(text: str, scale: Scale, *, finish_reason: str = "") -> Parsed:
    """Read the scores of a reply.

    Looked at are the texts between pairs of `||V^=^V||`, or else the fenced blocks, or else all of it; of each the
    whole, or else what lies between its first `{` and its last `}`. That has to be an object with `score`, a list or
    a number, in JSON or with Python's single quotes. Thoughts up to `</think>` are left out. `finish_reason` is that
    of `Reply`.
    """
    if finish_reason in FILTERED:
        return Parsed(None, Missing.REFUSAL)
    answer = text.rpartition("</think>")[2]
    if "<think>" in answer:
        return Parsed(None, Missing.TRUNCATED)
    if not answer.strip():
        return Parsed(None, Missing.TRUNCATED if finish_reason == "length" else Missing.EMPTY)
    parts = answer.split(DELIMITER)
    between = [part for part in parts[1:-1:2] if part.strip()] or [answer.replace(DELIMITER, " ")]
    bodies = [body for one in between for body in (_FENCE.findall(one) or [one])]
    found = [_validated(value, scale) for body in bodies for value in _values(body)]
    if found:
        is_one = len({(one.scores, one.missing) for one in found}) == 1
        return found[0] if is_one else Parsed(None, Missing.AMBIGUOUS)
    if _REFUSAL.search(answer) and "{" not in answer:
        return Parsed(None, Missing.REFUSAL)
    is_open = answer.count("{") > answer.count("}") or answer.count("[") > answer.count("]")
    if is_open or finish_reason == "length":
        return Parsed(None, Missing.TRUNCATED)
    return Parsed(None, Missing.MALFORMED if "{" in answer else Missing.NO_SCORES)


def _values(body: str) -> Iterator[Any]:
    """The value that a body is, or that stands between its outer braces; nothing if it is neither."""
    start, end = body.find("{"), body.rfind("}")
    for text in (body.strip(), body[start : end + 1] if 0 <= start < end else ""):
        with suppress(ValueError):
            yield _load(text)
            return


def _load(text: str) -> Any:
    """JSON, or a Python literal where single quotes make it none; ValueError if it is neither."""
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
    """What `{"score": [a, b], "reasoning": "..."}` says, or its score alone; other keys are ignored."""
    reply = value if isinstance(value, dict) else {"score": value}
    if "score" not in reply:
        return Parsed(None, Missing.NO_SCORES)
    scores = reply["score"] if isinstance(reply["score"], list) else [reply["score"]]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and abs(one) < math.inf for one in scores):
        return Parsed(None, Missing.NOT_NUMBERS)  # "8", true and NaN, too
    told = reply.get("reasoning", "")
    reasoning = whole_text(told) if isinstance(told, str) else json.dumps(told, default=str)
    if len(scores) != len(scale.names):
        return Parsed(None, Missing.WRONG_COUNT, reasoning)
    if not all(scale.low <= score <= scale.high for score in scores):
        return Parsed(None, Missing.OUT_OF_RANGE, reasoning)
    if set(scores) == {scale.low} and _REFUSES_TO_JUDGE.search(reasoning):
        return Parsed(None, Missing.REFUSAL, reasoning)  # zeros that were filled in
    return Parsed(tuple(map(float, scores)), None, reasoning)
