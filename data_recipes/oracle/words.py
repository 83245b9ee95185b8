"""Phrases about the things of a scene, and instructions: written so that they mean one thing, and read strictly.

A phrase is read whole or not at all: "the red dog at the top left" says class, colour and place; with a word that
is not in the grammar it says nothing. Detector, chat and judge share this, so they mean the same thing.

Of instructions the plain wordings of scenes, those of the step `wording` and of the oracle chat are known; a wording
counts only if all of its phrases can be read, so that of several readings of one sentence the right one is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from data_recipes.steps import wording
from insightedit.images.tones import TONES
from insightedit.scenes.assets import Assets
from insightedit.scenes.scene import COLOURS, HEIGHTS, SLOTS, Scene, SceneObject
from insightedit.scenes.wordings import PLACES, PLAIN_TEMPLATES, article, describe, place, plural

SIZES = ("small", "medium-sized", "large")
_BOUNDS = ((HEIGHTS["small"] + HEIGHTS["medium"]) // 2, (HEIGHTS["medium"] + HEIGHTS["large"]) // 2)
_SLOT_OF = {words: SLOTS.index(name) for name, words in PLACES.items()}

# what the oracle chat writes
SIMPLE = {
    "remove": ("delete {ref}", "take away {ref}", "erase {ref}", "get rid of {ref}"),
    "replace": (
        "turn {ref} into {new}", "change {ref} to {new}", "swap {ref} for {new}", "put {new} in place of {ref}",
    ),
    "add": ("put {new} into the picture", "place {new} in this photo", "insert {new}", "draw {new}"),
}  # fmt: skip
ADVANCED = {
    "remove": (
        "make the picture look as if {ref} had never been there",
        "clean the photo by taking {ref} out of it",
        "remove {ref} and show what is behind it",
    ),
    "replace": (
        "i want {new} to stand where {ref} is now",
        "take {ref} out of the photo and show {new} there",
        "make the picture look as if {new} had been there and not {ref}",
    ),
    "add": ("make the picture look as if {new} had been there", "i want to see {new} in this photo"),
}
REASONING = {
    "remove": ("What is {where}? Remove it.", "Find {ref} and take it out of the picture."),
    "replace": ("What is {where}? Replace it with {new}.", "Find {ref} and put {new} there."),
    "add": ("What is missing {where}? Add {new}.", "There is nothing {where}, so put {new} there."),
}
EXPRESSIVE = {  # as scenes resolve every reference
    "remove": ("remove {ref}",),
    "replace": ("replace {ref} with {new}",),
    "add": ("add {new}",),
    "recolour": ("paint {ref} {colour}",),
    "resize": ("make {ref} {size}",),
    "photometric": ("make the whole picture {op}",),
}


@dataclass(frozen=True)
class Phrase:
    """What a phrase says about a thing; None where it says nothing."""

    name: str | None = None  # its class
    colour: str | None = None  # its tint
    slot: int | None = None  # where it stands, index into `SLOTS`
    mirror: bool | None = None  # whether it is the copy in a mirror
    fact: str | None = None  # what only few things are
    size: str | None = None  # one of `SIZES`
    rank: str | None = None  # "left", "right", "bigger" or "smaller": which of those that the rest fits
    both: bool = False  # whether two of a class are meant

    def fits(self, thing: SceneObject) -> bool:
        """Whether all that is said is true of a thing; a rank needs the others and is not looked at."""
        return (
            self.name in (None, thing.name)
            and self.colour in (None, thing.colour)
            and self.slot in (None, thing.slot)
            and self.mirror in (None, thing.in_mirror)
            and self.fact in (None, fact_of(thing.name))
            and self.size in (None, size_word(thing))
        )

    def among(self, things: tuple[SceneObject, ...]) -> tuple[int, ...]:
        """Indices of the things that are meant, in order; none or several where the phrase is not clear."""
        fitting = [number for number, thing in enumerate(things) if self.fits(thing)]
        if self.rank is not None and len(fitting) == 2:
            key = "x" if self.rank in ("left", "right") else "height"
            ordered = sorted(fitting, key=lambda number: getattr(things[number], key))
            return (ordered[0 if self.rank in ("left", "smaller") else 1],)
        return tuple(fitting)


def size_word(thing: SceneObject) -> str:
    """How large a thing is among the three heights that scenes have."""
    return SIZES[sum(thing.height >= bound for bound in _BOUNDS)]


def simple_caption(scene: Scene, number: int) -> str:
    """The fewest words that mean this thing of the scene alone: `dog`, `red dog`, `dog at the top left`."""
    thing = scene.objects[number]
    words = describe(thing)
    phrase = read_phrase(words)
    is_clear = phrase is not None and phrase.among(scene.objects) == (number,)
    return words if is_clear else f"{words} {place(thing.slot)}"


def detailed_caption(thing: SceneObject) -> str:
    """All that is known about a thing: `a small red dog at the top left`."""
    return article(f"{size_word(thing)} {describe(thing)} {place(thing.slot)}")


def fact_of(name: str) -> str:
    """What only few things are; "" where nothing is known of the class."""
    return Assets.embedded().sprites[name].fact


def read_phrase(text: str) -> Phrase | None:
    """What a phrase says; None if a word of it is not understood.

    Such as "the dog in the mirror", "a small red fox at the top", "the animal that can fly", "both dogs", "the thing in
    the middle".
    """
    words = " ".join(text.lower().replace("_", " ").strip(" .,!?").split())
    if words.startswith("both "):
        named = next((n for n in Assets.embedded().sprites if plural(n) == words.removeprefix("both ")), None)
        return None if named is None else Phrase(name=named, both=True)
    found = _grammar().fullmatch(words)
    if found is None:
        return None
    said = found.groupdict()
    mirror = None if said["mirror"] is None else said["mirror"] == "in the mirror"
    slot = None if said["place"] is None else _SLOT_OF[said["place"]]
    phrase = Phrase(said["name"], said["colour"], slot, mirror, said["fact"], said["size"], said["rank"])
    return None if phrase == Phrase() else phrase


@lru_cache(maxsize=1)
def _grammar() -> re.Pattern[str]:
    sprites = Assets.embedded().sprites
    names = _any_of(sprites)
    facts = _any_of({sprite.fact for sprite in sprites.values() if sprite.fact})
    return re.compile(
        r"(?:the |an? )?"
        rf"(?:(?P<fact>{facts})|(?:(?P<rank>left|right|bigger|smaller) )?(?:(?P<size>{_any_of(SIZES)}) )?"
        rf"(?:(?P<colour>{_any_of(COLOURS)}) )?(?:(?P<name>{names})|thing))"
        r"(?: (?P<mirror>in the mirror|in front of the mirror))?"
        rf"(?: (?P<place>{_any_of(_SLOT_OF)}))?(?: of (?:the|this) (?:photo|picture))?"
    )


def _any_of(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


@dataclass(frozen=True)
class Meaning:
    """What an instruction asks for."""

    task: str  # "remove", "add", "replace", "recolour", "resize" or "photometric"
    things: tuple[Phrase, ...] = ()  # what is edited; none for additions and for the whole picture
    new: Phrase | None = None  # what comes; None where nothing comes
    colour: str | None = None  # new tint
    bigger: bool | None = None  # direction of a change of size
    operation: str | None = None  # global change


def read_instruction(text: str) -> tuple[Meaning, ...]:
    """All that an instruction can mean, each once; nothing if it is not understood."""
    words = " ".join(text.lower().split()).rstrip(" .!")
    found = (_meaning(task, match.groupdict()) for task, known in _forms() if (match := known.fullmatch(words)))
    return tuple(dict.fromkeys(meaning for meaning in found if meaning is not None))


def _meaning(task: str, said: Mapping[str, str | None]) -> Meaning | None:
    """None if a phrase is not understood."""
    slot = None if said.get("where") is None else _SLOT_OF[said["where"] or ""]
    things: tuple[Phrase, ...] = ()
    if (words := said.get("ref")) is not None:
        whole = read_phrase(words)
        read = [whole] if whole is not None else [read_phrase(part) for part in words.split(" and ")]
        things = tuple(phrase for phrase in read if phrase is not None)
        if len(things) < len(read):
            return None
    elif slot is not None and task != "add":
        things = (Phrase(slot=slot),)
    new = None
    if said.get("new") is not None:
        new = read_phrase(said["new"] or "")
        if new is None or (new.name is None and new.fact is None):
            return None
        if task == "add" and slot is not None:
            if new.slot not in (None, slot):
                return None
            new = replace(new, slot=slot)
    bigger = None if said.get("size") is None else said["size"] == "bigger"
    return Meaning(task, things, new, said.get("colour"), bigger, said.get("op"))


@lru_cache(maxsize=1)
def _forms() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Task and pattern of every wording."""
    groups = {
        "ref": "(?P<ref>.+?)",
        "new": "(?P<new>.+?)",
        "where": f"(?P<where>{_any_of(_SLOT_OF)})",
        "colour": f"(?P<colour>{_any_of(COLOURS)})",
        "size": "(?P<size>bigger|smaller)",
        "op": f"(?P<op>{_any_of(TONES)})",
    }
    forms = []
    for task, text in _wordings():
        parts = re.split(r"\{(\w+)\}", text.lower().rstrip(" .!"))
        pattern = "".join(groups[part] if number % 2 else re.escape(part) for number, part in enumerate(parts))
        forms.append((task, re.compile(pattern.replace(r"\ a\ (?P<colour>", r"\ an?\ (?P<colour>"))))
    return tuple(dict.fromkeys(forms))


def _wordings() -> Iterator[tuple[str, str]]:
    """Task and text of every wording, with `{ref}`, `{new}` and so on; a phrase holds its own article and place."""
    for task, templates in PLAIN_TEMPLATES.items():
        for one in templates:
            text = one.text.replace("a {new} {place}", "{new} {place}").replace("a {new}", "{new}")
            yield task, text.replace("{place}", "{where}")
    published = {task: (text,) for task, text in wording.TEMPLATES.items()}
    given = (published, wording.SIMPLE_TEMPLATES, wording.ADVANCED_TEMPLATES, SIMPLE, ADVANCED, REASONING, EXPRESSIVE)
    for forms in given:
        for task, texts in forms.items():
            for text in texts:
                yield task, text.replace("the {origin}", "{ref}").replace("the {target}", "{new}")
