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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from insightedit.datasets.layouts import SESSIONS, session_turn
from insightedit.datasets.notes import Entry, EntryError, Notes, as_id, packed, some
from insightedit.datasets.reading import ReadError, inside
from insightedit.datasets.unpacking import open_tables, split_tables, unpack, white_mask
from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card, reads
from insightedit.files import is_junk, natural

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


@reads(CARD, {split: {"all": number} for split, number in PUBLISHED.items()})
def load(notes: Notes, split: str) -> Sequence[BenchmarkSample]:
    """Samples with session as cluster.

    A final-turn sample has the session's first picture as source, its last as target, and the instructions before the
    last in `earlier`; a mask only where the session has one turn. Masks are published as pictures with a hole; they are
    written once as white on black to `unpacked/masks/`, which takes about 0.1 s each.
    """
    part = "dev" if split.startswith("dev-") else "test"
    root = _find_sessions(notes, part)
    sessions = _read_tables(notes, part) if root is None else _read_sessions(notes, root)
    samples: list[BenchmarkSample] = []
    for turns in sessions.values():
        first, last = turns[0], turns[-1]
        final = replace(
            last,
            sample_id=_turn_id(last.cluster, last.turn, "iter"),
            source=first.source,
            source_caption=first.source_caption,
            mask=last.mask if len(turns) == 1 else None,
            earlier=tuple(turn.instruction for turn in turns[:-1]),
        )
        samples += [final] if split.endswith("final-turn") else turns
    for kind, field in (("local", "local_caption"), ("global", "target_caption")):
        bare = [sample.sample_id for sample in samples if not getattr(sample, field)]
        if bare and len(bare) < len(samples):
            notes.warn(f"{len(bare)} targets have no {kind} caption ({some(bare)}): they are left out of CLIP-T.")
    equal = [one.sample_id for one in samples if one.source_caption and one.source_caption == one.target_caption]
    if equal:
        notes.warn(
            f"{len(equal)} of {len(samples)} samples have equal global captions before and after ({some(equal)}): "
            "directions between them are undefined."
        )
    if notes.faults:
        return samples
    white = {
        one.sample_id: white_mask(notes, one.mask, one.mask.stem) if one.mask.is_file() else one.mask
        for one in samples
        if one.mask is not None
    }
    told = {name: {"equal_captions": "yes"} for name in equal}
    return [replace(one, mask=white.get(one.sample_id), extra=told.get(one.sample_id, {})) for one in samples]


def _find_sessions(notes: Notes, part: str) -> Path | None:
    """The folder with edit_sessions.json; None if there are tables in its place."""
    for root in (notes.folder / part, notes.folder):
        if (root / SESSIONS).is_file():
            other = {"test": "dev", "dev": "test"}[part]
            if root.resolve().name == other:
                wanted = "a split that begins with dev-" if other == "dev" else "all-turn or final-turn"
                notes.stop(f"The folder is called {other}, and the {part} split was asked for: ask for {wanted}.")
            return root
    if part == "dev" and split_tables(notes.folder, part):
        return None
    for path in sorted(notes.folder.glob("*.zip")):
        if zipfile.is_zipfile(path):
            notes.fault(packed(path))
    notes.stop()
    if any(notes.folder.rglob("*.parquet")):
        notes.stop(
            "It holds the hub's parquet files, which have train and dev only: the test split is a zip of its own."
        )
    notes.stop(f"It holds no {SESSIONS}, neither itself nor in {part}/.")
    return None


def _read_sessions(notes: Notes, root: Path) -> dict[str, list[BenchmarkSample]]:
    """Session -> its turns in order, each as a sample of its own."""
    shape = "{input, mask, output, instruction}"
    table = notes.read_json(root / SESSIONS, dict, f"{{ID: [{shape}, ...]}}")
    images = root / "images"
    if not images.is_dir():
        notes.fault(f"{notes.short(images)} is missing: it holds a folder of pictures for each session.")
    notes.stop()
    captions = {}
    for kind, use in (("local", "what was edited, which the paper's CLIP-T takes"), ("global", "whole pictures")):
        path = root / f"{kind}_descriptions.json"
        if path.is_file():
            captions[kind] = notes.read_json(path, dict, "{ID: {FILE: caption}}") or {}
        else:
            captions[kind] = {}
            notes.warn(f"{path.name} is missing: there are no captions of {use}.")
    sessions: dict[str, list[BenchmarkSample]] = {}
    for name in sorted(table, key=natural):
        where, rows = f"Session {name}", table[name]
        if not isinstance(rows, list) or not rows:
            notes.fault(f"{where} holds {rows!r:.40}: it has to be a list of turns.")
            continue
        told = {kind: found if isinstance(found := captions[kind].get(name), dict) else {} for kind in captions}
        numbered = ((f"{where}, entry {number}", row) for number, row in enumerate(rows, 1))
        turns = notes.each(numbered, shape, partial(_turn, name, images, told))
        sessions[name] = _in_order(notes, where, turns)
        if len(turns) == len(rows):
            _check_chain(notes, where, images / name, name, sessions[name])
    names = {path.name for path in images.iterdir() if path.is_dir() and not is_junk(path)}
    if strangers := sorted(names - set(table), key=natural):
        notes.warn(f"{len(strangers)} folders of images have no session in {SESSIONS}: {some(strangers)}.")
    return {name: turns for name, turns in sessions.items() if turns}


