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
PHOTOMETRIC: tuple[str, ...] = (
    "brighter", "darker", "black and white", "sepia", "warmer", "cooler", "more contrast", "less contrast",
    "inverted", "blurry",
)  # fmt: skip
TASKS = ("remove", "replace", "recolour", "add", "resize", "photometric")
CATEGORIES = ("plain", "left_right", "relative_size", "mirror", "colour", "multiple_objects", "reasoning")
BIGGER, SMALLER = 1400, 700  # thousandths


@dataclass(frozen=True)
class SceneObject:
    """One sprite in a scene.

    Attributes:
        name: class name.
        slot: index into `SLOTS`.
        x, y: centre, thousandths of the side.
        height: thousandths of the side.
        flip: mirrored left to right.
        colour: name of the tint, or None for the sprite's own colours.
        in_mirror: whether this is the copy in the mirror.
    """

    name: str
    slot: int
    x: int
    y: int
    height: int
    flip: bool = False
    colour: str | None = None
    in_mirror: bool = False


@dataclass(frozen=True)
class Background:
    """A crop of a photograph: corner and side in thousandths of what the photo allows.

    Attributes:
        photo: its name.
        left, top, side: where the crop lies.
        flip: mirrored left to right.
        channels: which of the photograph's channels are shown as red, green and blue.
        veil: name of a second photograph that shines through, cropped alike; None for none.
        veil_share: how much of it, in thousandths.
    """

    photo: str
    left: int
    top: int
    side: int
    flip: bool = False
    channels: tuple[int, int, int] = (0, 1, 2)
    veil: str | None = None
    veil_share: int = 0


@dataclass(frozen=True)
class Scene:
    """A whole picture: background, objects back to front, perhaps a mirror, perhaps a global change."""

    background: Background
    objects: tuple[SceneObject, ...]
    mirror: bool = False
    photometric: str | None = None

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
    """What changes.

    Attributes:
        task: one of `TASKS`.
        targets: indices of the objects that change.
        name: new class (add, replace).
        colour: new colour (recolour), or the tint of the new object (add, replace).
        flip: whether the new object (add, replace) is mirrored left to right.
        slot: where (add).
        bigger: direction (resize).
        operation: one of `PHOTOMETRIC`.
    """

    task: str
    targets: tuple[int, ...] = ()
    name: str | None = None
    colour: str | None = None
    slot: int | None = None
    bigger: bool = True
    operation: str | None = None
    flip: bool = False


def apply_edit(scene: Scene, edit: Edit) -> Scene:
    """The scene after the edit. Everything about it follows from the scene and the edit."""
    if edit.task == "photometric":
        return replace(scene, photometric=edit.operation)
    if edit.task == "add":
        x, y = SLOT_CENTRES[edit.slot or 0]
        new = SceneObject(edit.name or "", edit.slot or 0, x, y, HEIGHTS["medium"], edit.flip, edit.colour)
        return replace(scene, objects=(*scene.objects, new))
    if edit.task == "remove":
        return replace(scene, objects=tuple(o for i, o in enumerate(scene.objects) if i not in edit.targets))
    changed = tuple(_change(o, edit) if i in edit.targets else o for i, o in enumerate(scene.objects))
    return replace(scene, objects=changed)


def _change(thing: SceneObject, edit: Edit) -> SceneObject:
    if edit.task == "replace":
        return replace(thing, name=edit.name or thing.name, colour=edit.colour, flip=edit.flip)
    if edit.task == "recolour":
        return replace(thing, colour=edit.colour)
    factor = BIGGER if edit.bigger else SMALLER
    return replace(thing, height=thing.height * factor // 1000)
