"""What `insightedit edit` is asked for: which pictures, where to, and what is refused before a model is loaded."""

from __future__ import annotations

import filecmp
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from insightedit.files import check_others, check_paths

MAX_NAME = 255  # letters of a file name; more cannot even be looked up


@dataclass(frozen=True)
class EditJob:
    """One picture to edit (None: one to draw) and the files to write."""

    image: Path | None
    output: Path
    report: Path | None = None
    before_after: Path | None = None


@dataclass(frozen=True)
class EditPlan:
    """All of a call."""

    jobs: list[EditJob]  # what is to be done
    kept: list[Path] = field(default_factory=list)  # outputs that are there already and stay
    others: list[Path] = field(default_factory=list)  # what lies in the folder and is no picture
    is_folder: bool = False  # whether a folder of pictures was named


def picture_and_words(image: str, instruction: str | None) -> tuple[Path | None, str]:
    """Tell `IMAGE INSTRUCTION` from `INSTRUCTION` alone, which draws a new picture."""
    from insightedit.images.reading import PICTURE_SUFFIXES

    if not image:
        raise ValueError("The name of the picture is empty: name the picture that is to be edited.")
    if instruction is not None:
        return Path(image), instruction
    names_picture = Path(image).suffix.lower() in PICTURE_SUFFIXES
    if names_picture or (len(image) < MAX_NAME and Path(image).exists()):
        raise ValueError(f'The instruction for {image} is missing: say what to change, e.g. "make the car red".')
    return None, image


def plan_edits(
    image: Path | None,
    output: Path | None = None,
    report: Path | None = None,
    before_after: Path | None = None,
    *,
    read: dict[str, Path | Sequence[Path] | None] | None = None,
    overwrite: bool | None = None,
) -> EditPlan:
    """Which picture goes where; `image` is one, a folder of them, or None for one to be drawn.

    Nothing is written over what is `read`, by its option. Where `overwrite` is None, the outputs of a folder are kept,
    and a single edit replaces what an earlier one wrote, or a copy of the picture itself.
    """
    if image is not None and os.path.isdir(image):
        plan = _plan_folder(image, output, report or before_after)
    else:
        if image is None and (report or before_after):
            raise ValueError("--report and --before-after compare with a picture to edit: name one.")
        plan = EditPlan([_plan_one(image, output, report, before_after)])
    first = plan.jobs[0]
    outputs = {
        "the output": [job.output for job in plan.jobs],
        "--before-after": first.before_after,
        "--report": first.report,
    }
    for path in (first.output, first.report, first.before_after) if not plan.is_folder and image else ():
        if path and os.path.exists(path) and os.path.exists(image) and os.path.samefile(path, image):
            raise ValueError(f"{path} is the source itself: write to another file with -o.")
    inputs = {"the picture": [job.image for job in plan.jobs if job.image], **(read or {})}
    check_paths(outputs, inputs)
    if overwrite is None and not plan.is_folder:
        if image and os.path.isfile(image) and first.output.is_file() and filecmp.cmp(image, first.output, False):
            outputs.pop("the output")  # an earlier call left the picture as it was: a copy may go
        check_others(outputs, "give --overwrite, or write to another one")
        return plan
    there = [job for job in plan.jobs if not overwrite and job.output.exists()]
    todo = [job for job in plan.jobs if job not in there]
    return EditPlan(todo, [job.output for job in there], plan.others, plan.is_folder)


def _plan_one(image: Path | None, output: Path | None, report: Path | None, before_after: Path | None) -> EditJob:
    name = "drawn.png" if image is None else f"{image.stem}-edited.png"
    output = output or Path(name)
    for path in filter(None, (output, report, before_after)):
        if not os.path.isdir(path.parent):
            raise FileNotFoundError(f"No folder {path.parent}: make it first, or write elsewhere.")
    job = EditJob(image, output / name if os.path.isdir(output) else output, report, before_after)
    for path in filter(None, (job.output, report, before_after)):
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is there and is no file: write to another name.")
    return job


def _plan_folder(image: Path, output: Path | None, single: Path | None) -> EditPlan:
    from insightedit.images.reading import PICTURE_SUFFIXES, is_picture_file

    if single:
        raise ValueError("--report and --before-after are for one picture: name a picture instead of a folder.")
    found = sorted(image.iterdir())
    pictures = [path for path in found if is_picture_file(path)]
    if not pictures:
        raise FileNotFoundError(f"No pictures in {image}: files should end in {', '.join(sorted(PICTURE_SUFFIXES))}.")
    place = image if image.name not in ("", "..") else image.resolve()
    folder = output or place.with_name(f"{place.name}-edited")
    if folder.exists() and (not folder.is_dir() or folder.samefile(image)):
        raise ValueError(f"{folder} cannot take the edited pictures: name another folder with -o.")
    jobs = [EditJob(path, folder / name) for path, name in zip(pictures, _names(pictures), strict=True)]
    others = [path for path in found if path not in set(pictures) and not path.name.startswith(".")]
    return EditPlan(jobs, others=others, is_folder=True)


def _names(pictures: Sequence[Path]) -> Iterator[str]:
    """One PNG for each picture, all different, also where `A.png` and `a.png` are one file."""

    def folded(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    times = Counter(folded(f"{path.stem}.png") for path in pictures)
    taken: set[str] = set()
    for path in pictures:
        short = f"{path.stem}.png"
        first = [short] if times[folded(short)] == 1 else []
        more = (f"{path.name}-{number}.png" for number in count(2))
        name = next(n for n in chain(first, [f"{path.name}.png"], more) if folded(n) not in taken)
        taken.add(folded(name))
        yield name
