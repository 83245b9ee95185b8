"""Questions to language models whose answers have to have a form; what has not is asked for again."""

from __future__ import annotations

import ast
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_recipes.backends.base import Question
from data_recipes.runner.records import Record
from data_recipes.runner.steps import Context, Outcome, Step

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Asking = tuple[Question, Callable[[str], T]]  # and what reads its answer, or raises `UnusableError`
Round = tuple[
    Callable[[Record], Asking | None],  # what is asked about a record; None for nothing
    Callable[[Record, Any], Outcome],  # what becomes of it by what was read
    str | Callable[[Record, str], Outcome],  # why it is refused without a usable answer; or what becomes of it then
]
AGAIN = "Your last answer could not be used: {fault}. Answer again, exactly in the form that was asked for."
_REFUSAL = re.compile(
    r"^(?:i am sorry|i['’]m sorry|sorry\b|i (?:cannot|can['’]t|am unable)|as an ai\b)", re.IGNORECASE
)


class UnusableError(ValueError):
    """An answer that does not have the form that was asked for; the message says what is wrong with it."""


class Form(BaseModel):
    """What answers in JSON are checked against: types are not guessed, other keys do not matter."""

    model_config = ConfigDict(strict=True, extra="ignore", str_strip_whitespace=True)


class Instructions(Form):
    """`{"instructions": ["..."]}`."""

    instructions: list[str] = Field(min_length=1)


def ask_all(chat: Any, asked: Sequence[Asking[T]], attempts: int) -> list[T | UnusableError]:
    """Ask a chat in one batch, then again, up to `attempts` times, for what could not be read; or the last fault.

    Later prompts end with what was wrong, so that a model that always answers the same has a reason not to.
    """
    answers: list[T | UnusableError] = [UnusableError("was not asked") for _ in asked]
    for attempt in range(attempts):
        faults = {number: answer for number, answer in enumerate(answers) if isinstance(answer, UnusableError)}
        if not faults:
            break
        questions = [asked[number][0] for number in faults]
        if attempt:
            questions = [
                replace(question, prompt=f"{question.prompt}\n\n{AGAIN.format(fault=fault)}", attempt=attempt)
                for question, fault in zip(questions, faults.values(), strict=True)
            ]
        for number, text in zip(faults, chat.answer(questions), strict=True):
            try:
                answers[number] = asked[number][1](text)
            except UnusableError as fault:
                answers[number] = fault
    return answers


class AskingStep(Step):
    """A step that asks a language model about its records, each question up to `attempts` times."""

    attempts: int
    needs = ("chat",)

    def _prepare(self, record: Record, context: Context) -> Outcome:
        """The record that is asked about, or why it is refused before."""
        return record

    @abstractmethod
    def _rounds(self) -> Sequence[Round]:
        """What is asked one after the other, each question of a batch together."""

    def __call__(self, records: Sequence[Record], context: Context) -> list[list[Outcome]]:
        """See `Step`; what is refused in one round is not asked about in the next."""
        outcomes = [self._prepare(record, context) for record in records]
        for asking, use, unusable in self._rounds():
            jobs = [
                (n, one, job) for n, one in enumerate(outcomes) if isinstance(one, Record) and (job := asking(one))
            ]
            answers = ask_all(context.backend(self.needs[0]), [job for _, _, job in jobs], self.attempts)
            for (number, record, _), answer in zip(jobs, answers, strict=True):
                if not isinstance(answer, UnusableError):
                    outcomes[number] = use(record, answer)
                elif isinstance(unusable, str):
                    outcomes[number] = self.reject(record, unusable, str(answer))
                else:
                    outcomes[number] = unusable(record, str(answer))
        return [[one] for one in outcomes]


def read_text(text: str) -> str:
    """An answer in plain words, on one line; refused: none, JSON, or that the model will not answer."""
    words = " ".join(_after_thoughts(text).split()).strip("\"'` ")
    if not re.search(r"\w", words):
        raise UnusableError("the answer is empty")
    if words[0] in "{[":
        raise UnusableError("the answer is not plain text")
    if _REFUSAL.search(words):
        raise UnusableError("the model declines")
    return words


def read_form(text: str, form: type[M]) -> M:
    """An answer in JSON; fences and words around the object are left out. Refused: no object, or of another form."""
    answer = _after_thoughts(text)
    fenced = re.search(r"```\w*\s*(.*?)(?:```|\Z)", answer, re.DOTALL)
    body = fenced[1] if fenced else answer
    start, end = body.find("{"), body.rfind("}")
    if not 0 <= start < end:
        raise UnusableError("the answer holds no JSON object")
    body = body[start : end + 1]
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(body)  # models write Python's quotes, too
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            raise UnusableError("the answer is not JSON") from None
    try:
        return form.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the object"
        raise UnusableError(f"{where}: {first['msg'].lower()}") from None


def read_instructions(text: str, count: int, max_words: int, keep: Sequence[str] = ()) -> tuple[str, ...]:
    """The first `count` wordings of an instruction.

    Refused: fewer, and one that is empty, has more than `max_words`, or lacks the words to `keep`, whatever their case.
    """
    found = [" ".join(one.split()) for one in read_form(text, Instructions).instructions][:count]
    if len(found) < count:
        raise UnusableError(f"there are {len(found)} instructions, not {count}")
    for one in found:
        if not re.search(r"\w", one):
            raise UnusableError("an instruction is empty")
        if len(one.split()) > max_words:
            raise UnusableError(f"an instruction has {len(one.split())} words, more than {max_words}")
        for words in keep:
            if bare(words).lower() not in one.lower():
                raise UnusableError(f"an instruction does not name {bare(words)!r}")
    return tuple(found)


def bare(words: str) -> str:
    """`a dog`, `the dog` -> `dog`."""
    return re.sub(r"^(?:the|an?) ", "", " ".join(words.split()), flags=re.IGNORECASE)


def _after_thoughts(text: str) -> str:
    answer = text.rpartition("</think>")[2]
    if "<think>" in answer:
        raise UnusableError("the answer ends within its thoughts")
    if not answer.strip():
        raise UnusableError("the answer is empty")
    return answer
