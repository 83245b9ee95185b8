"""Editing pairs as others publish them in folders: MagicBrush, InstructPix2Pix, MIGE, and folders side by side.

Each function takes one entry of `data.sources` and gives a `Listing`; `LAYOUTS` names them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets import reading
from insightedit.datasets.advancededit import advancededit, reasonedit
from insightedit.datasets.pairs import Listing, Pair
from insightedit.datasets.table_files import is_arrow
from insightedit.datasets.table_pairs import open_table
from insightedit.datasets.tables import KINDS
from insightedit.files import natural
from insightedit.types import REFERENCE_PLACEHOLDER

SPLIT_SHARES = {"train": (0.0, 0.9), "val": (0.9, 0.95), "test": (0.95, 1.0), "all": (0.0, 1.0)}  # by order
SESSIONS, SEEDS = "edit_sessions.json", "seeds.json"
SOURCE_WORDS = "the picture"  # in place of the source's own mark: a reader of such records marks the source itself
TARGETS = ("target", "targets", "edited", "output", "after", "images")
CONTROLS = ("control", "controls", "control_1", "source", "sources", "input", "before")
CAPTIONS = ("instruction", "instructions", "prompt", "prompts", "caption", "captions", "text")
MASKS = ("mask", "masks")
MORE = re.compile(r"(?:control|reference|ref)s?_?(\d+)")


def magicbrush(config: SourceConfig) -> Listing:
    """MagicBrush. Every turn is a pair, `SESSION/TURN`.

    - a folder with `edit_sessions.json`, {id: [{input, mask, output, instruction}, ...]}, and `images/ID/NAME.png`,
      below a folder of the split's name or not; captions come along from `global_descriptions.json` and
      `local_descriptions.json`.
    - rows of the hub's copy (source_img, mask_img, instruction, target_img): parquet files, or a saved data set.
    """
    place = Path(str(config.path))
    root = place / config.split if (place / config.split / SESSIONS).is_file() else place
    if not (root / SESSIONS).is_file():
        return _hub_rows(config, SESSIONS, (f"*/{SESSIONS}",))
    sessions = reading.json_of(root / SESSIONS, dict, "{id: [{input, mask, output, instruction}, ...]}")
    turns = [
        (name, number, turn)
        for name, session in sessions.items()
        for number, turn in enumerate(session if isinstance(session, list) else [session], 1)
    ]
    images = reading.folder_of(config.images or root / "images", config.kind, "the pictures, one folder per session")
    captions = {
        kind: reading.tried(reading.load_json, root / f"{kind}_descriptions.json") for kind in ("global", "local")
    }

    def make(index: int) -> Pair:
        name, number, turn = turns[index]
        of_session = {kind: of_all.get(name) for kind, of_all in captions.items() if isinstance(of_all, dict)}
        told = {kind: one if isinstance(one := of_session.get(kind), dict) else {} for kind in captions}
        return session_turn(f"{name}/{number}", turn, reading.inside(images, name), told)

    return Listing(len(turns), make, lambda index: f"{turns[index][0]}/{turns[index][1]}", [root / SESSIONS])


def session_turn(key: str, turn: Mapping[str, Any], folder: Path, captions: Mapping[str, Mapping[str, Any]]) -> Pair:
    """A turn of MagicBrush, its pictures in the session's `folder`; `captions`: global or local -> file -> text."""
    mask = turn.get("mask")
    notes = {"caption_target": captions["global"].get(turn.get("output"), "")}
    notes["local_description"] = captions["local"].get(turn.get("output"), "")
    return Pair(
        key,
        {"simple": (reading.words(turn.get("instruction")),)},
        reading.inside(folder, turn.get("input")),
        reading.inside(folder, turn.get("output")),
        mask=reading.tried(partial(reading.inside, folder), mask) if mask else None,
        task="edit",
        caption=str(captions["global"].get(turn.get("input")) or ""),
        facts={"notes": {what: text for what, text in notes.items() if text}},
    )


