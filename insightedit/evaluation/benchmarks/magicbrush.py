"""MagicBrush: sessions of one to three turns, with a picture after each.

All-turn (the paper's "single-turn"): every turn starts from the true picture before it. Final-turn ("multi-turn"): the
turns of a session follow one another on the editor's own results, and the last is compared. Ids are the names that the
published evaluation gives to results: `ID_1`, `ID_inde_2`, `ID_iter_2`.
"""

from __future__ import annotations

import itertools
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card
from insightedit.evaluation.benchmarks.masks import white_mask
from insightedit.evaluation.benchmarks.reading import Notes, as_id, packed, reads, some
from insightedit.evaluation.benchmarks.tables import Row, check_columns, table_files, table_shape, unpack
from insightedit.files import is_junk, natural

SESSIONS = "edit_sessions.json"
COLUMNS = ("source_img", "mask_img", "target_img")
NEEDED = ("img_id", "turn_index", "instruction", "source_img", "target_img")
PUBLISHED = {"all-turn": 1053, "final-turn": 535, "dev-all-turn": 528, "dev-final-turn": 266}

CARD = Card(
    name="magicbrush",
    title="MagicBrush",
    paper="Zhang et al., MagicBrush, NeurIPS 2023",
    obtain="Get the test split, a zip with a password, by the link in the README of "
    "github.com/OSU-NLP-Group/MagicBrush; dev also lies on the hub as osunlp/MagicBrush.",
    licence="CC-BY-4.0; the unzipped test split must not be put online",
    layout="""\
test/ or dev/
  edit_sessions.json          {ID: [{input, mask, output, instruction}, ...]}
  local_descriptions.json     {ID: {FILE: caption of what was edited}}
  global_descriptions.json    {ID: {FILE: caption of the picture}}
  images/ID/                  ID-input.png ID-output1.png ID-mask1.png ...
or, for dev: data/dev-*.parquet of the hub""",
    counts={"all": 1053},
    splits=tuple(PUBLISHED),
)


@dataclass(frozen=True)
class _Turn:
    """One edit of a session, its pictures as they lie on disk."""

    number: int
    instruction: str
    source: Path
    target: Path
    mask: Path | None


@reads(CARD, {split: {"all": number} for split, number in PUBLISHED.items()})
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """Samples with session as cluster.

    A final-turn sample has the session's first picture as source, its last as target, and the instructions before the
    last in `earlier`; a mask only where the session has one turn. Masks are published as pictures with a hole; they are
    written once as white on black to `unpacked/masks/`, which takes about 0.1 s each.
    """
    part = "dev" if split.startswith("dev-") else "test"
    root = _find_sessions(notes, part)
    if root is not None:
        sessions = _read_sessions(notes, root)
        captions = {kind: _read_captions(notes, root, kind) for kind in ("local", "global")}
    else:
        sessions, captions = _read_tables(notes, part), {}
    samples: list[BenchmarkSample] = []
    for name, turns in sessions.items():
        is_final = split.endswith("final-turn")
        made = [_final_sample(name, turns)] if is_final else [_turn_sample(name, turn) for turn in turns]
        samples += [_with_captions(sample, captions) for sample in made]
    _note_captions(notes, samples)
    return samples if notes.faults else [_with_white_mask(notes, sample) for sample in samples]


def _find_sessions(notes: Notes, part: str) -> Path | None:
    """The folder with edit_sessions.json; None if there are tables in its place."""
    for root in (notes.folder / part, notes.folder):
        if (root / SESSIONS).is_file():
            other = {"test": "dev", "dev": "test"}[part]
            if root.resolve().name == other:
                wanted = "a split that begins with dev-" if other == "dev" else "all-turn or final-turn"
                notes.fault(f"The folder is called {other}, and the {part} split was asked for: ask for {wanted}.")
                notes.stop()
            return root
    if part == "dev" and table_files(notes.folder, part):
        return None
    for path in sorted(notes.folder.glob("*.zip")):
        if zipfile.is_zipfile(path):
            notes.fault(packed(path))
    if not notes.faults and any(notes.folder.rglob("*.parquet")):
        notes.fault(
            "It holds the hub's parquet files, which have train and dev only: the test split is a zip of its own."
        )
    if not notes.faults:
        notes.fault(f"It holds no {SESSIONS}, neither itself nor in {part}/.")
    notes.stop()
    return None


