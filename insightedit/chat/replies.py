"""What judges reply: strict reading into scores, and a file that keeps every reply.

A reply either states all scores of its question, in range, or it is missing with a reason. Nothing is guessed,
rounded, clipped or drawn at random. Scores that are there count, whatever the tone of their reasoning: only the
lowest ones, by a judge that says it cannot judge, are a refusal.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from insightedit.files import drop_cut_line

DELIMITER = "||V^=^V||"  # VIEScore asks for it around the JSON
FILTERED = ("content_filter", "refusal")  # finish reasons of replies that were withheld

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


@dataclass(frozen=True)
class Reply:
    """What a judge gave back.

    Attributes:
        text: as it came.
        finish_reason: "stop", "length" (cut off), "content_filter", "refusal", or what else the judge says.
        input_tokens: that were read, pictures included; 0 if unknown.
        output_tokens: that were written; 0 if unknown.
        date: when it was given, ISO 8601, UTC.
    """

    text: str
    finish_reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    date: str = ""


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
        return found[0] if len({(one.scores, one.missing) for one in found}) == 1 else _ambiguous()
    return Parsed(None, _why_unreadable(answer, finish_reason))


def whole_text(text: str) -> str:
    """A text with a mark in place of halves of characters (lone surrogates), which no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _ambiguous() -> Parsed:
    return Parsed(None, Missing.AMBIGUOUS)


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


def picture_digest(picture: Image.Image) -> str:
    """SHA-256 over size and pixels of an RGB picture, whatever file it came from.

    Raises:
        ValueError: if it has another mode.
    """
    if picture.mode != "RGB":
        raise ValueError(
            f"a judge was given a picture of mode {picture.mode}: convert it to RGB first "
            "(`insightedit.images.reading.to_rgb` puts transparency over white)."
        )
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


@dataclass(frozen=True)
class ReplyKey:
    """What a stored reply belongs to.

    Attributes:
        model: name of the judge.
        prompt_sha256: of the whole prompt.
        pictures: `picture_digest` of each picture, in order.
        repeat: which of the repeated questions, from 0.
        attempt: which attempt after unreadable replies, from 0.
    """

    model: str
    prompt_sha256: str
    pictures: tuple[str, ...]
    repeat: int = 0
    attempt: int = 0

    @classmethod
    def of(
        cls, model: str, prompt: str, pictures: Sequence[Image.Image], *, repeat: int = 0, attempt: int = 0
    ) -> ReplyKey:
        """The key of a question.

        Raises:
            ValueError: if a picture is not RGB.
        """
        digests = tuple(picture_digest(picture) for picture in pictures)
        return cls(model, hashlib.sha256(prompt.encode("utf-8")).hexdigest(), digests, repeat, attempt)

    @property
    def hash(self) -> str:
        """SHA-256 over all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode("utf-8")).hexdigest()


class _Row(BaseModel):
    """One line of a store."""

    model_config = ConfigDict(extra="forbid")

    key: str
    model: str
    settings: dict[str, Any]
    prompt_sha256: str
    pictures: tuple[str, ...]
    repeat: int
    attempt: int
    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    date: str

    def reply_key(self) -> ReplyKey:
        return ReplyKey(self.model, self.prompt_sha256, self.pictures, self.repeat, self.attempt)

    def reply(self) -> Reply:
        return Reply(self.text, self.finish_reason, self.input_tokens, self.output_tokens, self.date)


class ReplyStore:
    """Every reply of every judge, one JSON line each, so that a judgement can be made again without the judge.

    Lines are only ever added, each on the disk before `add` returns. A last line that a kill cut short is not read,
    and removed by the next `add`. One process writes at a time; its threads may share the store.

    Args:
        path: the `.jsonl` file; made by the first `add`, its folder too.

    Raises:
        ValueError: naming file and line of the first entry that is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replies: dict[str, Reply] = {}
        self._settings: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        for number, line in enumerate(self._whole_lines(), 1):
            try:
                row = _Row.model_validate_json(line)
                if row.key != row.reply_key().hash:
                    raise ValueError("its key does not belong to its fields")
                self._take(row)
            except ValueError as error:  # pydantic's ValidationError is one
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"{path}:{number} is no stored reply ({reason}): restore the file, or delete this line."
                ) from error

    def __repr__(self) -> str:
        return f"ReplyStore({str(self.path)!r}, {len(self)} replies)"

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, key: ReplyKey) -> Reply | None:
        """The reply to a question; None if there is none."""
        return self._replies.get(key.hash)

    def settings(self, model: str) -> dict[str, Any] | None:
        """Settings with which a judge replied; None if the store has no reply of it."""
        found = self._settings.get(model)
        return None if found is None else dict(found)

    def add(self, key: ReplyKey, reply: Reply, *, settings: Mapping[str, Any]) -> Reply:
        """Keep a reply, unless the question has one already.

        Args:
            key: the question.
            reply: to it.
            settings: of the judge, ready for JSON; the same for all replies of a judge.

        Returns:
            The reply that the store holds: of two that came at the same time, the first.

        Raises:
            ValueError: if the judge had other settings.
        """
        row = _Row(key=key.hash, settings=dict(settings), **asdict(key), **asdict(reply))
        line = row.model_dump_json() + "\n"
        with self._lock:
            if row.key in self._replies:
                return self._replies[row.key]
            self._take(row)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            drop_cut_line(self.path)
            with self.path.open("ab") as file:
                file.write(line.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
        return reply

    def _take(self, row: _Row) -> None:
        if row.key in self._replies:
            raise ValueError(f"{self.path.name} holds a reply of {row.model} to this question already.")
        self.check_settings(row.model, row.settings)
        self._settings.setdefault(row.model, row.settings)
        self._replies[row.key] = row.reply()

    def check_settings(self, model: str, settings: Mapping[str, Any]) -> None:
        """Refuse settings other than those of the judge's stored replies.

        Raises:
            ValueError: naming what differs.
        """
        begun = self._settings.get(model, dict(settings))
        names = sorted(set(begun) | set(settings))
        changed = [f"{n} was {begun.get(n)}, is {settings.get(n)}" for n in names if begun.get(n) != settings.get(n)]
        if changed:
            raise ValueError(
                f"{self.path.name} was begun with other settings of {model}: {'; '.join(changed)}. Use the old ones, "
                "or name another file."
            )

    def _whole_lines(self) -> Iterator[bytes]:
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