def instructpix2pix(config: SourceConfig) -> Listing:
    """InstructPix2Pix. Every seed is a pair, `FOLDER/SEED`; training draws one seed of a folder at each visit.

    - a folder with `seeds.json`, [[FOLDER, [SEED, ...]], ...], and in each FOLDER `prompt.json` {input, edit, output}
      and pictures `SEED_0.jpg` (source) and `SEED_1.jpg` (target). Splits are 90 %, 5 % and 5 % of the list, by order,
      or `all`.
    - rows of the hub's copy: parquet files, or a saved data set.
    """
    root = Path(str(config.path))
    if not (root / SEEDS).is_file():
        return _hub_rows(config, SEEDS, ())
    entries = reading.json_of(root / SEEDS, list, "a list of [folder, [seeds]], e.g. [[abc, [12, 34]], ...]")
    if config.split not in SPLIT_SHARES:
        raise ConfigError(f"{root} has the splits {', '.join(SPLIT_SHARES)}, not `{config.split}`: name one of them.")
    begin, end = (round(share * len(entries)) for share in SPLIT_SHARES[config.split])
    pairs, units = list[tuple[Any, Any]](), list[list[int]]()
    for entry in entries[begin:end]:
        name, seeds = entry if isinstance(entry, list) and len(entry) == 2 else (entry, [None])
        seeds = seeds if isinstance(seeds, list) else [seeds]
        units.append(list(range(len(pairs), len(pairs) + len(seeds))))
        pairs += [(name, seed) for seed in seeds]
    if not pairs:
        raise ConfigError(f"{root / SEEDS} is too short for a split `{config.split}`: take `all`.")

    def make(index: int) -> Pair:
        name, seed = pairs[index]
        if not isinstance(name, str) or not isinstance(seed, str | int):
            raise reading.ReadError(reading.FIELDS, f"{name!r:.40} is no [folder, [seeds]]")
        folder = reading.inside(root, name)
        prompt = reading.load_json(folder / "prompt.json")
        output = str(prompt.get("output") or "")
        return Pair(
            f"{name}/{seed}",
            {"simple": (reading.words(prompt.get("edit")),)},
            reading.inside(folder, f"{seed}_0.jpg"),
            reading.inside(folder, f"{seed}_1.jpg"),
            task="edit",
            caption=str(prompt.get("input") or ""),
            facts={"notes": {"caption_target": output} if output else {}},
        )

    return Listing(len(pairs), make, lambda index: "/".join(map(str, pairs[index])), [root / SEEDS], units=units)


def _hub_rows(config: SourceConfig, wanted: str, elsewhere: tuple[str, ...]) -> Listing:
    """The hub's copy of a data set, or why it is none."""
    place = Path(str(config.path))
    splits = sorted({file.parent.name for pattern in elsewhere if place.is_dir() for file in place.glob(pattern)})
    if splits:
        raise ConfigError(f"{place} has the splits {', '.join(splits)}, not `{config.split}`: name one of them.")
    is_rows = place.suffix == ".parquet" or any(any(place.glob(f"{below}*.parquet")) for below in ("", "*/", "*/*/"))
    if not is_rows and not is_arrow(place):
        raise ConfigError(
            f"{place} holds no {wanted}, no *.parquet file and no folder of `save_to_disk`: kind `{config.kind}` reads "
            "one of them; check the path."
        )
    return open_table(replace(config, kind="parquet"))


def mige(config: SourceConfig) -> Listing:
    """MIGE's JSON list of {image, multi_prompt, entity_path, source_path, width, height}, or the folder that holds it.

    `multi_prompt` has one `<imagehere>` per entry of `entity_path`, in order; the source stands among the entities too,
    and words take its place. Pictures are found by their paths below `images` (or the file's folder), else by file
    name. Where `source_path` is empty the picture is drawn from blank.
    """
    file = reading.only_file(Path(str(config.path)), ("*.json",), config.kind)
    entries = reading.json_of(
        file, list, "a list of {image, multi_prompt, entity_path, source_path}, as MIGE publishes it"
    )
    finder = reading.Finder(Path(config.images) if config.images else file.parent)
    names = []
    for number, entry in enumerate(entries):
        told = entry.get("key", entry.get("idx")) if isinstance(entry, dict) else None
        names.append(str(told) if isinstance(told, str | int) and str(told) else f"{number:06d}")
    keys = reading.unique_keys(names)

    def make(number: int) -> Pair:
        return multimodal_prompt(keys[number], entries[number], finder.find)

    return Listing(len(keys), make, keys.__getitem__, [file])


