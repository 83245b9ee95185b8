"""Everything a scene is told in: references, instructions, captions, questions.

`HELD_OUT` templates are never used outside the test split. Words are plain and few: a miniature language model with
a thousand word pieces has to read them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from insightedit.scenes.scene import SLOTS, Edit, Scene, SceneObject

PLACEHOLDER = "<imagehere>"  # MIGE's mark for a picture in a text
STYLES = ("simple", "advanced")  # InsightEdit's SimpleEdit and AdvancedEdit


@dataclass(frozen=True)
class Template:
    """One wording of a task; `held_out` ones appear in the test split only."""

    key: str
    style: str
    text: str
    held_out: bool = False


def _templates(task: str, simple: list[str], advanced: list[str], held_out: list[str]) -> tuple[Template, ...]:
    return (
        *(Template(f"{task}-simple-{i}", "simple", t) for i, t in enumerate(simple)),
        *(Template(f"{task}-advanced-{i}", "advanced", t) for i, t in enumerate(advanced)),
        *(Template(f"{task}-heldout-{i}", STYLES[min(i, 1)], t, True) for i, t in enumerate(held_out)),
    )


_TEXTS: dict[str, tuple[list[str], list[str], list[str]]] = {  # simple, advanced, held out
    "remove": (
        ["remove {ref}", "delete {ref}", "take away {ref}", "erase {ref}", "get rid of {ref}", "please remove {ref}"],
        [
            "remove {ref} and show what is behind it", "make the picture look as if {ref} had never been there",
            "i do not want to see {ref} in this photo", "clean the photo by taking {ref} out of it",
        ],
        ["please take away {ref}", "erase {ref} and show the background behind it"],
    ),
    "replace": (
        [
            "replace {ref} with a {new}", "turn {ref} into a {new}", "change {ref} to a {new}",
            "swap {ref} for a {new}", "put a {new} in place of {ref}",
        ],
        [
            "i want a {new} to stand where {ref} is now", "take {ref} out of the photo and show a {new} there",
            "make the picture look as if a {new} had been there and not {ref}",
        ],
        ["please swap {ref} for a {new}", "remove {ref} and put a {new} there"],
    ),
    "recolour": (
        [
            "make {ref} {colour}", "paint {ref} {colour}", "change the colour of {ref} to {colour}",
            "turn {ref} {colour}", "colour {ref} {colour}",
        ],
        [
            "i want {ref} to look {colour} from now on", "give {ref} a {colour} colour and keep all the rest",
            "change only the colour of {ref} so that it is {colour}",
        ],
        ["please paint {ref} {colour}", "i want the colour of {ref} to be {colour}"],
    ),
    "add": (
        [
            "add a {new} {place}", "put a {new} {place}", "place a {new} {place}", "draw a {new} {place}",
            "insert a {new} {place}",
        ],
        [
            "i want to see a {new} {place} of this photo",
            "make the picture look as if a {new} had been there {place}",
            "there is nothing {place} so put a {new} there",
        ],
        ["please place a {new} {place}", "i want a {new} {place} of the picture"],
    ),
    "resize": (
        ["make {ref} {size}", "make {ref} look {size}", "turn {ref} into a {size} one", "let {ref} be {size}"],
        [
            "i want {ref} to be {size} than it is now", "change only the size of {ref} so that it is {size}",
            "keep all the rest but make {ref} {size}",
        ],
        ["please make {ref} {size}", "i want the size of {ref} to be {size}"],
    ),
    "photometric": (
        [
            "make the picture {op}", "make the photo {op}", "make it {op}", "the picture should be {op}",
            "turn the photo {op}",
        ],
        [
            "i want the whole photo to look {op}", "keep every object but make the whole picture {op}",
            "change the light and the colour so that the picture is {op}",
        ],
        ["please make the whole photo {op}", "the whole picture should look {op}"],
    ),
}  # fmt: skip
TEMPLATES = {task: _templates(task, *texts) for task, texts in _TEXTS.items()}


def _by_picture(template: Template) -> Template:
    """The same wording with a picture in place of the words for the new thing."""
    return replace(template, key=f"picture-{template.key}", text=template.text.replace("a {new}", PLACEHOLDER))


PICTURE_TEMPLATES: dict[str, tuple[Template, ...]] = {
    "add": tuple(map(_by_picture, TEMPLATES["add"])),
    "replace": tuple(map(_by_picture, TEMPLATES["replace"])),
    "create": _templates(
        "create",
        [
            "draw {things} on {backdrop}", "put {things} on {backdrop}", "show {things} on {backdrop}",
            "a picture with {things} on {backdrop}", "place {things} of {backdrop}",
        ],
        [
            "i want a picture with {things} on {backdrop}", "make a new picture of {backdrop} with {things}",
            "start from {backdrop} and add {things}", "take {backdrop} and draw {things} on it",
        ],
        ["please show {things} on {backdrop}", "start from {backdrop} and put {things} on it"],
    ),
}  # fmt: skip
PLACES = {
    "top left": "at the top left", "top": "at the top", "top right": "at the top right", "left": "at the left side",
    "middle": "in the middle", "right": "at the right side", "bottom left": "at the bottom left",
    "bottom": "at the bottom", "bottom right": "at the bottom right",
}  # fmt: skip


def place(slot: int) -> str:
    """`at the top left` and so on."""
    return PLACES[SLOTS[slot]]


def article(noun: str) -> str:
    """`a dog`, `an apple`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def fix_articles(text: str) -> str:
    """Turn `a apple` into `an apple`."""
    return re.sub(r"(?<!\S)a (?=[aeiou])", "an ", text)


def describe(thing: SceneObject) -> str:
    """`red dog`, `dog in the mirror`: the object without its place."""
    colour = f"{thing.colour} " if thing.colour else ""
    return f"{colour}{thing.name}{' in the mirror' if thing.in_mirror else ''}"


def expressive(scene: Scene, edit: Edit) -> str:
    """The instruction with every reference resolved: which object, where, what changes (MGIE's L_ins)."""
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
        pairs.append((f"how many {name}s are there?", str(names.count(name))))
    if empty := scene.empty_slots:
        pairs.append((f"what is {place(empty[len(names) % len(empty)])}?", "nothing"))
    if edit.targets:
        things = [scene.objects[i] for i in edit.targets]
        answer = " and ".join(f"the {describe(t)} {place(t.slot)}" for t in things)
        pairs.append((f"which object should change? {instruction}", answer))
    return pairs
