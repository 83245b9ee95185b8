"""What every benchmark gives: samples with their pictures by path, who published it, what is wrong with a folder."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from insightedit.datasets.notes import LOSSY, FolderError, Notes, as_id, some

BenchmarkError = FolderError  # a folder that does not hold what its benchmark publishes


@dataclass(frozen=True)
class BenchmarkSample:
    """One edit to be made and judged. Pictures are paths: they are opened one at a time, so memory stays flat."""

    sample_id: str  # unique in the benchmark, the stem of result files (`<sample_id>.png`); no separators
    instruction: str  # what the editor is told
    category: str = ""  # group of the published tables, e.g. "5-Multiple-Objects"; "" without groups
    source: Path | None = None  # picture to be edited; None where something is made from nothing
    target: Path | None = None  # ground truth; None where there is none
    mask: Path | None = None  # region to be edited, white; None where there is none
    references: tuple[Path, ...] = ()  # pictures within the instruction or of the subject, which the editor is given
    # real pictures of the subject that its likeness is measured against; empty = none is measured
    subjects: tuple[Path, ...] = ()
    source_caption: str = ""  # global caption of the source, "" without
    target_caption: str = ""  # global caption of the target, "" without
    # caption of what was edited (MagicBrush's local descriptions, Reason-Edit's label), "" without
    local_caption: str = ""
    cluster: str = ""  # what is resampled together in the bootstrap: source picture or session; "" = the sample itself
    turn: int = 1  # 1-based turn in its session
    extra: dict[str, str] = field(default_factory=dict)  # what else the layout says, by its own names
    # instructions to be carried out before `instruction`, each on the result of the one before; empty where one edit
    # is all
    earlier: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()  # names of those that alone are measured on it; empty = all of the protocol's

    @property
    def pictures(self) -> list[tuple[str, Path]]:
        """(role, path) of all pictures, in a fixed order."""
        roles = [("source", self.source), ("target", self.target), ("mask", self.mask)]
        roles += [("reference", path) for path in self.references] + [("subject", path) for path in self.subjects]
        return [(role, path) for role, path in roles if path is not None]


@dataclass(frozen=True)
class Card:
    """Where a benchmark comes from."""

    name: str  # as on the command line, e.g. "reason-edit"
    title: str  # as in the publications
    paper: str  # who published it, and where
    obtain: str  # how a user gets the files, in one sentence
    licence: str  # of the files; "none stated" where none is
    layout: str  # the expected tree, as it is shown in errors and `--help`
    # published number of samples by group, "all" = in total; only what is published; of the first split
    counts: dict[str, int] = field(default_factory=dict)
    splits: tuple[str, ...] = ()  # what `split` may be, the default first; empty where there is one only

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-NC" in self.licence or "non-commercial" in self.licence.lower()


@dataclass(frozen=True)
class Benchmark:
    """A folder that was read and checked."""

    card: Card  # where it comes from
    folder: Path  # what was read
    samples: tuple[BenchmarkSample, ...]  # in a fixed order, whatever the file system says
    # what is odd but does not stop the measurement, as sentences (a subset of the published samples, equal captions,
    # JPEG masks ...)
    warnings: tuple[str, ...]
    version: str  # first 16 hex digits of a SHA-256 over ids, instructions and picture sizes in bytes
    split: str = ""  # which of the card's splits it is; "" where there is one only
    # those of the warnings that tell of other data than the published: no number is comparable then
    differs: tuple[str, ...] = ()
    # what opens a sample's pictures; None for `insightedit.evaluation.core.measure.SampleView`
    view: Callable[..., Any] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[BenchmarkSample]:
        return iter(self.samples)


class Loader(Protocol):
    """What a layout's module offers."""

    CARD: Card

    def load(self, folder: Path, *, split: str | None = None) -> Benchmark:
        """Read and check a folder as the user got it, or raise a `BenchmarkError`; `split` None is the card's first."""
        ...


