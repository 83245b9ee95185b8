"""Folders side by side, as ai-toolkit, SimpleTuner and kohya's scripts read them: equal stems belong together.

target/0001.png   target/0001.txt (the instruction)   control/0001.png   control_2/0001.png ... (references)
mask/0001.png (optional)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from data_recipes.formats.reading import (
    MISSING,
    NO_TEXT,
    Listed,
    ReadError,
    picture_files,
    place_of,
    read_pixels,
    read_region,
    unique_keys,
    words,
)
from data_recipes.pipeline.inputs import Input, InputConfig
from data_recipes.pipeline.records import REFERENCE_PLACEHOLDER, Record
from insightedit.evaluation.benchmarks.reading import natural

TARGETS = ("target", "targets", "edited", "output", "after", "images")
CONTROLS = ("control", "controls", "control_1", "source", "sources", "input", "before")
MASKS = ("mask", "masks")
MORE = re.compile(r"(?:control|reference|ref)s?_?(\d+)")


def open_ai_toolkit(config: InputConfig) -> Input:
    """A folder with `target/` and `control/`, pictures and captions of equal stems; other common names are known too.

    A control without a target, or a target without a control, is a record that cannot be read. A target without
    control whose caption has `<imagehere>` draws from blank.

    Raises:
        ValueError: if the config names no path, or a folder holds two pictures of one stem.
        FileNotFoundError: if nothing is there, or one of the two folders is missing.
    """
    root = place_of(config)
    root = root / config.split if _folder(root / config.split, TARGETS) else root
    targets, controls = _folder(root, TARGETS), _folder(root, CONTROLS)
    if targets is None or (controls is None and not _more(root)):
        what = "target" if targets is None else "control"
        raise FileNotFoundError(
            f"{root} holds no folder `{what}`: kind ai_toolkit reads target/ and control/ with files of equal stems."
        )
    made = _by_stem(targets)
    given = {} if controls is None else _by_stem(controls)
    masks = {} if (folder := _folder(root, MASKS)) is None else _by_stem(folder)
    more = [_by_stem(folder) for folder in _more(root)]
    stems = sorted({*made, *given}, key=natural)
    keys = unique_keys(stems)

    def make(number: int) -> Record:
        stem = stems[number]
        if stem not in made:
            raise ReadError(MISSING, f"the control {given[stem].name} has no target")
        text = _caption(made[stem])
        if stem not in given and REFERENCE_PLACEHOLDER not in text:
            raise ReadError(MISSING, f"the target {made[stem].name} has no control picture")
        return Record(
            keys[number],
            task="edit" if stem in given else "subject",
            instructions={"simple": (text,)},
            source=read_pixels(given[stem], config.max_side) if stem in given else None,
            target=read_pixels(made[stem], config.max_side),
            mask=read_region(masks[stem], config.max_side) if stem in masks else None,
            references=tuple(read_pixels(one[stem], config.max_side) for one in more if stem in one),
        )

    return Listed(keys, make)


def _folder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _more(root: Path) -> list[Path]:
    """Folders of references: control_2, control_3 ..."""
    if not root.is_dir():
        return []
    found = {
        int(number[1]): path
        for path in root.iterdir()
        if path.is_dir() and path.name != "control_1" and (number := MORE.fullmatch(path.name))
    }
    return [found[number] for number in sorted(found)]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in picture_files(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise ValueError(
                f"{folder} holds {found[stem].name} and {path.name}: remove the one that is not meant."
            )
        found[stem] = path
    return found


def _caption(picture: Path) -> str:
    """The words beside a picture."""
    for ending in (".txt", ".caption"):
        path = picture.with_suffix(ending)
        if path.is_file():
            return words(path.read_text(encoding="utf-8-sig", errors="replace"))
    raise ReadError(NO_TEXT, f"{picture.with_suffix('.txt').name} is missing")


def write_ai_toolkit(records: Iterable[Record], out: Path) -> int:
    """Write `target/`, `control/`, and where there are any `mask/`, `control_2/` ...

    Args:
        records: pairs; of several wordings the first is written.
        out: new or empty folder.

    Returns:
        How many were written.

    Raises:
        ValueError: if a record is no pair.
    """
    count = 0
    for record in records:
        record.check()
        assert record.target is not None
        name = record.key.replace("/", "-")
        pictures = {"target": record.target, "control": record.source}
        pictures |= {f"control_{number}": one for number, one in enumerate(record.references, 2)}
        pictures["mask"] = None if record.mask is None else record.mask.astype(np.uint8) * 255
        for folder, picture in pictures.items():
            if picture is not None:
                (out / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(out / folder / f"{name}.png", compress_level=1)
        (out / "target" / f"{name}.txt").write_text(record.wordings[0] + "\n", encoding="utf-8")
        count += 1
    return count
