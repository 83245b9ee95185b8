"""The wrong edits, and the wrong new pictures, that a right one has to be told apart from."""

from __future__ import annotations

from dataclasses import replace

from insightedit.images.tones import OPERATIONS, TONES, operation_of
from insightedit.scenes.render import BACKDROP_COLOURS, TINTS, Backdrop
from insightedit.scenes.scene import COLOURS, SLOT_CENTRES, SLOTS, Edit, Scene, SceneObject, apply_edit

WRONG_CLASSES = 4
WRONG_SLOTS = 2
WRONG_BACKDROPS = 4


def candidate_scenes(scene: Scene, edit: Edit, classes: tuple[str, ...], by_picture: bool = False) -> dict[str, Scene]:
    """Name -> scene of each wrong edit of a source; the caller drops those that look like the target.

    `by_picture`: a reference picture tells the new object, so that its tint can be missed too.
    """
    edits: dict[str, Edit] = {}
    if edit.task == "decline":  # its name is of no class that can be drawn: something else is taken instead
        edits = {f"wrong_object:{number}": Edit("remove", (number,)) for number in range(len(scene.objects))}
        return {name: apply_edit(scene, wrong) for name, wrong in edits.items()}
    others = [number for number in range(len(scene.objects)) if edit.targets and number not in edit.targets]
    edits |= {f"wrong_object:{number}": replace(edit, targets=(number,)) for number in others}
    if len(edit.targets) > 1:
        edits |= {f"only_object:{number}": replace(edit, targets=(number,)) for number in edit.targets}
    if edit.name is not None:
        kind = "wrong_subject" if by_picture else "wrong_class"
        edits |= {f"{kind}:{name}": replace(edit, name=name) for name in wrong_classes(edit.name, classes)}
        tints = [tint for tint in TINTS if by_picture and tint != edit.colour]
        edits |= {f"wrong_tint:{tint or 'its own'}": replace(edit, colour=tint) for tint in tints}
    if edit.slot is not None:
        slots = [slot for slot in scene.empty_slots if slot != edit.slot][:WRONG_SLOTS]
        edits |= {f"wrong_place:{SLOTS[slot]}": replace(edit, slot=slot) for slot in slots}
    if edit.task == "recolour":
        edits |= {f"wrong_colour:{c}": replace(edit, colour=c) for c in COLOURS if c != edit.colour}
    if edit.task == "photometric":
        operation = operation_of(edit.operation or "")
        degrees = [tone for tone in TONES if operation_of(tone) == operation and tone != edit.operation]
        edits |= {f"wrong_degree:{tone}": replace(edit, operation=tone) for tone in degrees}
        others = [name for name in OPERATIONS if name != operation]
        edits |= {f"wrong_operation:{name}": replace(edit, operation=name) for name in others}
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
        tints = [tint for tint in TINTS if tint != thing.colour]
        others = {f"wrong_subject:{number}:{n}": replace(thing, name=n) for n in wrong_classes(thing.name, classes)}
        others |= {f"wrong_tint:{number}:{tint or 'its own'}": replace(thing, colour=tint) for tint in tints}
        others |= {f"wrong_place:{number}:{SLOTS[slot]}": moved(thing, slot) for slot in empty[:WRONG_SLOTS]}
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
