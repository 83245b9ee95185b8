"""AdvancedEdit's fourth step: one edit in many words; and MIGE's, with pictures in place of words.

| kind | how | published |
| --- | --- | --- |
| template | `remove the dog` | yes, word for word |
| simple | another template, and a rewording by a language model | synonyms and templates |
| advanced | detailed descriptions in a template, and in a language model's words | yes |
| reasoning | a question about the picture, and what to do with the answer | two for each pair |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from data_recipes.backends.base import Question
from data_recipes.runner.records import REFERENCE_PLACEHOLDER, Record
from data_recipes.runner.steps import Context, Outcome, at_least, attempts, setting, some_of
from data_recipes.steps.asking import Asking, AskingStep, Round, UnusableError, bare, read_instructions
from insightedit.scenes.draws import pick

KINDS = ("simple", "advanced", "reasoning")
COUNTS = {"simple": 1, "advanced": 1, "reasoning": 2}
TEMPLATES: dict[str, str] = {  # published
    "remove": "remove the {origin}",
    "add": "add the {target}",
    "replace": "replace the {origin} with the {target}",
}
SIMPLE_TEMPLATES: dict[str, tuple[str, ...]] = {
    "remove": ("delete the {origin}", "take out the {origin}", "get rid of the {origin}", "erase the {origin}"),
    "add": ("put in the {target}", "insert the {target}", "place the {target} in the picture", "draw the {target}"),
    "replace": (
        "swap the {origin} for the {target}",
        "change the {origin} to the {target}",
        "turn the {origin} into the {target}",
        "exchange the {origin} for the {target}",
    ),
}
ADVANCED_TEMPLATES: dict[str, tuple[str, ...]] = {
    "remove": ("take the {origin} out of the picture", "i want the {origin} to be gone"),
    "add": ("show the {target}", "complete the picture with the {target}"),
    "replace": ("put the {target} where the {origin} is", "let the {target} stand in for the {origin}"),
}
_ASKS = """A picture is edited. The edit: {edit}
{details}
{wish}

Answer with one JSON object and nothing else: {{"instructions": [{slots}]}}"""
_WISHES = {
    "simple": "Say the same in one other short sentence, as a user would tell an image editor: use other verbs, but "
    "name the things in exactly these words.",
    "advanced": "Tell an image editor to do this in one sentence of at most 40 words. Do not name the things shortly; "
    "describe them with the details above, so that nobody could mistake them for others in the picture.",
    "reasoning": "Tell an image editor to do this in two ways, each at most 40 words, that it can follow only by "
    "looking and thinking. First: a question about the picture whose answer is the thing or the place, and then what "
    "to do with it. Second: one sentence that points at it by what it is for, what it does or what it stands next to. "
    "Nobody but you knows the names of the things: do not use them where another way to say it exists.",
}
PROMPTS = {
    kind: _ASKS.replace("{wish}", _WISHES[kind]).replace("{slots}", ", ".join(['"..."'] * COUNTS[kind]))
    for kind in KINDS
}


@dataclass(frozen=True)
class Wording(AskingStep):
    """Instructions of all kinds for pairs that remove, add or replace; other tasks are refused."""

    kinds: Sequence[str] = some_of(KINDS)  # that are made beside the published template
    by_chat: bool = True  # whether a language model writes, too; without it there is no reasoning
    attempts: int = attempts()  # how often it is asked until the answer is usable; ours
    max_words: int = at_least(60)  # of an instruction; ours
    # "keep" goes on with the wordings that there are, "reject" refuses the pair; ours
    on_failure: str = setting(
        "keep", lambda value: "" if value in ("keep", "reject") else f"is {value!r}: choose keep or reject."
    )

    name = "wording"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "reasoning" in self.kinds and not self.by_chat:
            raise ValueError(
                f"steps.{self.name}.kinds has reasoning and by_chat is false: only a language model can write it; "
                "take reasoning out, or set by_chat to true."
            )

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The chat, where it writes."""
        return ("chat",) if self.by_chat else ()

    @property
    def prompts(self) -> Mapping[str, str]:  # type: ignore[override]
        """By task."""
        return {kind: PROMPTS[kind] for kind in self.kinds} if self.by_chat else {}

    def _prepare(self, record: Record, context: Context) -> Outcome:
        if record.task not in TEMPLATES or not record.is_pair:
            return self.reject(record, "no wording for the task", record.task or "no pair")
        rng = context.rng(record)
        short = {"origin": bare(record.class_origin), "target": bare(record.class_target)}
        words = {"template": (TEMPLATES[record.task].format(**short),)}
        if "simple" in self.kinds:
            words["simple"] = (pick(rng, SIMPLE_TEMPLATES[record.task]).format(**short),)
        if "advanced" in self.kinds:  # detailed captions; the simple ones where there are none
            origin = record.detailed_origin or record.class_origin
            target = record.detailed_target or record.class_target
            detailed = {"origin": bare(origin.rstrip(".")), "target": bare(target.rstrip("."))}
            words["advanced"] = (pick(rng, ADVANCED_TEMPLATES[record.task]).format(**detailed),)
        return record.but(instructions=words)

    def _rounds(self) -> Sequence[Round]:
        def use(record: Record, texts: tuple[str, ...], kind: str) -> Record:
            found = tuple(dict.fromkeys((*record.instructions.get(kind, ()), *texts)))
            return record.but(instructions={**record.instructions, kind: found})

        def without(record: Record, fault: str, kind: str) -> Outcome:
            if self.on_failure == "reject":
                return self.reject(record, f"no usable {kind} wording", fault)
            missing = [*record.notes.get("wordings_missing", ()), kind]
            return record.but(notes={**record.notes, "wordings_missing": missing})

        return [
            (partial(self._asking, kind=kind), partial(use, kind=kind), partial(without, kind=kind))
            for kind in (self.kinds if self.by_chat else ())
        ]

    def _asking(self, record: Record, kind: str) -> Asking[tuple[str, ...]]:
        names = ("task", "class_origin", "class_target", "detailed_origin", "detailed_target")
        about = {name: getattr(record, name) for name in names}
        told = {"edited": record.detailed_origin, "new": record.detailed_target}
        details = "\n".join(f"What is {name}: {words}" for name, words in told.items() if words)
        prompt = PROMPTS[kind].format(edit=record.instructions["template"][0], details=details)
        pictures = (record.source,) if kind == "reasoning" and record.source is not None else ()
        keep = [words for words in (record.class_origin, record.class_target) if words] if kind == "simple" else ()
        read = partial(read_instructions, count=COUNTS[kind], max_words=self.max_words, keep=keep)
        return Question(prompt, pictures, kind, about, record.truth), read


