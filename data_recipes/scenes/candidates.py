"""The wrong edits that a right one has to be told apart from."""

from __future__ import annotations

from dataclasses import replace

from data_recipes.scenes.scene import COLOURS, PHOTOMETRIC, SLOTS, Edit, Scene, apply_edit

WRONG_CLASSES = 4
WRONG_SLOTS = 2


def candidate_scenes(scene: Scene, edit: Edit, classes: tuple[str, ...]) -> dict[str, Scene]:
    """Name -> scene of each wrong edit; the caller drops those that look like the target."""
    edits: dict[str, Edit] = {}
    for number in range(len(scene.objects)):
        if edit.targets and number not in edit.targets:
            edits[f"wrong_object:{number}"] = replace(edit, targets=(number,))
    if len(edit.targets) > 1:
        for number in edit.targets:
            edits[f"only_object:{number}"] = replace(edit, targets=(number,))
    if edit.name is not None:
        start = classes.index(edit.name)
        for step in range(1, WRONG_CLASSES + 1):
            name = classes[(start + 13 * step) % len(classes)]
            edits[f"wrong_class:{name}"] = replace(edit, name=name)
    if edit.slot is not None:
        empty = [s for s in range(9) if s not in {o.slot for o in scene.objects} | {edit.slot}]
        for slot in empty[:WRONG_SLOTS]:
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
