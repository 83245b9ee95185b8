"""Which column of a table is what: names under which others publish editing pairs, or those that the user tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from insightedit.config.load import ConfigError
from insightedit.images.reading import PICTURE_SUFFIXES

# OmniGen2, AnyEdit, MagicBrush, InstructPix2Pix and its followers on the hub, HQ-Edit, UltraEdit, SEED-Data-Edit,
# OmniEdit, diffusers' and DiffSynth's examples, and ours; the first that a table has counts
NAMES: dict[str, tuple[str, ...]] = {
    "source": (
        "source", "source_image", "source_img", "src_img", "src_image", "input_image", "input_img", "input_images",
        "original_image", "original_img", "original", "image_file", "before", "before_image", "control",
        "control_image", "input",
    ),
    "target": (
        "target", "target_image", "target_img", "edited_image", "edited_img", "edited_file", "output_image",
        "output_img", "output_images", "result", "result_image", "after", "after_image", "edited", "output",
    ),
    "instruction": (
        "instruction", "edit_prompt", "edit_instruction", "editing_instruction", "editing_prompt", "edit", "prompt",
        "input_prompt", "edited_prompt_list", "text",
    ),
    "instructions": ("instructions",),
    "references": ("references", "reference_images"),
    "mask": ("mask", "mask_img", "mask_image"),
    "expressive": ("expressive_instruction", "expressive"),
    "caption": ("caption", "caption_source", "img_caption", "input_caption", "original_prompt"),
    "task": ("task", "task_type", "edit_type"),
}  # fmt: skip
TEXTS_ALONE = (*NAMES["instruction"][:-1], "caption", "text", "caption_target")
PICTURE, BEFORE_PICTURE = "image", "edit_image"  # `image` is what the other of the two is not
FIELD_WORDS = {PICTURE, BEFORE_PICTURE, "caption_target"}.union(*NAMES.values())
NEEDED = ("source", "target", "instruction")
MEANT = {"source": "picture before the edit", "target": "picture after it", "instruction": "instruction"}


class ColumnsError(ConfigError):
    """A table whose columns are not what is needed."""


@dataclass(frozen=True)
class Columns:
    """Role (of `NAMES`) -> its columns: the first not empty in a row counts; `is_text`: there is no picture."""

    roles: Mapping[str, tuple[str, ...]]
    is_text: bool = False


def plain_name(column: str) -> str:
    """A column's name as it is compared: `Source Image`, `source-image`, `source.png`, `source_file_name` are one."""
    name = column.strip().lower().replace(" ", "_").replace("-", "_")
    while "." in name and f".{name.rpartition('.')[2]}" in PICTURE_SUFFIXES:
        name = name.rpartition(".")[0]
    for ending in ("_file_names", "_file_name"):
        name = name.removesuffix(ending)
    if name in ("file_name", "file_names") or f".{name}" in PICTURE_SUFFIXES:
        return PICTURE
    return name


def recognise(columns: Sequence[str], told: Mapping[str, str], place: Path) -> Columns:
    """The roles of a table's columns: as the user tells (role -> column), else by the known names."""
    listed = ", ".join(columns[:30]) or "none"
    for role, column in told.items():
        if role not in NAMES:
            raise ColumnsError(f"columns names {role!r} for {place}: it has to be one of {', '.join(NAMES)}.")
        if column not in columns:
            raise ColumnsError(f"columns names {column!r} as {role}, and {place} has the columns {listed}.")
    found = roles_of(tuple(columns), tuple(told.items()))
    there = {*found.roles, *(["instruction"] if "instructions" in found.roles else [])}
    there |= {"source"} if {"target", "references"} <= there else set()  # what draws from blank has none
    lacking = [] if found.is_text else [role for role in NEEDED if role not in there]
    if not lacking or not columns:  # no row can be read: each is told
        return found
    what = "; ".join(f"{MEANT[role]} ({', '.join(NAMES[role][:6])} ...)" for role in lacking)
    example = ", ".join(f"{role}: YOUR_COLUMN" for role in lacking)
    raise ColumnsError(
        f"{place} has the columns {listed}; none of them is known as {what}. Name it: columns: {{{example}}}."
    )


@lru_cache(maxsize=1024)
def roles_of(columns: tuple[str, ...], told: tuple[tuple[str, str], ...] = ()) -> Columns:
    """The roles of columns, as far as they are known."""
    taken = dict(told)
    left = [column for column in columns if column not in taken.values()]
    by_name: dict[str, list[str]] = {}
    for column in left:
        by_name.setdefault(plain_name(column), []).append(column)
    roles = {role: (column,) for role, column in taken.items()}
    for role, names in NAMES.items():
        if role not in roles and (known := tuple(one for name in names for one in by_name.get(name, ()))):
            roles[role] = known
    picture, before = (tuple(by_name.get(name, ())) for name in (PICTURE, BEFORE_PICTURE))
    if picture and before and not {"source", "target"} & roles.keys():
        roles |= {"source": before, "target": picture}
    elif picture and ("source" in roles) != ("target" in roles):
        roles["source" if "target" in roles else "target"] = picture
    pictures = {"source", "target", "references", "mask"} & roles.keys()
    texts = tuple(one for name in TEXTS_ALONE for one in by_name.get(name, ()))
    is_text = not pictures and not picture and not before and bool(texts)
    if is_text:
        roles["instruction"] = texts
    return Columns(roles, is_text)