# MIGE's wordings, in which a picture stands in place of words: `add <imagehere> to the picture`
SUBJECT_TEMPLATES = {  # ours; the kind "template" of the wordings
    "add": f"add {REFERENCE_PLACEHOLDER} to the picture",
    "replace": f"replace the {{origin}} with {REFERENCE_PLACEHOLDER}",
}
SUBJECT_PROMPT = """You see a picture after an edit: {edit}. A user had shown a photo of the {subject} and \
asked for this edit.

Write {count} different instructions that the user may have given to an image editor, each one sentence of at most \
{max_words} words. In each, {mark} stands exactly once, where the {subject} would be named: the photo takes the place \
of the words, so do not name or describe the {subject} besides. {hint}

Answer with one JSON object and nothing else: {{"instructions": [{slots}]}}"""
EDITS = {"add": "the {subject} was added", "replace": "the {origin} was replaced with the {subject}"}
HINTS = {
    "add": "Say where in the picture it is to be, by what else is seen there.",
    "replace": "Name what is replaced in these words: {origin}.",
}


@dataclass(frozen=True)
class SubjectWording(AskingStep):
    """A template and a model's wordings where the subject is shown; refused: no reference, no usable wording."""

    # wordings that the language model writes; 0 leaves the template alone, and needs no model
    count: int = at_least(2, least=0)
    attempts: int = attempts()  # how often it is asked until the answer is usable; ours
    max_words: int = at_least(40)  # of an instruction; ours

    name = "subject_wording"

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The chat, where it writes."""
        return ("chat",) if self.count else ()

    @property
    def prompts(self) -> Mapping[str, str]:  # type: ignore[override]
        """By task."""
        return {"subject_instruction": SUBJECT_PROMPT} if self.count else {}

    def _prepare(self, record: Record, context: Context) -> Outcome:
        if record.task not in SUBJECT_TEMPLATES or len(record.references) != 1 or not record.is_pair:
            return self.reject(record, "has no subject with a reference", record.task)
        text = SUBJECT_TEMPLATES[record.task].format(origin=bare(record.class_origin))
        return record.but(instructions={"template": (text,)})

    def _rounds(self) -> Sequence[Round]:
        def use(record: Record, found: tuple[str, ...]) -> Record:
            return record.but(instructions={**record.instructions, "simple": found})

        return [(self._asking, use, "no usable wording")] if self.count else ()

    def _asking(self, record: Record) -> Asking[tuple[str, ...]]:
        words = {"subject": bare(record.class_target), "origin": bare(record.class_origin)}
        prompt = SUBJECT_PROMPT.format(
            edit=EDITS[record.task].format(**words),
            hint=HINTS[record.task].format(**words),
            subject=words["subject"],
            count=self.count,
            max_words=self.max_words,
            mark=REFERENCE_PLACEHOLDER,
            slots=", ".join(['"..."'] * self.count),
        )
        assert record.target is not None
        names = ("task", "class_origin", "class_target", "detailed_target")
        about = {**{name: getattr(record, name) for name in names}, "count": self.count}
        question = Question(prompt, (record.target,), "subject_instruction", about, record.truth)
        return question, partial(read_marked, count=self.count, max_words=self.max_words)


def read_marked(text: str, count: int, max_words: int) -> tuple[str, ...]:
    """What `read_instructions` reads, with the mark once in each; refused without."""
    found = read_instructions(text, count, max_words)
    for one in found:
        if one.count(REFERENCE_PLACEHOLDER) != 1:
            raise UnusableError(
                f"an instruction holds {REFERENCE_PLACEHOLDER} {one.count(REFERENCE_PLACEHOLDER)} times, not once"
            )
    return found


def is_finished(record: Record) -> bool:
    """Whether pictures stand in a pair's instructions already, as in try-on data or Subjects200K."""
    marks = {text.count(REFERENCE_PLACEHOLDER) for text in record.wordings}
    return record.is_pair and marks == {len(record.references)} != {0}


def mark_words(text: str, words: str) -> str:
    """A text with the mark in place of words and their article: "a red fox" -> `<imagehere>`; as it was without them.

    Only whole words count, whatever their case, and only the first place.
    """
    pattern = rf"(?<!\w)(?:(?:an?|the)\s+)?{re.escape(bare(words))}(?!\w)"
    return re.sub(pattern, REFERENCE_PLACEHOLDER, text, count=1, flags=re.IGNORECASE)
