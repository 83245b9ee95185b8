"""Phrases about the things of a scene: written so that they mean one of them, and read strictly.

A phrase is read whole or not at all: "the red dog at the top left" says class, colour and place; with a word that
is not in the grammar it says nothing. Detector, chat and judge share this, so they mean the same thing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from insightedit.scenes.assets import Assets
from insightedit.scenes.scene import COLOURS, HEIGHTS, SLOTS, Scene, SceneObject
from insightedit.scenes.wordings import PLACES, article, describe, place

SIZES = ("small", "medium-sized", "large")
_BOUNDS = ((HEIGHTS["small"] + HEIGHTS["medium"]) // 2, (HEIGHTS["medium"] + HEIGHTS["large"]) // 2)
_SLOT_OF = {words: SLOTS.index(name) for name, words in PLACES.items()}


@dataclass(frozen=True)
class Phrase:
    """What a phrase says about a thing; None where it says nothing.

    Attributes:
        name: its class.
        colour: its tint.
        slot: where it stands, index into `SLOTS`.
        mirror: whether it is the copy in a mirror.
        fact: what only few things are.
        size: one of `SIZES`.
        rank: "left", "right", "bigger" or "smaller": which of those that the rest fits.
        both: whether two of a class are meant.
    """

    name: str | None = None
    colour: str | None = None
    slot: int | None = None
    mirror: bool | None = None
    fact: str | None = None
    size: str | None = None
    rank: str | None = None
    both: bool = False

    def fits(self, thing: SceneObject) -> bool:
        """Whether all that is said is true of a thing; a rank needs the others and is not looked at."""
        return (
            self.name in (None, thing.name)
            and self.colour in (None, thing.colour)
            and self.slot in (None, thing.slot)
            and self.mirror in (None, thing.in_mirror)
            and self.fact in (None, Assets.embedded().sprites[thing.name].fact)
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


def read_phrase(text: str) -> Phrase | None:
    """What a phrase says.

    Args:
        text: e.g. "the dog in the mirror", "a small red fox at the top", "the animal that can fly", "both dogs",
            "the thing in the middle".

    Returns:
        None if a word of it is not understood.
    """
    words = " ".join(text.lower().replace("_", " ").strip(" .,!?").split())
    if (plural := re.fullmatch(r"both (.+?)s", words)) is not None:
        name = plural[1].removesuffix("e") if plural[1] not in Assets.embedded().sprites else plural[1]
        return Phrase(name=name, both=True) if name in Assets.embedded().sprites else None
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


def _any_of(words: object) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))  # type: ignore[call-overload]


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
