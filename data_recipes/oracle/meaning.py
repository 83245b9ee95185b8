"""Reads instructions: which template it is, and what its phrases say. What is not understood has no meaning.

Known are the wordings of scenes, of the step `wording` and of the oracle chat; a wording counts only if all of its
phrases can be read, so that of several readings of one sentence the right one is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from data_recipes.oracle import chat
from data_recipes.oracle.words import Phrase, read_phrase
from data_recipes.steps import wording
from insightedit.scenes.scene import COLOURS, PHOTOMETRIC
from insightedit.scenes.wordings import PLACES, TEMPLATES, operation_words

EXPRESSIVE = {
    "remove": ("remove {ref}",),
    "replace": ("replace {ref} with {new}",),
    "add": ("add {new}",),
    "recolour": ("paint {ref} {colour}",),
    "resize": ("make {ref} {size}",),
    "photometric": ("make the whole picture {op}",),
}
_OPERATIONS = {operation_words(name): name for name in PHOTOMETRIC}
_GROUPS = {
    "ref": "(?P<ref>.+?)",
    "new": "(?P<new>.+?)",
    "where": f"(?P<where>{'|'.join(sorted(PLACES.values(), key=len, reverse=True))})",
    "colour": f"(?P<colour>{'|'.join(COLOURS)})",
    "size": "(?P<size>bigger|smaller)",
    "op": f"(?P<op>{'|'.join(_OPERATIONS)})",
}


@dataclass(frozen=True)
class Meaning:
    """What an instruction asks for.

    Attributes:
        task: "remove", "add", "replace", "recolour", "resize" or "photometric".
        things: what is edited; none for additions and for the whole picture.
        new: what comes; None where nothing comes.
        colour: new tint.
        bigger: direction of a change of size.
        operation: global change.
    """

    task: str
    things: tuple[Phrase, ...] = ()
    new: Phrase | None = None
    colour: str | None = None
    bigger: bool | None = None
    operation: str | None = None


def read_instruction(text: str) -> tuple[Meaning, ...]:
    """All that an instruction can mean, each once; nothing if it is not understood."""
    words = " ".join(text.lower().split()).rstrip(" .!")
    found = (_meaning(task, match.groupdict()) for task, known in _forms() if (match := known.fullmatch(words)))
    return tuple(dict.fromkeys(meaning for meaning in found if meaning is not None))


def _meaning(task: str, said: Mapping[str, str | None]) -> Meaning | None:
    """None if a phrase is not understood."""
    things: tuple[Phrase, ...] = ()
    if said.get("ref") is not None:
        read = _things(said["ref"] or "")
        if read is None:
            return None
        things = read
    elif said.get("where") is not None and task != "add":
        things = (Phrase(slot=_slot(said["where"] or "")),)
    new = None
    if said.get("new") is not None:
        new = read_phrase(said["new"] or "")
        if new is None or (new.name is None and new.fact is None):
            return None
        if task == "add" and said.get("where") is not None:
            slot = _slot(said["where"] or "")
            if new.slot not in (None, slot):
                return None
            new = Phrase(**{**vars(new), "slot": slot})
    bigger = None if said.get("size") is None else said["size"] == "bigger"
    operation = None if said.get("op") is None else _OPERATIONS[said["op"] or ""]
    return Meaning(task, things, new, said.get("colour"), bigger, operation)


def _things(words: str) -> tuple[Phrase, ...] | None:
    """Phrases of one thing, or of two with `and` between them."""
    whole = read_phrase(words)
    if whole is not None:
        return (whole,)
    parts = words.split(" and ")
    read = [read_phrase(part) for part in parts]
    known = tuple(phrase for phrase in read if phrase is not None)
    return known if len(parts) > 1 and len(known) == len(parts) else None


def _slot(words: str) -> int:
    return list(PLACES.values()).index(words)


@lru_cache(maxsize=1)
def _forms() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Task and pattern of every wording."""
    return tuple(dict.fromkeys((task, re.compile(_pattern(text))) for task, text in _wordings()))


def _wordings() -> Iterator[tuple[str, str]]:
    for task, templates in TEMPLATES.items():
        for one in templates:
            text = one.text.replace("a {new} {place}", "{new} {place}").replace("a {new}", "{new}")
            yield task, text.replace("{place}", "{where}")
    for task, text in wording.TEMPLATES.items():
        yield task, _renamed(text)
    given: Sequence[Mapping[str, tuple[str, ...]]] = (
        wording.SIMPLE_TEMPLATES,
        wording.ADVANCED_TEMPLATES,
        chat.SIMPLE,
        chat.ADVANCED,
        chat.REASONING,
        EXPRESSIVE,
    )
    for forms in given:
        for task, texts in forms.items():
            yield from ((task, _renamed(text)) for text in texts)


def _renamed(text: str) -> str:
    return text.replace("the {origin}", "{ref}").replace("the {target}", "{new}")


def _pattern(text: str) -> str:
    parts = re.split(r"\{(\w+)\}", text.lower().rstrip(" .!"))
    return "".join(_GROUPS[part] if number % 2 else re.escape(part) for number, part in enumerate(parts))