def _read_sessions(notes: Notes, root: Path) -> dict[str, list[_Turn]]:
    table = notes.read_json(root / SESSIONS, dict, "{ID: [{input, mask, output, instruction}, ...]}")
    if not (root / "images").is_dir():
        notes.fault(f"{notes.short(root / 'images')} is missing: it holds a folder of pictures for each session.")
    notes.stop()
    sessions: dict[str, list[_Turn]] = {}
    for name in sorted(table, key=natural):
        where = f"Session {name}"
        folder = notes.inside(root / "images", name, where)
        if folder is None or not isinstance(table[name], list) or not table[name]:
            if folder is not None:
                notes.fault(f"{where} holds {table[name]!r:.40}: it has to be a list of turns.")
            continue
        turns = [_read_turn(notes, folder, f"{where}, entry {i}", row) for i, row in enumerate(table[name], 1)]
        sessions[name] = _in_order(notes, where, [turn for turn in turns if turn is not None])
        if None not in turns:
            _check_chain(notes, where, folder, name, sessions[name])
    names = {path.name for path in (root / "images").iterdir() if path.is_dir() and not is_junk(path)}
    if strangers := sorted(names - set(table), key=natural):
        notes.warn(f"{len(strangers)} folders of images have no session in {SESSIONS}: {some(strangers)}.")
    return {name: turns for name, turns in sessions.items() if turns}


def _read_turn(notes: Notes, folder: Path, where: str, row: Any) -> _Turn | None:
    """A turn; its number is that of its output (`139-output2.png`)."""
    if not isinstance(row, dict):
        notes.fault(f"{where} is {row!r:.40}: a turn is {{input, mask, output, instruction}}.")
        return None
    texts = {key: notes.text_of(row, key, where) for key in ("input", "output", "instruction")}
    if not all(texts.values()):
        return None
    number = re.search(r"-output(\d+)\.\w+$", texts["output"])
    if number is None:
        notes.fault(f"{where} has the output {texts['output']!r}: it has to end in -outputN.png, N being its turn.")
        return None
    mask = notes.text_of(row, "mask", where, needed=False)
    paths = [notes.inside(folder, name, where) for name in (texts["input"], texts["output"], mask) if name]
    if None in paths:
        return None
    source, target, *masks = [path for path in paths if path is not None]
    return _Turn(int(number[1]), texts["instruction"], source, target, masks[0] if masks else None)


def _in_order(notes: Notes, where: str, turns: Sequence[_Turn]) -> list[_Turn]:
    """Turns by number, one after the other without a gap."""
    ordered = sorted(turns, key=lambda turn: turn.number)
    numbers = [turn.number for turn in ordered]
    if ordered != list(turns):
        notes.warn(f"{where} has its turns in another order ({', '.join(str(t.number) for t in turns)}): sorted.")
    if numbers and numbers != list(range(1, len(numbers) + 1)):
        listed = ", ".join(map(str, numbers))
        missing = sorted(set(range(1, numbers[-1] + 1)) - set(numbers))
        lacks = f"lacks turn {', '.join(map(str, missing))}" if missing else "has a turn twice"
        notes.fault(f"{where} {lacks} (it has {listed}): every turn from 1 on has to be there once.")
    return ordered


def _check_chain(notes: Notes, where: str, folder: Path, name: str, turns: Sequence[_Turn]) -> None:
    """Every turn starts from the picture before it, and no picture on disk is left over."""
    for before, turn in itertools.pairwise(turns):
        if turn.source != before.target and turn.number == before.number + 1:
            notes.fault(
                f"{where}, turn {turn.number}, starts from {turn.source.name}: it has to start from "
                f"{before.target.name}, the result of the turn before."
            )
    if folder.is_dir():
        outputs = {s: p for s, p in notes.pictures_by_stem(folder).items() if s.startswith(f"{name}-output")}
        known = {turn.target.stem for turn in turns}
        if left := [path.name for stem, path in outputs.items() if stem not in known]:
            notes.fault(f"{where} has no turn for {some(left)}: {SESSIONS} lacks it, or the picture is of elsewhere.")


