"""What every benchmark gives: samples with their pictures by path, who published it, what is wrong with a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class BenchmarkSample:
    """One edit to be made and judged. Pictures are paths: they are opened one at a time, so memory stays flat.

    Attributes:
        sample_id: unique in the benchmark, the stem of result files (`<sample_id>.png`); no separators.
        instruction: what the editor is told.
        category: group of the published tables, e.g. "5-Multiple-Objects"; "" without groups.
        source: picture to be edited; None where something is made from nothing.
        target: ground truth; None where there is none.
        mask: region to be edited, white; None where there is none.
        references: pictures within the instruction or of the subject, which the editor is given.
        subjects: real pictures of the subject that its likeness is measured against; empty = none is measured.
        source_caption: global caption of the source, "" without.
        target_caption: global caption of the target, "" without.
        local_caption: caption of what was edited (MagicBrush's local descriptions, Reason-Edit's label), "" without.
        cluster: what is resampled together in the bootstrap: source picture or session; "" = the sample itself.
        turn: 1-based turn in its session.
        extra: what else the layout says, by its own names.
        earlier: instructions to be carried out before `instruction`, each on the result of the one before; empty
            where one edit is all.
        metrics: names of those that alone are measured on it; empty = all of the protocol's.
    """

    sample_id: str
    instruction: str
    category: str = ""
    source: Path | None = None
    target: Path | None = None
    mask: Path | None = None
    references: tuple[Path, ...] = ()
    subjects: tuple[Path, ...] = ()
    source_caption: str = ""
    target_caption: str = ""
    local_caption: str = ""
    cluster: str = ""
    turn: int = 1
    extra: dict[str, str] = field(default_factory=dict)
    earlier: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """Where a benchmark comes from.

    Attributes:
        name: as on the command line, e.g. "reason-edit".
        title: as in the publications.
        paper: who published it, and where.
        obtain: how a user gets the files, in one sentence.
        licence: of the files; "none stated" where none is.
        layout: the expected tree, as it is shown in errors and `--help`.
        counts: published number of samples by group, "all" = in total; only what is published; of the first split.
        splits: what `split` may be, the default first; empty where there is one only.
    """

    name: str
    title: str
    paper: str
    obtain: str
    licence: str
    layout: str
    counts: dict[str, int] = field(default_factory=dict)
    splits: tuple[str, ...] = ()

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-NC" in self.licence or "non-commercial" in self.licence.lower()


def check_split(card: Card, split: str | None, known: Sequence[str] = ()) -> str:
    """The split to read, the first known one where none is named; "" where there is one only.

    Raises:
        ValueError: if there is no such split.
    """
    known = known or card.splits
    if split is not None and split not in known:
        choice = f"choose one of {', '.join(known)}" if known else "it has one only, leave it out"
        raise ValueError(f"{card.title} has no split {split!r}: {choice}.")
    return split or next(iter(known), "")


def non_commercial(card: Card) -> str:
    """The warning of benchmarks whose licence restricts their use."""
    return f"The licence excludes commercial use: {card.licence}."


class BenchmarkError(ValueError):
    """A folder that does not hold what its benchmark publishes; `faults` are sentences for the user."""

    def __init__(self, card: Card, folder: Path, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        shown = " ".join(self.faults[:5])
        more = f" And {len(self.faults) - 5} more." if len(self.faults) > 5 else ""
        super().__init__(f"{folder} is not a good copy of {card.title}: {shown}{more} {card.obtain}")


@dataclass(frozen=True)
class Benchmark:
    """A folder that was read and checked.

    Attributes:
        card: where it comes from.
        folder: what was read.
        samples: in a fixed order, whatever the file system says.
        warnings: what is odd but does not stop the measurement, as sentences (a subset of the published samples,
            equal captions, JPEG masks ...).
        version: first 16 hex digits of a SHA-256 over ids, instructions and picture sizes in bytes.
        split: which of the card's splits it is; "" where there is one only.
        differs: those of the warnings that tell of other data than the published: no number is comparable then.
        view: what opens a sample's pictures; None for `insightedit.evaluation.core.measure.SampleView`.
    """

    card: Card
    folder: Path
    samples: tuple[BenchmarkSample, ...]
    warnings: tuple[str, ...]
    version: str
    split: str = ""
    differs: tuple[str, ...] = ()
    view: Callable[..., Any] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[BenchmarkSample]:
        return iter(self.samples)


class Loader(Protocol):
    """What a layout's module offers: `CARD`, and `load`."""

    CARD: Card

    def load(self, folder: Path, *, split: str | None = None) -> Benchmark:
        """Read and check a folder.

        Args:
            folder: as the user got it.
            split: one of the card's splits; None = the first.

        Raises:
            BenchmarkError: naming all faults.
            ValueError: for an unknown split.
        """
        ...