def multimodal_prompt(key: str, entry: Any, find: Callable[[object], Path]) -> Pair:
    """An entry of MIGE's list; `find` gives the picture that a path of its authors' machine means."""
    if not isinstance(entry, dict):
        raise reading.ReadError(reading.FIELDS, f"the entry is {entry!r:.40}")
    prompt = entry.get("multi_prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise reading.ReadError(reading.NO_TEXT, f"`multi_prompt` is {prompt!r:.40}")
    sources, entities = paths_of(entry.get("source_path")), paths_of(entry.get("entity_path"))
    if len(sources) > 1:
        raise reading.ReadError(reading.FIELDS, f"{len(sources)} pictures in `source_path`: an edit has one, or none")
    texts = prompt.split(REFERENCE_PLACEHOLDER)
    if len(texts) - 1 != len(entities):
        raise reading.ReadError(
            reading.FIELDS, f"{len(texts) - 1} {REFERENCE_PLACEHOLDER} for {len(entities)} pictures in `entity_path`"
        )
    marks = [SOURCE_WORDS if path in sources else REFERENCE_PLACEHOLDER for path in entities]
    told = texts[0] + "".join(mark + text for mark, text in zip(marks, texts[1:], strict=True))
    own, task = entry.get("instruction"), entry.get("task")  # ours: the words before the source got its mark
    masks, caption = paths_of(entry.get("mask_path")), entry.get("target_caption")
    return Pair(
        key,
        {"simple": (own.strip() if isinstance(own, str) and own.strip() else told.strip(),)},
        find(sources[0]) if sources else None,
        find(entry.get("image")),
        tuple(find(path) for path in entities if path not in sources),
        mask=reading.tried(find, masks[0]) if masks else None,
        task=task if isinstance(task, str) and task else "edit" if sources else "subject",
        caption=str(entry.get("source_caption") or ""),
        facts={"notes": {"caption_target": caption} if isinstance(caption, str) and caption else {}},
    )


def paths_of(value: object) -> list[str]:
    """One path of MIGE's entries, or several."""
    if isinstance(value, str):
        return [value] if value else []
    return [str(path) for path in value] if isinstance(value, list) else []


def folders(config: SourceConfig) -> Listing:
    """Folders side by side, as ai-toolkit, SimpleTuner and kohya's scripts read them: equal stems belong together.

    `target/0001.png`, `control/0001.png` (or `source/`, and other common names), `0001.txt` with the instruction beside
    either, in the folder around them or in `instructions/`; `control_2/0001.png` ... for references, `mask/0001.png`. A
    folder of the split's name may stand around all. A target without control whose words have `<imagehere>` is drawn
    from blank.
    """
    root = Path(str(config.path))
    around = [one.name for one in (sorted(root.iterdir()) if root.is_dir() else ()) if _folder(one, TARGETS)]
    if _folder(root, TARGETS) is None and around:
        if config.split not in around:
            raise ConfigError(f"{root} has the splits {', '.join(around)}, not `{config.split}`: name one of them.")
        root = root / config.split
    elif config.split != "train":
        raise ConfigError(f"{root} has no splits, so there is no `{config.split}` to choose: leave it out.")
    targets, controls = _folder(root, TARGETS), _folder(root, CONTROLS)
    if targets is None or (controls is None and not _more(root)):
        what = "target" if targets is None else "control"
        raise FileNotFoundError(
            f"{root} holds no folder `{what}`: kind {config.kind} reads target/ and control/ (or source/) with files "
            "of equal stems."
        )
    made, given, masks = _by_stem(targets), _by_stem(controls), _by_stem(_folder(root, MASKS))
    more = [_by_stem(folder) for folder in _more(root)]
    texts = [one for one in (targets, controls, root, _folder(root, CAPTIONS)) if one is not None]
    stems = sorted({*made, *given}, key=natural)
    keys = reading.unique_keys(stems)

    def make(number: int) -> Pair:
        stem = stems[number]
        if stem not in made:
            raise reading.ReadError(reading.MISSING, f"the control {given[stem].name} has no target")
        named = (folder / f"{stem}{ending}" for folder in texts for ending in (".txt", ".caption"))
        told = next((path for path in named if path.is_file()), None)
        if told is None:
            raise reading.ReadError(reading.NO_TEXT, f"{stem.rpartition('/')[2]}.txt is missing")
        text = reading.words(reading.read_words(told))
        if stem not in given and REFERENCE_PLACEHOLDER not in text:
            raise reading.ReadError(reading.MISSING, f"the target {made[stem].name} has no control picture")
        references = tuple(one[stem] for one in more if stem in one)
        pictures = (given.get(stem), made[stem], references)
        task = "edit" if stem in given else "subject"
        return Pair(keys[number], {"simple": (text,)}, *pictures, mask=masks.get(stem), task=task)

    return Listing(len(stems), make, keys.__getitem__, [*made.values(), *given.values()])


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


def _by_stem(folder: Path | None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in () if folder is None else reading.picture_files(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise ConfigError(f"{folder} holds {found[stem].name} and {path.name}: remove the one that is not meant.")
        found[stem] = path
    return found


LAYOUTS: dict[str, Callable[[SourceConfig], Listing]] = {
    **dict.fromkeys(KINDS, open_table),
    "magicbrush": magicbrush,
    "instructpix2pix": instructpix2pix,
    "advancededit": advancededit,
    "reasonedit": reasonedit,
    "mige": mige,
    "folders": folders,
    "ai_toolkit": folders,
}
"""Kind -> what opens it; the same for training, recipes, doctor and conversion."""


def open_listing(config: SourceConfig) -> Listing:
    """The pairs of a set on disk; its `path` is given."""
    if config.columns and config.kind not in KINDS and config.kind not in ("magicbrush", "instructpix2pix"):
        raise ConfigError(f"kind `{config.kind}` has no columns to name: leave `columns` out.")
    return LAYOUTS[config.kind](config)
