"""Published editing pairs: InstructPix2Pix, MagicBrush, and the JSON of SmartEdit's synthetic set.

Each function takes one entry of `data.sources` and says which files it reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.data.files import folder, only_file, read_json
from insightedit.data.records import EditRecord
from insightedit.data.sources import Source, TableSource, is_arrow
from insightedit.data.varied import Varied, choose
from insightedit.imaging import read_rgb

SPLIT_SHARES = {"train": (0.0, 0.9), "val": (0.9, 0.95), "test": (0.95, 1.0)}  # InstructPix2Pix, by order


def instructpix2pix(config: SourceConfig) -> Source:
    """InstructPix2Pix in any of its shapes.

    - a folder with `seeds.json`, [[FOLDER, [SEED, ...]], ...], and in each FOLDER `prompt.json` {input, edit, output}
      and pictures `SEED_0.jpg` (source) and `SEED_1.jpg` (target); one seed is drawn at each visit. Splits are 90 %,
      5 % and 5 % of the list, by order.
    - rows of the hub's copy: parquet files, or a folder that `save_to_disk` wrote.

    Raises:
        ConfigError: if the folder holds none of these.
    """
    path = Path(str(config.path))
    if not (path / "seeds.json").is_file():
        return _rows(config, "seeds.json")
    entries = read_json(
        path / "seeds.json", list, config.kind, "a list of [folder, [seeds]], e.g. [[abc, [12, 34]], ...]"
    )
    if config.split not in SPLIT_SHARES:
        raise ConfigError(
            f"data.sources: kind `{config.kind}` has the splits {', '.join(SPLIT_SHARES)}, not `{config.split}`."
        )
    begin, end = (round(share * len(entries)) for share in SPLIT_SHARES[config.split])
    entries = entries[begin:end]
    if not entries:
        raise ConfigError(f"data.sources: {path}/seeds.json is too short for a split `{config.split}`.")

    def make(number: int, rng: np.random.Generator) -> EditRecord:
        name, seeds = entries[number]
        seed = choose(seeds, rng)
        prompt = read_json(path / name / "prompt.json", dict, config.kind, "{input, edit, output}")
        return _pair(
            f"{config.kind}/{name}/{seed}",
            prompt["edit"],
            path / name / f"{seed}_0.jpg",
            path / name / f"{seed}_1.jpg",
        )

    return Varied(len(entries), make)


def magicbrush(config: SourceConfig) -> Source:
    """MagicBrush, in either shape.

    - rows of the hub's copy (source_img, instruction, target_img; masks are not used): parquet files, or a folder that
      `save_to_disk` wrote.
    - a folder with `edit_sessions.json`, {id: [{input, output, instruction}, ...]}, and `images/ID/NAME.png`. Every
      turn is a record of its own.

    Raises:
        ConfigError: if the folder holds neither.
    """
    path = Path(str(config.path))
    path = path / config.split if (path / config.split / "edit_sessions.json").is_file() else path
    if not (path / "edit_sessions.json").is_file():
        return _rows(config, "edit_sessions.json")
    sessions = read_json(
        path / "edit_sessions.json", dict, config.kind, "{id: [{input, output, instruction}, ...]}"
    )
    turns = [(name, turn) for name, session in sessions.items() for turn in session]
    images = folder(config.images or path / "images", config.kind, "the pictures, one folder per session")

    def make(number: int, rng: np.random.Generator) -> EditRecord:
        name, turn = turns[number]
        return _pair(
            f"{config.kind}/{name}/{number}",
            turn["instruction"],
            images / name / turn["input"],
            images / name / turn["output"],
        )

    return Varied(len(turns), make)


def reasonedit(config: SourceConfig) -> Source:
    """SmartEdit's synthetic pairs for understanding and reasoning, and pairs in the same JSON (AdvancedEdit).

    `path` is the JSON file, or the folder with it: {"0000": {origin_img_path, target_img_path, instruction: [...]},
    ...}. One instruction is drawn at each visit. Paths are relative to `images`, or to the JSON file's folder.

    Raises:
        ConfigError: if there is no such file, or it is of another shape.
    """
    file = only_file(Path(str(config.path)), ("*.json",), config.kind)
    images = folder(config.images or file.parent, config.kind, "the pictures")
    table = read_json(
        file, dict, config.kind, "{'0000': {origin_img_path, target_img_path, instruction: [...]}}"
    )
    keys = list(table)

    def make(number: int, rng: np.random.Generator) -> EditRecord:
        entry = table[keys[number]]
        texts = entry["instruction"]
        return _pair(
            f"{config.kind}/{keys[number]}",
            choose(texts, rng) if isinstance(texts, list) else texts,
            images / _one_of(entry, "origin_img_path", "origin_path"),
            images / _one_of(entry, "target_img_path", "target_path"),
        )

    return Varied(len(keys), make)


def _one_of(entry: dict[str, Any], *names: str) -> str:
    for name in names:
        if name in entry:
            return entry[name]
    raise KeyError(f"no {' or '.join(names)} among {', '.join(entry)}")


def _pair(key: str, instruction: str, source: Path, target: Path) -> EditRecord:
    if not isinstance(instruction, str) or not instruction.strip():
        raise ValueError(f"{key} has the instruction {instruction!r}: it needs words.")
    return EditRecord(
        key=key, instruction=instruction.strip(), source_image=read_rgb(source), target_image=read_rgb(target)
    )


def _rows(config: SourceConfig, folder_shape: str) -> TableSource:
    """The hub's copy of a data set."""
    path = Path(str(config.path))
    if is_arrow(path):
        kind = "arrow"
    elif path.suffix == ".parquet" or any(path.rglob("*.parquet")):
        kind = "parquet"
    else:
        raise ConfigError(
            f"data.sources: {path} holds no {folder_shape}, no *.parquet file and no folder of `save_to_disk`: kind "
            f"`{config.kind}` reads one of them; check the path."
        )
    rows = TableSource(kind=kind, path=str(path), split=config.split)
    missing = [what for what in ("source", "target", "instruction") if getattr(rows, what) is None]
    if missing:
        raise ConfigError(
            f"data.sources: {path} has the columns {', '.join(rows.table.column_names)}: kind `{config.kind}` finds "
            f"no {' and no '.join(missing)} among them."
        )
    return rows
