"""Everything a scene is told in: references, instructions, captions, questions.

What people say is data: `wordings.yaml` holds families of sentences, lists of words that stand for each other, and
beginnings, ends and slips that any order may have; `sayings.txt` holds whole sentences. Families (and beginnings,
ends, places and references) marked `held_out` are told in the test split only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from insightedit.images.tones import operation_of
from insightedit.scenes.scene import SLOTS, Edit, Scene, SceneObject

PLACEHOLDER = "<imagehere>"  # MIGE's mark for a picture in a text
STYLES = ("simple", "advanced")  # InsightEdit's SimpleEdit and AdvancedEdit
OWN_FAMILIES = {"val": "val", "test": "held_out"}  # split -> where the book has its own
CANNOT = "i cannot do that"  # what a model says to what is outside of its world
NOT_THERE = "there is no "  # and of a thing that it does not see
REFUSALS = f"{NOT_THERE.strip()}|{CANNOT}"  # as pipelines take them
# of a hundred orders
SHARES = {"beginning": 40, "end": 25, "intro": 6, "slip": 12, "alias": 20, "bare": 20, "saying": 60}
REFERENCE = "\0"  # stands for the words for what is meant until all else is said
Rng = np.random.Generator
Drawn = TypeVar("Drawn")
_TEXT = (Path(__file__).parent / "wordings.yaml").read_text(encoding="utf-8")
BOOK: dict[str, Any] = yaml.load(_TEXT, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # libyaml's: 12 x faster
ALIASES: dict[str, list[str]] = BOOK["aliases"]


@dataclass(frozen=True)
class Template:
    """One family of wordings of a task."""

    key: str
    style: str
    text: str  # with `(a|b)` for a choice, `$name` for a list, `{slot}` for what the scene fills in
    split: str = "train"  # where it is told: `train` everywhere but in `test`, `val` and `test` only there

    @property
    def held_out(self) -> bool:
        """Whether it is told in the test split alone."""
        return self.split == "test"

    def variants(self) -> list[str]:
        """Every wording of the family, slots left open."""
        return _variants(self.text)


def _templates(task: str, families: Mapping[str, Any]) -> tuple[Template, ...]:
    found = [
        Template(f"{task}-{style}-{i}", style, text) for style in STYLES for i, text in enumerate(families[style])
    ]
    for split, part in OWN_FAMILIES.items():
        for style, texts in families.get(part, {}).items():
            mark = part.replace("_", "")
            found += [Template(f"{task}-{mark}-{style}-{i}", style, text, split) for i, text in enumerate(texts)]
    return tuple(found)


def told_in(rng: Rng, templates: Sequence[Template], split: str) -> list[Template]:
    """The families that a request of a split is told in: its own, where it has any; in `val` half of the time.

    What reads strangers' words wrongly can only be seen, and a confidence only be fitted, on words that it was not
    taught; and `val` still shows whether it learnt what it was taught.
    """
    own = [template for template in templates if template.split == split]
    if own and split == "val" and rng.integers(2):
        own = []
    return own or [template for template in templates if template.split == "train"]


TEMPLATES: dict[str, tuple[Template, ...]] = {
    **{task: _templates(task, families) for task, families in BOOK["tasks"].items()},
    "photometric": _templates("photometric", BOOK["tones"]),
    "decline": _templates("decline", BOOK["outside"]),
}
PLAIN_TEMPLATES = {task: _templates(f"plain-{task}", families) for task, families in BOOK["plain"].items()}


def _by_picture(template: Template) -> Template:
    """The same wording with a picture in place of the words for the new thing."""
    return replace(template, key=f"picture-{template.key}", text=template.text.replace("a {new}", PLACEHOLDER))


PICTURE_TEMPLATES: dict[str, tuple[Template, ...]] = {
    **{
        task: tuple(_by_picture(t) for t in TEMPLATES[task] if t.text.count("{new}") == t.text.count("a {new}") == 1)
        for task in ("add", "replace")
    },
    "create": _templates("create", BOOK["create"]),
}
PLACES: dict[str, str] = {slot: phrases[0] for slot, phrases in BOOK["places"].items()}


@cache
def _parts(pattern: str) -> tuple[str, tuple[str, ...]] | None:
    """The first open choice: the pattern with a mark in its place, and what it may be; None without one."""
    found = re.search(r"\$(\w+)|\(([^()]*)\)", pattern)
    if found is None:
        return None
    choices = tuple(BOOK["lists"][found[1]]) if found[1] else tuple(found[2].split("|"))
    return f"{pattern[: found.start()]}\1{pattern[found.end() :]}", choices


def expand(rng: Rng, pattern: str, lists: Mapping[str, Sequence[str]] | None = None) -> str:
    """A pattern with every choice made; `lists` come before those of the book. Slots stay open."""
    for name, words in (lists or {}).items():
        while f"${name}" in pattern:
            pattern = pattern.replace(f"${name}", _one(rng, words), 1)
    while (parts := _parts(pattern)) is not None:
        pattern = parts[0].replace("\1", _one(rng, parts[1]))
    return " ".join(pattern.split())


def _variants(pattern: str) -> list[str]:
    lists = {name for words in BOOK["size_lists"].values() for name in words}
    for name in lists:
        pattern = pattern.replace(f"${name}", "{" + name + "}")
    parts = _parts(pattern)
    if parts is None:
        return [" ".join(pattern.split())]
    return [text for choice in parts[1] for text in _variants(parts[0].replace("\1", choice))]


def _one(rng: Rng, choices: Sequence[Drawn]) -> Drawn:
    return choices[int(rng.integers(len(choices)))]


def _chance(rng: Rng, name: str) -> bool:
    return int(rng.integers(100)) < SHARES[name]


def say(rng: Rng, template: Template, slots: Mapping[str, str], size: str | None = None) -> str:
    """An instruction in a family's words, as somebody might type it; the slot `ref` may be `REFERENCE`.

    Orders take a beginning, an end or a sentence before them; anything may be misspelt. `size` (`bigger` or `smaller`)
    chooses the words for a change of size.
    """
    lists = BOOK["size_lists"][size] if size else None
    text = expand(rng, template.text, lists).format(**slots)
    also = "held_out" if template.held_out and rng.integers(2) else "simple"
    if template.style == "simple" and PLACEHOLDER not in text:
        if _chance(rng, "beginning"):
            text = f"{expand(rng, _one(rng, BOOK['beginnings'][also]))} {text}"
        if _chance(rng, "end"):
            text = f"{text}{_one(rng, (' ', ' ', ', '))}{expand(rng, _one(rng, BOOK['ends'][also]))}"
        if _chance(rng, "intro"):
            text = f"{expand(rng, _one(rng, BOOK['intros'][also]))} {text}"
    text = fix_articles(" ".join(text.split()))
    if _chance(rng, "slip") and PLACEHOLDER not in text:
        text = misspell(rng, text)
    asks = re.match(r"(can|could|would|will|is|what|how|why|who|couldn't|wouldn't)\b", text)
    return text + _one(rng, ("", "", "?") if asks else ("", "", "", "", ".", "!"))


def misspell(rng: Rng, text: str) -> str:
    """One word with two letters swapped, one missing or one doubled, as fingers do."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not long:
        return text
    number = long[int(rng.integers(len(long)))]
    word, at, kind = words[number], int(rng.integers(1, len(words[number]) - 1)), int(rng.integers(3))
    middle = (word[at + 1] + word[at], word[at + 1], word[at] * 2 + word[at + 1])[kind]
    words[number] = word[:at] + middle + word[at + 2 :]
    return " ".join(words)


