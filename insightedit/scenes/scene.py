"""What a scene is: frozen descriptions, in thousandths of the picture's side, so that they fit every resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace

SLOTS: tuple[str, ...] = (
    "top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
SLOT_CENTRES = tuple((x, y) for y in (175, 500, 825) for x in (175, 500, 825))
HEIGHTS = {"small": 210, "medium": 280, "large": 360}
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 30, 40), "orange": (245, 135, 20), "yellow": (245, 220, 40), "green": (40, 170, 60),
    "blue": (40, 90, 225), "purple": (145, 50, 190), "pink": (245, 130, 190), "white": (240, 240, 240),
    "black": (45, 45, 50),
}  # fmt: skip
TASKS = ("remove", "replace", "recolour", "add", "resize", "photometric", "decline")
CATEGORIES = (
    "plain", "left_right", "relative_size", "mirror", "colour", "multiple_objects", "reasoning", "position", "relation",
)  # fmt: skip
BIGGER, SMALLER = 1400, 700  # thousandths


@dataclass(frozen=True)
class SceneObject:
    """One sprite in a scene."""

    name: str  # class name
    slot: int  # index into `SLOTS`
    x: int  # centre, thousandths of the side
    y: int
    height: int  # thousandths of the side
    flip: bool = False  # mirrored left to right
    colour: str | None = None  # name of the tint; None for the sprite's own colours
    in_mirror: bool = False  # whether this is the copy in the mirror


@dataclass(frozen=True)
class Texture:
    """A ground that is computed, see `insightedit.scenes.textures`."""

    kind: str  # one of `TEXTURES`
    colours: tuple[tuple[int, int, int], ...]  # RGB in 0..255, at least one; blended in this order
    period: int = 250  # how large its parts are, thousandths of the side
    way: int = 0  # its direction, in eighths of half a turn
    seed: int = 0


@dataclass(frozen=True)
class Background:
    """A crop of a photograph, corner and side in thousandths of what the photo allows, in disguise; or a texture.

    A disguise is applied in the order of its fields.
    """

    photo: str  # its name; "" for a texture
    left: int = 0
    top: int = 0
    side: int = 1000
    flip: bool = False  # mirrored left to right
    channels: tuple[int, int, int] = (0, 1, 2)  # which of the photograph's are shown as red, green and blue
    veil: str | None = None  # name of a second photograph that shines through, cropped alike
    veil_share: int = 0  # how much of it, in thousandths
    turns: int = 0  # quarter turns, against the clock
    gains: tuple[int, int, int] = (1000, 1000, 1000)  # what red, green and blue are multiplied with, thousandths
    lift: int = 0  # what is added to all three
    tone: str | None = None  # of the photograph alone: things stand on it in their own colours
    texture: Texture | None = None


@dataclass(frozen=True)
class Scene:
    """A whole picture: background, objects back to front, perhaps a mirror, perhaps a global change."""

    background: Background
    objects: tuple[SceneObject, ...]
    mirror: bool = False
    photometric: str | None = None  # one of `insightedit.images.tones.TONES`

    @property
    def empty_slots(self) -> list[int]:
        """Places where nothing stands, indices into `SLOTS`."""
        taken = {thing.slot for thing in self.objects}
        return [slot for slot in range(len(SLOTS)) if slot not in taken]

    def absent(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """The classes of which nothing is there."""
        present = {thing.name for thing in self.objects}
        return tuple(name for name in classes if name not in present)


@dataclass(frozen=True)
class Edit:
    """What changes."""

    task: str  # one of `TASKS`
    targets: tuple[int, ...] = ()  # indices of the objects that change
    name: str | None = None  # new class (add, replace); what is not there (decline; None: what nobody can do)
    colour: str | None = None  # new colour (recolour), or the tint of the new object (add, replace)
    slot: int | None = None  # where (add)
    bigger: bool = True  # direction (resize)
    operation: str | None = None  # one of `insightedit.images.tones.TONES`
    flip: bool = False  # whether the new object (add, replace) is mirrored left to right


def apply_edit(scene: Scene, edit: Edit) -> Scene:
    """The scene after the edit. Everything about it follows from the scene and the edit."""
    if edit.task == "decline":
        return scene
    if edit.task == "photometric":
        return replace(scene, photometric=edit.operation)
    if edit.task == "add":
        x, y = SLOT_CENTRES[edit.slot or 0]
        new = SceneObject(edit.name or "", edit.slot or 0, x, y, HEIGHTS["medium"], edit.flip, edit.colour)
        return replace(scene, objects=(*scene.objects, new))
    if edit.task == "remove":
        return replace(scene, objects=tuple(o for i, o in enumerate(scene.objects) if i not in edit.targets))
    objects = list(scene.objects)
    for number, thing in enumerate(scene.objects):
        if number not in edit.targets:
            continue
        if edit.task == "replace":
            objects[number] = replace(thing, name=edit.name or thing.name, colour=edit.colour, flip=edit.flip)
        elif edit.task == "recolour":
            objects[number] = replace(thing, colour=edit.colour)
        else:
            objects[number] = replace(thing, height=thing.height * (BIGGER if edit.bigger else SMALLER) // 1000)
    return replace(scene, objects=tuple(objects))
