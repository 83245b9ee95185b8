"""What a recipe starts from: a folder of photos, rendered scenes, or pairs that were published."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol

from data_recipes.runner.records import Record, Rejected
from insightedit.console import did_you_mean

INPUTS: dict[str, str] = {
    "folder": "data_recipes.formats.reading:open_folder",
    "scenes": "data_recipes.oracle.world:open_scenes",
    "scene_pairs": "data_recipes.oracle.world:open_scene_pairs",
    "couples": "data_recipes.smartedit_synthetic:open_couples",
    "scene_couples": "data_recipes.smartedit_synthetic:open_scene_couples",
    "advancededit": "data_recipes.formats.advancededit:open_advancededit",
    **dict.fromkeys(
        ("magicbrush", "instructpix2pix", "reasonedit", "mige", "folders", "ai_toolkit", "jsonl", "csv"),
        "data_recipes.formats.reading:open_pairs",
    ),
    **dict.fromkeys(("imagefolder", "parquet", "webdataset", "arrow"), "data_recipes.formats.reading:open_pairs"),
}


@dataclass
class InputConfig:
    """Where records come from."""

    kind: str = "folder"  # one of `INPUTS`, or `package.module:function` of your own
    path: str | None = None  # file or folder; not used by the kinds that begin with `scene`
    split: str = "train"  # of data sets that have several
    count: int | None = None  # so many records at most; None for all (`scenes`: needed)
    start: int = 0  # first record
    size: int = 128  # side in pixels that scenes are rendered at; photographs are read as they are
    max_side: int | None = 640  # photographs with a longer side are made smaller; None leaves them. AdvancedEdit: 640
    seed: int = 0  # of scenes, and of which photos are a couple
    images: str | None = None  # folder that paths in tables and lists start from; None for their own
    columns: dict[str, str] = field(default_factory=dict)  # role -> column, where a table has names of its own


class Input(Protocol):
    """Numbered records; the same number always gives the same record. Has to be cheap to open in every worker."""

    def __len__(self) -> int:
        """How many there are, before `start` and `count`."""
        ...

    def __getitem__(self, index: int) -> Record | Rejected:
        """A record, or why it cannot be read (step "read")."""
        ...


def open_input(config: InputConfig) -> Input:
    """Open what a config names; ValueError if its kind is unknown, FileNotFoundError if its path does not exist."""
    place = INPUTS.get(config.kind, config.kind)
    if ":" not in place:
        raise ValueError(f"source.kind is {config.kind!r}: {did_you_mean(config.kind, INPUTS)}")
    module, _, name = place.partition(":")
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise ValueError(f"source.kind is {config.kind!r}, which opens no records: name a function of your own.")
    try:
        opened: Callable[[InputConfig], Input] = getattr(import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"source.kind is {config.kind!r}, which cannot be imported: {error}.") from error
    return opened(config)