def place(slot: int) -> str:
    """`at the top left` and so on, as the model says it."""
    return PLACES[SLOTS[slot]]


def place_words(rng: Rng, slot: int, held_out: bool = False) -> str:
    """The same in somebody's words."""
    return _one(rng, BOOK["held_out_places" if held_out else "places"][SLOTS[slot]])


def called(rng: Rng, name: str) -> str:
    """A class's name, or now and then another name for it."""
    return _one(rng, ALIASES[name]) if name in ALIASES and _chance(rng, "alias") else name


def plural(noun: str) -> str:
    """`dogs`, `foxes`, `butterflies`, `snowmen`."""
    for one, many in BOOK["plurals"].items():
        if noun.endswith(one):
            return noun.removesuffix(one) + many
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def article(noun: str) -> str:
    """`a dog`, `an apple`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def fix_articles(text: str) -> str:
    """Turn `a apple` into `an apple`."""
    return re.sub(r"(?<!\S)a (?=[aeiou])", "an ", text)


def with_reference(text: str, reference: str) -> str:
    """A text with `REFERENCE` in it, with the words for what is meant in its place.

    Only a name can own something: "the dog's colour", but "the colour of the dog at the top".
    """
    if re.search(r",|\b(at|in|of|on|that|next|beside|you|there|left|right|under|over|over there)\b", reference):
        text = re.sub(rf"{REFERENCE}'s (\w+)", rf"the \1 of {REFERENCE}", text)
    return text.replace(REFERENCE, reference)


def describe(thing: SceneObject) -> str:
    """`red dog`, `dog in the mirror`: the object without its place."""
    colour = f"{thing.colour} " if thing.colour else ""
    return f"{colour}{thing.name}{' in the mirror' if thing.in_mirror else ''}"


@cache
def tone_words(operation: str) -> dict[str, list[str]]:
    """How an operation of `insightedit.images.tones.OPERATIONS` is told: `look`, `deed`, `complaint`, `secret`, `noun`.

    Tints share their sentences; half of them name the colour, the others one of its hues.
    """
    book = BOOK["tones"]
    if operation in book["operations"]:
        return book["operations"][operation]
    own = book["hues"][operation.removeprefix("more ")]
    hues = own["hue"][:1] * (len(own["hue"]) - 1) + own["hue"][1:]
    told = {
        kind: [text.replace("{hue}", hue) for text in texts for hue in hues] for kind, texts in book["tints"].items()
    }
    told["look"] += own["look"] * len(hues)
    return told


def tone_request(rng: Rng, phrase: str, split: str = "train", template: Template | None = None) -> str:
    """An order for a whole-picture operation, `phrase` being one of `insightedit.images.tones.TONES`, in some words.

    Words for degrees are told as a phrase has one, and families and words as a split has its own.
    """
    operation = operation_of(phrase)
    degree = phrase.removesuffix(operation).strip()
    words, degrees = tone_words(operation), BOOK["tones"]["degrees"]
    if template is None:
        template = _one(rng, told_in(rng, TEMPLATES["photometric"], split))
    if _chance(rng, "saying") and (said := sayings(template.split).get(phrase)):
        return say(rng, replace(template, style="advanced", text=_one(rng, said)), {})
    look, deed = _one(rng, words["look"]), _one(rng, words["deed"])
    if _chance(rng, "bare"):
        deed = re.sub(r" (it|\$whole)$", "", deed)  # "pixelate", as people type it
    too, before, after = "too", "", ""
    if degree == "slightly":
        too, before, after = "too slight", _one(rng, degrees["slight"]), _one(rng, degrees["slightly"])
    elif degree:
        too, before, after = "too much", _one(rng, degrees[degree]), _one(rng, degrees["strongly"])
    if degree and "noun" in words and rng.integers(2):
        deed = expand(rng, _one(rng, BOOK["tones"]["nouns"]["slightly" if degree == "slightly" else "strong"]))
        deed, after = deed.format(noun=_one(rng, words["noun"])), ""
    complaint, secret = words["complaint"], _one(rng, words["secret"])
    if degree:  # only complaints that have a place for it
        complaint = [one for one in complaint if "{too}" in one] or [f"{deed} {after}"]
    slots = {
        "look": f"{before} {look}", "deed": f"{deed} {after}", "secret": f"{secret} {after}",
        "complaint": _one(rng, complaint).replace("{too}", _one(rng, degrees[too])),
    }  # fmt: skip
    return say(rng, replace(template, text=template.text.format(**slots)), {})


@cache
def sayings(split: str = "train") -> dict[str, tuple[str, ...]]:
    """Single sentences, by the tone they ask for (`decline`: what nobody can do), of `sayings.txt`.

    A language model wrote them in the voices of many people. Each tenth of a tone is told in `val` only, and each
    tenth in `test` only; no sentence is there twice, but some are near variants of others, across splits too.
    """
    found: dict[str, list[str]] = {}
    for line in (Path(__file__).parent / "sayings.txt").read_text(encoding="utf-8").splitlines():
        tone, said = line.split("\t")
        found.setdefault(tone, []).append(said)
    own = {"val": 8, "test": 9}
    kept = {
        tone: tuple(text for number, text in enumerate(texts) if own.get(split, number % 10 % 8) == number % 10)
        for tone, texts in found.items()
    }
    return {tone: texts for tone, texts in kept.items() if texts}


@cache
def unknown_things(split: str = "train") -> tuple[str, ...]:
    """Things that no scene shows: `val` has some of its own, every fourth of the others is told in `test` only."""
    from insightedit.scenes.assets import Assets

    there = {*Assets.embedded().seen_classes, *(alias for names in ALIASES.values() for alias in names)}
    words = [word.replace("-", " ") for word in BOOK["unknown_val" if split == "val" else "unknown"].split()]
    words = [word for word in words if word not in there]
    kept = split == "test"
    return tuple(word for number, word in enumerate(words) if split == "val" or (number % 4 == 3) == kept)


def outside_request(rng: Rng, split: str = "train", names: Sequence[str] = ("dog",), place: str = "") -> str:
    """Something that nobody can do who knows this world only: other things, texts, faces, weather, nonsense.

    `names` are classes that may be named in it; `place` is where, by default anywhere. A split may have families and
    things of its own.
    """
    template = _one(rng, told_in(rng, TEMPLATES["decline"], split))
    if _chance(rng, "saying") and (said := sayings(template.split).get("decline")):
        template = replace(template, style="advanced", text=_one(rng, said))
    letters = "abcdefghijklmnopqrstuvwxyz"
    things = unknown_things(template.split)
    slots = {
        "unknown": _one(rng, things), "unknown2": _one(rng, things), "name": _one(rng, names), "new": _one(rng, names),
        "colour": _one(rng, ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")),
        "oddcolour": _one(rng, BOOK["outside"]["oddcolours"]), "text": _one(rng, BOOK["outside"]["texts"]),
        "place": place or place_words(rng, int(rng.integers(len(SLOTS)))),
        "gibberish": "".join(_one(rng, letters) for _ in range(int(rng.integers(3, 9)))),
        "gibberish2": "".join(_one(rng, letters) for _ in range(int(rng.integers(3, 9)))),
    }  # fmt: skip
    return say(rng, template, slots)


def expressive(scene: Scene, edit: Edit) -> str:
    """The instruction with every reference resolved: which object, where, what changes (MGIE's L_ins)."""
    if edit.task == "decline":
        return f"{NOT_THERE}{edit.name}" if edit.name else CANNOT
    if edit.task == "photometric":
        return f"make the whole picture {edit.operation}"
    if edit.task == "add":
        return f"add {_new_thing(edit)} {place(edit.slot or 0)}"
    things = [scene.objects[i] for i in edit.targets]
    text = " and ".join(f"the {describe(t)} {place(t.slot)}" for t in things)
    if edit.task == "remove":
        return f"remove {text}"
    if edit.task == "replace":
        return f"replace {text} with {_new_thing(edit)}"
    if edit.task == "recolour":
        return f"paint {text} {edit.colour}"
    return f"make {text} {'bigger' if edit.bigger else 'smaller'}"


def _new_thing(edit: Edit) -> str:
    return article(f"{edit.colour} {edit.name}" if edit.colour else str(edit.name))


def caption(scene: Scene) -> str:
    """One sentence that names every object and its place."""
    look = f"{scene.photometric} " if scene.photometric else ""
    start = fix_articles(f"a {look}photo")
    if not scene.objects:
        return f"{start} with nothing in it"
    things = ", ".join(f"{article(describe(o))} {place(o.slot)}" for o in scene.objects)
    return f"{start} with {things}{' and a mirror' if scene.mirror else ''}"


def questions(scene: Scene, instruction: str, edit: Edit) -> list[tuple[str, str]]:
    """Questions about the source picture and about what an instruction means, with their answers."""
    pairs = [(f"what is {place(o.slot)}?", article(describe(o))) for o in scene.objects]
    names = [o.name for o in scene.objects]
    for thing in scene.objects:
        if names.count(thing.name) == 1:
            pairs.append((f"where is the {thing.name}?", place(thing.slot)))
    for name in sorted(set(names)):
        pairs.append((f"how many {plural(name)} are there?", str(names.count(name))))
    if empty := scene.empty_slots:
        pairs.append((f"what is {place(empty[len(names) % len(empty)])}?", "nothing"))
    if edit.targets:
        things = [scene.objects[i] for i in edit.targets]
        answer = " and ".join(f"the {describe(t)} {place(t.slot)}" for t in things)
        pairs.append((f"which object should change? {instruction}", answer))
    return pairs
