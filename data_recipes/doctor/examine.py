"""Reads a data set once, record by record, and gathers what is wrong. What grows is some 400 bytes a pair."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from data_recipes.doctor import pixels, wordings
from data_recipes.doctor.findings import FAULTS, OF_REASON, Diagnosis, Finding, Shown
from data_recipes.doctor.signatures import Signatures, named_test_set, near, signature, signatures_of
from data_recipes.formats.reading import guess_kind, splits_of
from data_recipes.runner.inputs import InputConfig, open_input
from data_recipes.runner.records import Record, Rejected
from insightedit.datasets.advancededit import step_files
from insightedit.datasets.columns import ColumnsError
from insightedit.datasets.reading import ReadError, load_json
from insightedit.datasets.table_files import ENDINGS, data_files, is_arrow

SHOWN = 8  # pairs of each fault that are kept to be looked at
SIDE = 256  # pixels of their longer side
MANY = 20  # pairs with a direction, from which the set as a whole is judged
MOSTLY = 0.7  # of them, the other way round
MADE = re.compile(r"(.+)_\d+_.+")  # <photo>_<number>_<what was done>.png


@dataclass
class _Seen:
    """What is remembered of the pairs of one split."""

    pictures: Signatures = field(default_factory=Signatures)
    pairs: dict[str, list[tuple[str, np.ndarray]]] = field(default_factory=lambda: defaultdict(list))  # by their words


@dataclass
class Doctor:
    """Looks at one data set, record by record."""

    diagnosis: Diagnosis  # filled while records pass
    tests: dict[str, Signatures] = field(default_factory=dict)  # of test sets
    directions: list[float] = field(default_factory=list)  # of the pairs that have one, above 0 as it should be
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _undirected: int = 0

    def take(self, outcome: Record | Rejected, file: str, split: str) -> None:
        """Look at one record."""
        self.diagnosis.splits[split] = self.diagnosis.splits.get(split, 0) + 1
        if isinstance(outcome, Rejected):
            fault = OF_REASON.get(outcome.reason, "incomplete")
            self.diagnosis.findings.append(Finding(fault, outcome.key, outcome.detail, file, split))
            return
        told = outcome.notes.get("task")
        task = told if isinstance(told, str) else outcome.task  # as the data set calls it
        found = [*self._pictures(outcome, task), *self._known(outcome, split)]
        for text in outcome.plain_wordings:
            if why := wordings.contradiction(text, task):
                found.insert(0, ("wrong_task", f"{text!r:.80}: {why}"))
                break
        for fault, detail in found:
            finding = Finding(fault, outcome.key, detail, file, split)
            self.diagnosis.findings.append(finding)
            if outcome.target is None or sum(one.finding.fault == fault for one in self.diagnosis.shown) >= SHOWN:
                continue
            mask = None if outcome.mask is None else np.stack([outcome.mask.astype(np.uint8) * 255] * 3, axis=2)
            small = {}
            for name, picture in {"source": outcome.source, "target": outcome.target, "mask": mask}.items():
                if picture is not None:
                    image = Image.fromarray(picture)
                    image.thumbnail((SIDE, SIDE))
                    small[name] = np.asarray(image)
            self.diagnosis.shown.append(Shown(finding, small, next(iter(outcome.wordings), "")))

    def _pictures(self, record: Record, task: str) -> list[tuple[str, str]]:
        """(fault, detail) of the pictures of one pair."""
        source, target, mask = record.source, record.target, record.mask
        if target is None:
            return [("incomplete", "it has no target picture")]
        pictures = {"source": source, "target": target, "mask": mask}
        sizes = {name: one.shape[1::-1] for name, one in pictures.items() if one is not None}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name} {width} x {height}" for name, (width, height) in sizes.items())
            forms = {round(width / height, 2) for width, height in sizes.values()}
            return [("resized", told + (", of other proportions" if len(forms) > 1 else ""))]
        if source is None:
            return []
        if pixels.is_identical(source, target):
            return [("identical", "")]
        if (shift := pixels.shift_between(source, target)) is not None:
            across = f"{abs(shift.right)} px {'right' if shift.right > 0 else 'left'}" if shift.right else ""
            along = f"{abs(shift.down)} px {'down' if shift.down > 0 else 'up'}" if shift.down else ""
            by = " and ".join(filter(None, (across, along)))
            return [("misaligned", f"by {by}: then {100 * shift.match:.0f} % of the structure fits")]
        fault = None if mask is None else pixels.mask_fault(mask, source, target)
        return [*([fault] if fault else []), *self._direction(record, task, source, target)]

    def _direction(self, record: Record, task: str, source: np.ndarray, target: np.ndarray) -> list[tuple[str, str]]:
        """Whether the pair goes the way its instruction says."""
        text = next(iter(record.plain_wordings), "")
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
        made = {
            role: found
            for role, picture in (("source", record.source), ("target", record.target))
            if picture is not None and (found := signature(picture)) is not None
        }
        found = []
        for name, test in self.tests.items():
            hit = next((hit for one in made.values() if (hit := test.find(one)) is not None), None)
            found += [("test_leak", f"{name}: {hit}")] if hit is not None else []
        for role, one in made.items():
            seen.pictures.add(one, f"{record.key} ({role})")
        if "target" not in made or ("source" not in made and record.source is not None):
            return found
        # a duplicate has nearly the same pictures and the same words
        words = " ".join(next(iter(record.plain_wordings), "").lower().split())
        alike = seen.pairs[words]
        own = np.stack(list(made.values()))
        for key, other in alike:
            if len(other) == len(own) and all(near(a, b[None])[0] for a, b in zip(own, other, strict=True)):
                return [*found, ("duplicate", f"of {key}")]
        alike.append((record.key, own))
        return found

    def finish(self) -> None:
        """What only the whole set tells: leaks between splits, and whether all pairs go the wrong way."""
        note = self.diagnosis.findings.append
        for one, other in combinations(self._seen, 2):
            mine, theirs = sorted((one, other), key=lambda split: len(self._seen[split].pictures))
            pictures, leaked = self._seen[mine].pictures, set()
            for number, name in enumerate(pictures.names):
                key, hit = name.rpartition(" ")[0], self._seen[theirs].pictures.find(pictures.all[number])
                if hit is not None and key not in leaked:
                    leaked.add(key)
                    note(Finding("split_leak", key, f"{mine} and {theirs}: {hit}", split=mine))
        backwards = sum(way < 0 for way in self.directions)
        if len(self.directions) >= MANY and backwards > MOSTLY * len(self.directions):
            told = f"{backwards} of {len(self.directions)} pairs that have a direction go the other way"
            note(Finding("swapped", "the whole set", told))
        if self._undirected:
            self.diagnosis.unchecked.append(
                f"Whether source and target are swapped cannot be told from the pictures of {self._undirected} pairs: "
                "their edits have no direction that shows (a replacement looks alike both ways), or hardly show."
            )


def examine(
    path: Path,
    *,
    kind: str | None = None,  # of layout, one of `runner.inputs.INPUTS`; told by the files if not given
    splits: Sequence[str] = (),  # to look at; all that there are if none is named
    against: Sequence[str] = (),  # test sets, each a folder or NAME=FOLDER
    count: int | None = None,  # so many records of each split at most
    images: str | None = None,  # folder that paths in tables and lists start from; None for their own
    columns: Mapping[str, str] | None = None,  # role -> column, where a table has names of its own
    progress: Callable[[int, int], object] = lambda done, total: None,  # as far as they are known
) -> Diagnosis:
    """Look at a data set, a file or folder, changing nothing; ValueError if its layout is unknown or nothing opens."""
    started = time.perf_counter()
    is_chosen = bool(kind or splits) and path.is_file()  # then what cannot be opened was called by a wrong name
    kind = kind or guess_kind(path)
    diagnosis = Diagnosis(str(path), kind)
    doctor = Doctor(diagnosis)
    for word in against:
        name, folder = named_test_set(word)
        doctor.tests[name] = signatures_of(folder)
        diagnosis.compared[name] = len(doctor.tests[name])
    if kind == "advancededit":
        diagnosis.findings += json_faults(path)
    done = total = 0
    for split in splits or splits_of(kind, path):
        left = count
        whole = InputConfig(kind, str(path), split, max_side=None, images=images, columns=dict(columns or {}))
        # one input for each file of a table, so that a damaged one does not hide the others; a file is one split
        is_whole = kind not in ENDINGS or path.is_file() or is_arrow(path)
        for file in [path] if is_whole else data_files(kind, path, split):
            config = whole if is_whole else replace(whole, path=str(file), split="train")
            try:
                opened = open_input(config)
            except ColumnsError:
                raise
            except ValueError as error:
                if is_chosen or not file.is_file():
                    raise
                diagnosis.findings.append(Finding("unreadable", file.name, str(error), str(file), split))
                continue
            size = len(opened) if left is None else min(left, len(opened))
            total += size
            for number in range(size):
                doctor.take(opened[number], str(file), split)
                done += 1
                progress(done, total)
            left = None if left is None else left - size
    if not diagnosis.records and not diagnosis.findings:
        raise ValueError(f"{path} holds no records of kind {kind}: name its layout with --kind.")
    doctor.finish()
    diagnosis.findings.sort(key=lambda one: list(FAULTS).index(one.fault))
    diagnosis.seconds = time.perf_counter() - started
    return diagnosis


def json_faults(root: Path) -> Iterator[Finding]:
    """JSON files of AdvancedEdit's steps that are not valid, and entries whose names contradict their task.

    Made pictures are called after their photo: a photo as a removal's target or an addition's source is swapped.
    """
    for path, step in step_files(root):
        if step is None:
            continue
        name = path.relative_to(root).as_posix()
        try:
            table = load_json(path)
        except ReadError as error:
            if step < 3:  # later ones are told with their records
                yield Finding("not_json", name, error.detail, name)
            continue
        for key, entry in table.items() if step >= 3 and isinstance(table, dict) else ():
            if not isinstance(entry, dict):
                continue
            origin, target = (
                PurePosixPath(str(entry.get(f"{end}_img_path") or "").replace("\\", "/"))
                for end in ("origin", "target")
            )
            of_origin, of_target = MADE.fullmatch(origin.stem), MADE.fullmatch(target.stem)
            begins = {  # what the pair that the task's name contradicts begins with
                "remove": "made picture" if of_origin and of_origin[1] == target.stem else "",
                "add": "photo" if of_target and of_target[1] == origin.stem else "",
            }
            task = str(entry.get("task_type"))
            if begins.get(task):
                told = f"{task} starts from the {begins[task]}: {origin.name} -> {target.name}"
                yield Finding("swapped", f"{name}, entry {key}", told, name)