def _turn(name: str, images: Path, captions: Mapping[str, Mapping[str, Any]], entry: Entry) -> BenchmarkSample:
    """A turn as training reads it; its number is that of its output (`139-output2.png`)."""
    _, output, instruction = (entry.text(key) for key in ("input", "output", "instruction"))
    pair = session_turn(name, entry.fields, inside(images, name), captions)
    number = re.search(r"-output(\d+)\.\w+$", output)
    if number is None:
        raise EntryError(f"has the output {output!r}: it has to end in -outputN.png, N being its turn")
    if isinstance(pair.mask, ReadError):
        raise pair.mask
    found = pair.facts["notes"]
    return BenchmarkSample(
        _turn_id(name, int(number[1])),
        instruction,
        source=pair.source,
        target=pair.target,
        mask=pair.mask,
        source_caption=pair.caption.strip(),
        target_caption=str(found.get("caption_target", "")).strip(),
        local_caption=str(found.get("local_description", "")).strip(),
        cluster=name,
        turn=int(number[1]),
    )


def _turn_id(name: str, number: int, kind: str = "inde") -> str:
    return as_id(f"{name}_1" if number == 1 else f"{name}_{kind}_{number}")


def _in_order(notes: Notes, where: str, turns: Sequence[BenchmarkSample]) -> list[BenchmarkSample]:
    """Turns by number, one after the other without a gap."""
    ordered = sorted(turns, key=lambda turn: turn.turn)
    numbers = [turn.turn for turn in ordered]
    if ordered != list(turns):
        notes.warn(f"{where} has its turns in another order ({', '.join(str(t.turn) for t in turns)}): sorted.")
    if numbers and numbers != list(range(1, len(numbers) + 1)):
        listed = ", ".join(map(str, numbers))
        missing = sorted(set(range(1, numbers[-1] + 1)) - set(numbers))
        lacks = f"lacks turn {', '.join(map(str, missing))}" if missing else "has a turn twice"
        notes.fault(f"{where} {lacks} (it has {listed}): every turn from 1 on has to be there once.")
    return ordered


def _check_chain(notes: Notes, where: str, folder: Path, name: str, turns: Sequence[BenchmarkSample]) -> None:
    """Every turn starts from the picture before it, and no picture on disk is left over."""
    for before, turn in itertools.pairwise(turns):
        if turn.source != before.target and turn.turn == before.turn + 1:
            notes.fault(
                f"{where}, turn {turn.turn}, starts from {Path(str(turn.source)).name}: it has to start from "
                f"{Path(str(before.target)).name}, the result of the turn before."
            )
    if folder.is_dir():
        outputs = {s: p for s, p in notes.pictures_by_stem(folder).items() if s.startswith(f"{name}-output")}
        known = {Path(str(turn.target)).stem for turn in turns}
        if left := [path.name for stem, path in outputs.items() if stem not in known]:
            notes.fault(f"{where} has no turn for {some(left)}: {SESSIONS} lacks it, or the picture is of elsewhere.")


def _read_tables(notes: Notes, part: str) -> dict[str, list[BenchmarkSample]]:
    """Session -> its turns, of the hub's rows {img_id, turn_index, source_img, mask_img, instruction, target_img}."""
    table = open_tables(notes, split_tables(notes.folder, part), NEEDED)
    notes.stop()
    assert table is not None
    rows = unpack(notes, table, part, COLUMNS, lambda row: f"{row['img_id']}-{row['turn_index']}")
    named = ((f"Row {row['img_id']}, turn {row['turn_index']},", row) for row in rows)
    sessions: dict[str, list[BenchmarkSample]] = {}
    for turn in notes.each(named, "a row", _row_turn):
        sessions.setdefault(turn.cluster, []).append(turn)
    notes.warn("The hub's rows have no captions: CLIP-T needs those of the zip.")
    return {name: _in_order(notes, f"Session {name}", sessions[name]) for name in sorted(sessions, key=natural)}


def _row_turn(entry: Entry) -> BenchmarkSample:
    row, name = entry.fields, str(entry.fields["img_id"])
    if row["source_img"] is None or row["target_img"] is None:
        raise EntryError("has no source or no target picture")
    if not isinstance(row["turn_index"], int):
        raise EntryError(f"has {row['turn_index']!r} as `turn_index`: it has to be a whole number")
    return BenchmarkSample(
        _turn_id(name, row["turn_index"]),
        entry.text("instruction"),
        source=row["source_img"],
        target=row["target_img"],
        mask=row.get("mask_img"),
        cluster=name,
        turn=row["turn_index"],
    )