def reads(
    card: Card, published: Mapping[str, Mapping[str, int]] | None = None
) -> Callable[[Callable[[Notes, str], Sequence[BenchmarkSample]]], Callable[..., Benchmark]]:
    """Make of a function that reads a folder's samples, (notes, split) -> samples, the `load` of a `Loader`.

    `published` is split -> samples by category of a whole copy, "all" = in total; the card's counts by default.
    """

    def decorated(read: Callable[[Notes, str], Sequence[BenchmarkSample]]) -> Callable[..., Benchmark]:
        def load(folder: Path, *, split: str | None = None) -> Benchmark:
            if split is not None and split not in card.splits:
                known = ", ".join(card.splits)
                choice = f"choose one of {known}" if known else "it has one only, leave it out"
                raise ValueError(f"{card.title} has no split {split!r}: {choice}.")
            chosen = split or next(iter(card.splits), "")
            notes = Notes(folder, card.title, card.obtain)
            counts = (published or {}).get(chosen, card.counts)
            return finish(card, notes, read(notes, chosen), published=counts, split=chosen)

        load.__doc__ = read.__doc__
        return load

    return decorated


def finish(
    card: Card, notes: Notes, samples: Sequence[BenchmarkSample], *, published: Mapping[str, int], split: str = ""
) -> Benchmark:
    """Check every picture and the counts (`published`: by category, "all" = in total), and give the benchmark."""
    if not samples and not notes.faults:
        notes.fault("It holds no samples.")
    repeated = [name for name, number in Counter(sample.sample_id for sample in samples).items() if number > 1]
    if repeated:
        notes.fault(f"Ids occur more than once ({some(repeated)}): each names one result file.")
    if bad := [sample.sample_id for sample in samples if sample.sample_id != as_id(sample.sample_id)]:
        notes.fault(f"Ids cannot be names of files ({some(bad)}): use letters, digits, `_`, `-` and dots.")
    if silent := [one.sample_id for one in samples if not all(map(str.strip, (*one.earlier, one.instruction)))]:
        notes.fault(f"Samples have no instruction ({some(silent)}).")
    sizes = notes.check_pictures([picture for sample in samples for picture in sample.pictures])
    notes.stop()
    if card.is_non_commercial:
        notes.warn(f"The licence excludes commercial use: {card.licence}.")
    for role, remark in (("target", "the protocol resizes them"), ("mask", "they are stretched to the source's")):
        odd = [
            sample.sample_id
            for sample in samples
            if sample.source is not None
            and (other := getattr(sample, role)) is not None
            and sizes[sample.source] != sizes[other]
        ]
        if odd:
            notes.warn(f"{len(odd)} {role}s have another size than their sources ({some(odd)}): {remark}.")
    lossy = {sample.mask for sample in samples if sample.mask and sample.mask.suffix.lower() in LOSSY}
    if lossy:
        notes.warn(
            f"{len(lossy)} masks are JPEG or WebP: their edges are soft and grey pixels surround the region, so the "
            "`paper` box is larger than the `strict` one."
        )
    counts, total = Counter(sample.category for sample in samples), published.get("all", len(samples))
    if len(samples) < total:
        notes.warn(
            f"{len(samples)} of the {total} published samples are here: numbers do not compare with published ones.",
            differs=True,
        )
    elif len(samples) > total:
        notes.warn(f"{len(samples)} samples are here, {total} are published: this is another edition.", differs=True)
    strange = {group: number for group, number in published.items() if group != "all" and counts[group] != number}
    if told := [f"{group} {counts[group]} of {number}" for group, number in strange.items()]:
        notes.warn(f"Groups differ from the published counts: {some(told, 12)}.", differs=True)
    digest = hashlib.sha256()
    for sample in samples:
        bytes_of = [path.stat().st_size for _, path in sample.pictures]
        digest.update(json.dumps([sample.sample_id, [*sample.earlier, sample.instruction], bytes_of]).encode())
    facts = (tuple(notes.warnings), digest.hexdigest()[:16], split, tuple(notes.differs))
    return Benchmark(card, notes.folder, tuple(samples), *facts)