def _read_captions(notes: Notes, root: Path, kind: str) -> Mapping[str, Any]:
    path = root / f"{kind}_descriptions.json"
    if not path.is_file():
        use = "what was edited, which the paper's CLIP-T takes" if kind == "local" else "whole pictures"
        notes.warn(f"{path.name} is missing: there are no captions of {use}.")
        return {}
    return notes.read_json(path, dict, "{ID: {FILE: caption}}") or {}


def _read_tables(notes: Notes, part: str) -> dict[str, list[_Turn]]:
    """Sessions from the hub's rows {img_id, turn_index, source_img, mask_img, instruction, target_img}."""
    files = table_files(notes.folder, part)
    if (shape := table_shape(notes, files)) is not None:
        check_columns(
            notes, files[0].name, shape[1], ("img_id", "turn_index", "instruction", "source_img", "target_img")
        )
    notes.stop()
    rows = unpack(notes, files, part, COLUMNS, lambda row: f"{row['img_id']}-{row['turn_index']}")
    sessions: dict[str, list[_Turn]] = {}
    for row in rows:
        turn = _row_turn(notes, row)
        if turn is not None:
            sessions.setdefault(str(row["img_id"]), []).append(turn)
    notes.warn("The hub's rows have no captions: CLIP-T needs those of the zip.")
    return {name: _in_order(notes, f"Session {name}", sessions[name]) for name in sorted(sessions, key=natural)}


def _row_turn(notes: Notes, row: Row) -> _Turn | None:
    where = f"Row {row['img_id']}, turn {row['turn_index']},"
    instruction = notes.text_of(row, "instruction", where)
    if row["source_img"] is None or row["target_img"] is None:
        notes.fault(f"{where} has no source or no target picture.")
        return None
    if not isinstance(row["turn_index"], int):
        notes.fault(f"{where} has {row['turn_index']!r} as `turn_index`: it has to be a whole number.")
        return None
    mask = row.get("mask_img")
    return _Turn(row["turn_index"], instruction, row["source_img"], row["target_img"], mask)


def _turn_sample(name: str, turn: _Turn) -> BenchmarkSample:
    sample_id = as_id(f"{name}_1" if turn.number == 1 else f"{name}_inde_{turn.number}")
    pictures = {"source": turn.source, "target": turn.target, "mask": turn.mask}
    return BenchmarkSample(sample_id, turn.instruction, **pictures, cluster=name, turn=turn.number)


def _final_sample(name: str, turns: Sequence[_Turn]) -> BenchmarkSample:
    last = turns[-1]
    return replace(
        _turn_sample(name, last),
        sample_id=as_id(f"{name}_1" if last.number == 1 else f"{name}_iter_{last.number}"),
        source=turns[0].source,
        mask=last.mask if len(turns) == 1 else None,
        earlier=tuple(turn.instruction for turn in turns[:-1]),
    )


def _with_captions(sample: BenchmarkSample, captions: Mapping[str, Mapping[str, Any]]) -> BenchmarkSample:
    """The sample with its captions; `extra` says where those before and after are equal."""

    def caption(kind: str, path: Path | None) -> str:
        session = captions.get(kind, {}).get(sample.cluster)
        text = session.get(path.name) if isinstance(session, dict) and path is not None else None
        return text.strip() if isinstance(text, str) else ""

    source, target = caption("global", sample.source), caption("global", sample.target)
    return replace(
        sample,
        source_caption=source,
        target_caption=target,
        local_caption=caption("local", sample.target),
        extra={"equal_captions": "yes"} if source and source == target else {},
    )


def _note_captions(notes: Notes, samples: Sequence[BenchmarkSample]) -> None:
    for kind, field in (("local", "local_caption"), ("global", "target_caption")):
        bare = [sample.sample_id for sample in samples if not getattr(sample, field)]
        if bare and len(bare) < len(samples):
            notes.warn(f"{len(bare)} targets have no {kind} caption ({some(bare)}): they are left out of CLIP-T.")
    if equal := [sample.sample_id for sample in samples if sample.extra]:
        notes.warn(
            f"{len(equal)} of {len(samples)} samples have equal global captions before and after ({some(equal)}): "
            "directions between them are undefined."
        )


def _with_white_mask(notes: Notes, sample: BenchmarkSample) -> BenchmarkSample:
    if sample.mask is None or not sample.mask.is_file():
        return sample
    return replace(sample, mask=white_mask(notes, sample.mask, sample.mask.stem))
