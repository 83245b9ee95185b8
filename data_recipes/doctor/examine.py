"""Reads a data set once, record by record, and gathers what is wrong. What grows is some 400 bytes a pair."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from data_recipes.doctor import pixels, wordings
from data_recipes.doctor.files import json_faults, parts
from data_recipes.doctor.findings import FAULTS, OF_REASON, Diagnosis, Finding, Shown
from data_recipes.doctor.signatures import DTYPE, Signatures, near, signature
from data_recipes.doctor.testsets import named, signatures_of
from data_recipes.formats.kinds import guess_kind, splits_of
from data_recipes.runner.inputs import Input, InputConfig, open_input
from data_recipes.runner.records import Record, Rejected
from insightedit.datasets.columns import ColumnsError

SHOWN = 8  # pairs of each fault that are kept to be looked at
SIDE = 256  # pixels of their longer side
MANY = 20  # pairs with a direction, from which the set as a whole is judged
MOSTLY = 0.7  # of them, the other way round


@dataclass
class _Seen:
    """What is remembered of the pairs of one split."""

    pictures: Signatures = field(default_factory=Signatures)
    pairs: dict[int, list[tuple[str, bytes]]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Doctor:
    """Looks at one data set.

    Attributes:
        diagnosis: filled while records pass.
        tests: test set -> its pictures' signatures.
        directions: of the pairs that have one, above 0 as it should be.
    """

    diagnosis: Diagnosis
    tests: dict[str, Signatures] = field(default_factory=dict)
    directions: list[float] = field(default_factory=list)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _undirected: int = 0

    def take(self, outcome: Record | Rejected, file: str, split: str) -> None:
        """Look at one record."""
        self.diagnosis.splits[split] = self.diagnosis.splits.get(split, 0) + 1
        if isinstance(outcome, Rejected):
            fault = OF_REASON.get(outcome.reason, "incomplete")
            self._note(Finding(fault, outcome.key, outcome.detail, file, split))
            return
        found = [*_words(outcome), *self._pictures(outcome), *self._known(outcome, split)]
        for fault, detail in found:
            self._note(Finding(fault, outcome.key, detail, file, split), outcome)

    def _note(self, finding: Finding, record: Record | None = None) -> None:
        self.diagnosis.findings.append(finding)
        shown = sum(one.finding.fault == finding.fault for one in self.diagnosis.shown)
        if record is not None and record.target is not None and shown < SHOWN:
            self.diagnosis.shown.append(Shown(finding, _small(record), next(iter(record.wordings), "")))

    def _pictures(self, record: Record) -> list[tuple[str, str]]:
        """(fault, detail) of the pictures of one pair."""
        source, target, mask = record.source, record.target, record.mask
        if target is None:
            return [("incomplete", "it has no target picture")]
        sizes = {"source": source, "target": target, "mask": mask}
        told = {name: one.shape[1::-1] for name, one in sizes.items() if one is not None}
        if len(set(told.values())) > 1:
            return [("resized", _told_sizes(told))]
        if source is None:
            return []
        if pixels.is_identical(source, target):
            return [("identical", "")]
        shift = pixels.shift_between(source, target)
        if shift is not None:
            return [("misaligned", _told_shift(shift))]
        found = []
        if mask is not None and (fault := pixels.mask_fault(mask, source, target)):
            found.append(fault)
        return found + self._direction(record, source, target)

    def _direction(self, record: Record, source: np.ndarray, target: np.ndarray) -> list[tuple[str, str]]:
        """Whether the pair goes the way its instruction says."""
        text = _plain(record)
        task = _task(record)
        if text and wordings.goes_backwards(text, record.class_origin, record.class_target):
            told = f"{text!r:.60}, but {record.class_origin} is to become {record.class_target}"
            return [("swapped", told)]
        if not text or wordings.contradiction(text, task):
            return []
        way = pixels.direction(text, task, source, target, record.mask)
        if way is None:
            self._undirected += 1
            return []
        self.directions.append(way)
        return [("swapped", f"the source looks like the result of {text!r:.60}")] if way < -pixels.EVIDENCE else []

    def _known(self, record: Record, split: str) -> list[tuple[str, str]]:
        """Near-duplicates, and pictures of test sets; what is new is remembered."""
        seen = self._seen.setdefault(split, _Seen())
        made = [None if one is None else signature(one) for one in (record.source, record.target)]
        found = []
        for name, test in self.tests.items():
            hits = [hit for one in made if one is not None and (hit := test.find(one)) is not None]
            found += [("test_leak", f"{name}: {hits[0]}")] if hits else []
        for role, one in zip(("source", "target"), made, strict=True):
            if one is not None:
                seen.pictures.add(one, f"{record.key} ({role})")
        first = self._first_alike(seen, record, made)
        return found + ([("duplicate", f"of {first}")] if first else [])

    @staticmethod
    def _first_alike(seen: _Seen, record: Record, made: Sequence[np.ndarray | None]) -> str:
        """Key of an earlier pair with nearly the same pictures and the same words; "" if this is the first."""
        if made[1] is None or (made[0] is None and record.source is not None):
            return ""
        words = " ".join(_plain(record).lower().split())
        place = int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little")
        own = b"".join(b"" if one is None else one.tobytes() for one in made)
        for key, other in seen.pairs[place]:
            if len(other) == len(own) and _are_near(own, other):
                return key
        seen.pairs[place].append((record.key, own))
        return ""

    def finish(self) -> None:
        """What only the whole set tells: leaks between splits, and whether all pairs go the wrong way."""
        names = list(self._seen)
        for number, one in enumerate(names):
            for other in names[number + 1 :]:
                mine, theirs = sorted((one, other), key=lambda split: len(self._seen[split].pictures))
                told = set()
                for name, hit in self._seen[mine].pictures.pairs(self._seen[theirs].pictures):
                    key = name.rpartition(" ")[0]
                    if key not in told:
                        told.add(key)
                        self._note(Finding("split_leak", key, f"{mine} and {theirs}: {hit}", split=mine))
        backwards = sum(way < 0 for way in self.directions)
        if len(self.directions) >= MANY and backwards > MOSTLY * len(self.directions):
            told = f"{backwards} of {len(self.directions)} pairs that have a direction go the other way"
            self._note(Finding("swapped", "the whole set", told))
        if self._undirected:
            self.diagnosis.unchecked.append(
                f"Whether source and target are swapped cannot be told from the pictures of {self._undirected} pairs: "
                "their edits have no direction that shows (a replacement looks alike both ways), or hardly show."
            )


def examine(
    path: Path,
    *,
    kind: str | None = None,
    splits: Sequence[str] = (),
    against: Sequence[str] = (),
    count: int | None = None,
    images: str | None = None,
    columns: Mapping[str, str] | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Diagnosis:
    """Look at a data set; nothing is written or changed.

    Args:
        path: file or folder.
        kind: of layout, one of `runner.inputs.INPUTS`; told by the files if not given.
        splits: to look at; all that there are if none is named.
        against: test sets, each a folder or NAME=FOLDER.
        count: so many records of each split at most.
        images: folder that paths in tables and lists start from; None for their own.
        columns: role -> column, where a table has names of its own.
        progress: told (records done, records in all) as far as they are known.

    Raises:
        ValueError: if the layout is not known, or nothing can be opened.
        OSError: if a path does not exist.
    """
    started = time.perf_counter()
    is_chosen = bool(kind or splits) and path.is_file()  # then what cannot be opened was called by a wrong name
    kind = kind or guess_kind(path)
    doctor = Doctor(Diagnosis(str(path), kind))
    for word in against:
        name, folder = named(word)
        doctor.tests[name] = signatures_of(folder)
        doctor.diagnosis.compared[name] = len(doctor.tests[name])
    if kind == "advancededit":
        doctor.diagnosis.findings += json_faults(path)
    done = total = 0
    for split in splits or splits_of(kind, path):
        left = count
        whole = InputConfig(kind, str(path), split, max_side=None, images=images, columns=dict(columns or {}))
        for config in parts(whole):
            opened = open_input(config) if is_chosen else _open(config, doctor, split)
            size = 0 if opened is None else len(opened) if left is None else min(left, len(opened))
            total += size
            for number in range(size):
                assert opened is not None
                doctor.take(opened[number], str(config.path), split)
                done += 1
                progress(done, total)
            left = None if left is None else left - size
    if not doctor.diagnosis.records and not doctor.diagnosis.findings:
        raise ValueError(f"{path} holds no records of kind {kind}: name its layout with --kind.")
    doctor.finish()
    order = list(FAULTS)
    doctor.diagnosis.findings.sort(key=lambda one: order.index(one.fault))
    doctor.diagnosis.seconds = time.perf_counter() - started
    return doctor.diagnosis


def _open(config: InputConfig, doctor: Doctor, split: str) -> Input | None:
    """The input, or None with a finding where the file is damaged as a whole."""
    try:
        return open_input(config)
    except ColumnsError:
        raise
    except ValueError as error:
        if config.path is None or not Path(config.path).is_file():
            raise
        doctor.diagnosis.findings.append(
            Finding("unreadable", Path(config.path).name, str(error), str(config.path), split)
        )
        return None


def _words(record: Record) -> list[tuple[str, str]]:
    """(fault, detail) of the instructions."""
    task = _task(record)
    told = ((text, wordings.contradiction(text, task)) for text in record.plain_wordings)
    return next(([("wrong_task", f"{text!r:.80}: {why}")] for text, why in told if why), [])


def _task(record: Record) -> str:
    """The task as the data set calls it."""
    told = record.notes.get("task")
    return told if isinstance(told, str) else record.task


def _plain(record: Record) -> str:
    """The first wording that a user would say."""
    return next(iter(record.plain_wordings), "")


def _are_near(one: bytes, other: bytes) -> bool:
    mine, theirs = np.frombuffer(one, DTYPE), np.frombuffer(other, DTYPE)
    return all(bool(near(a, theirs[number : number + 1])[0]) for number, a in enumerate(mine))


def _told_sizes(sizes: dict[str, tuple[int, ...]]) -> str:
    told = ", ".join(f"{name} {width} x {height}" for name, (width, height) in sizes.items())
    forms = {round(width / height, 2) for width, height in sizes.values()}
    return told + (", of other proportions" if len(forms) > 1 else "")


def _told_shift(shift: pixels.Shift) -> str:
    across = f"{abs(shift.right)} px {'right' if shift.right > 0 else 'left'}" if shift.right else ""
    along = f"{abs(shift.down)} px {'down' if shift.down > 0 else 'up'}" if shift.down else ""
    return f"by {' and '.join(filter(None, (across, along)))}: then {100 * shift.match:.0f} % of the structure fits"


def _small(record: Record) -> dict[str, np.ndarray]:
    """The pictures of a pair, small."""
    mask = None if record.mask is None else np.repeat(record.mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    found = {"source": record.source, "target": record.target, "mask": mask}
    small = {}
    for name, picture in found.items():
        if picture is not None:
            image = Image.fromarray(picture)
            image.thumbnail((SIDE, SIDE))
            small[name] = np.asarray(image)
    return small
