"""The wrong edits, and the wrong new pictures, that a right one has to be told apart from."""

from __future__ import annotations

from dataclasses import replace

from insightedit.scenes.render import BACKDROP_COLOURS, TINTS, Backdrop
from insightedit.scenes.scene import COLOURS, PHOTOMETRIC, SLOT_CENTRES, SLOTS, Edit, Scene, SceneObject, apply_edit

WRONG_CLASSES = 4
WRONG_SLOTS = 2
WRONG_BACKDROPS = 4


def candidate_scenes(scene: Scene, edit: Edit, classes: tuple[str, ...], by_picture: bool = False) -> dict[str, Scene]:
    """Name -> scene of each wrong edit of a source; the caller drops those that look like the target.

    `by_picture`: a reference picture tells the new object, so that its tint can be missed too.
    """
    edits: dict[str, Edit] = {}
    for number in range(len(scene.objects)):
        if edit.targets and number not in edit.targets:
            edits[f"wrong_object:{number}"] = replace(edit, targets=(number,))
    if len(edit.targets) > 1:
        for number in edit.targets:
            edits[f"only_object:{number}"] = replace(edit, targets=(number,))
    if edit.name is not None:
        kind = "wrong_subject" if by_picture else "wrong_class"
        for name in wrong_classes(edit.name, classes):
            edits[f"{kind}:{name}"] = replace(edit, name=name)
        for colour in TINTS if by_picture else ():
            if colour != edit.colour:
                edits[f"wrong_tint:{colour or 'its own'}"] = replace(edit, colour=colour)
    if edit.slot is not None:
        for slot in [slot for slot in scene.empty_slots if slot != edit.slot][:WRONG_SLOTS]:
            edits[f"wrong_place:{SLOTS[slot]}"] = replace(edit, slot=slot)
    if edit.task == "recolour":
        for colour in COLOURS:
            if colour != edit.colour:
                edits[f"wrong_colour:{colour}"] = replace(edit, colour=colour)
    if edit.task == "photometric":
        for operation in PHOTOMETRIC:
            if operation != edit.operation:
                edits[f"wrong_operation:{operation}"] = replace(edit, operation=operation)
    if edit.task == "resize":
        edits["wrong_direction"] = replace(edit, bigger=not edit.bigger)
    if edit.task in ("replace", "recolour", "resize"):
        edits["wrong_task:remove"] = Edit("remove", edit.targets)
    if edit.task == "remove":
        edits["wrong_task:recolour"] = Edit("recolour", edit.targets, colour="red")
    return {name: apply_edit(scene, wrong) for name, wrong in edits.items()}


def candidate_drawings(
    backdrop: Backdrop, things: tuple[SceneObject, ...], classes: tuple[str, ...]
) -> dict[str, tuple[Backdrop, tuple[SceneObject, ...]]]:
    """Name -> backdrop and things of each wrong new picture; the caller drops those that look like the target."""
    wrong: dict[str, tuple[Backdrop, tuple[SceneObject, ...]]] = {}
    empty = [s for s in range(9) if s not in {thing.slot for thing in things}]
    for number, thing in enumerate(things):
        others: dict[str, SceneObject] = {}
        for name in wrong_classes(thing.name, classes):
            others[f"wrong_subject:{number}:{name}"] = replace(thing, name=name)
        for colour in TINTS:
            if colour != thing.colour:
                others[f"wrong_tint:{number}:{colour or 'its own'}"] = replace(thing, colour=colour)
        for slot in empty[:WRONG_SLOTS]:
            others[f"wrong_place:{number}:{SLOTS[slot]}"] = moved(thing, slot)
        for name, other in others.items():
            wrong[name] = backdrop, (*things[:number], other, *things[number + 1 :])
        if len(things) > 1:
            wrong[f"only_subject:{number}"] = backdrop, (thing,)
    if len(things) == 2:
        one, other = things
        wrong["wrong_place:swapped"] = backdrop, (moved(one, other.slot), moved(other, one.slot))
    colours = [name for name in BACKDROP_COLOURS if name not in backdrop.names][:WRONG_BACKDROPS]
    grounds = {name: Backdrop("plain", (BACKDROP_COLOURS[name],), (name,)) for name in colours}
    if len(backdrop.colours) == 2:  # a gradient the wrong way round
        grounds["reversed"] = replace(backdrop, colours=backdrop.colours[::-1], names=backdrop.names[::-1])
        grounds["turned"] = replace(backdrop, across=not backdrop.across)
    return wrong | {f"wrong_backdrop:{name}": (ground, things) for name, ground in grounds.items()}


def wrong_classes(name: str, classes: tuple[str, ...]) -> list[str]:
    """Classes that are spread over the list, the same ones for the same name."""
    start = classes.index(name)
    return [classes[(start + 13 * step) % len(classes)] for step in range(1, WRONG_CLASSES + 1)]


def moved(thing: SceneObject, slot: int) -> SceneObject:
    """The thing at the centre of another place."""
    x, y = SLOT_CENTRES[slot]
    return replace(thing, slot=slot, x=x, y=y)
