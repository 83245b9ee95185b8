"""What a recipe did on scenes, against the truth: `python -m data_recipes.oracle.report OUT`.

Runs with planted faults end with it. Masks are the objects' own ones, as the step `pairs` keeps them in
the notes, against the pixels that show the object. A removal or an addition is exact if its painted picture is the
scene drawn without the object, pixel by pixel. A planted fault is caught if its pair is refused or its wording taken
out; a good pair is lost if `quality` refuses it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.oracle.faults import KINDS, MEASURED, is_caught, planted
from data_recipes.oracle.world import world_of
from data_recipes.runner.inputs import InputConfig
from data_recipes.runner.records import Record, Rejected
from insightedit.console import one_sentence_errors
from insightedit.datasets.segmentation import decode_mask


@dataclass
class HitRate:
    """How many of how many."""

    hits: int = 0
    of: int = 0

    def add(self, hits: int, of: int = 1) -> None:
        """Count some, one by default."""
        self.hits += hits
        self.of += of

    @property
    def share(self) -> float | None:
        """None of nothing."""
        return self.hits / self.of if self.of else None


@dataclass
class OracleReport:
    """Everything that is counted."""

    good: HitRate = field(default_factory=HitRate)  # pairs without a fault that reached the measured step; hits: lost
    wordings: HitRate = field(default_factory=HitRate)  # of the good pairs that passed; hits: taken out
    caught: dict[str, HitRate] = field(default_factory=dict)  # kind -> planted faults; hits: caught
    passed: list[str] = field(default_factory=list)  # keys of pairs whose fault was not caught
    lost: dict[str, str] = field(default_factory=dict)  # keys of good pairs that were refused -> why
    exact: HitRate = field(default_factory=HitRate)  # good removals and additions that passed; hits: exact ones
    precision: HitRate = field(default_factory=HitRate)  # pixels of masks; hits: those that show the object
    recall: HitRate = field(default_factory=HitRate)  # pixels that show objects; hits: those in the mask

    @property
    def all_caught(self) -> HitRate:
        """Over all kinds."""
        rates = self.caught.values()
        return HitRate(sum(one.hits for one in rates), sum(one.of for one in rates))

    def take(self, outcome: Record | Rejected) -> None:
        """Count what became of a pair; what was refused before the measured step is left out."""
        if isinstance(outcome, Rejected) and outcome.step != MEASURED:
            return
        if kind := planted(outcome):
            is_out = is_caught(outcome)
            self.caught.setdefault(kind, HitRate()).add(is_out)
            self.passed += [] if is_out else [f"{outcome.key} ({kind})"]
            return
        self.good.add(isinstance(outcome, Rejected))
        if isinstance(outcome, Rejected):
            self.lost[outcome.key] = f"{outcome.reason}: {outcome.detail}"
            return
        refused = len(outcome.notes.get("wordings_refused", ()))
        self.wordings.add(refused, refused + len(outcome.wordings))
        self._compare(outcome)

    def _compare(self, record: Record) -> None:
        """Mask and pixels of a good pair against the scene."""
        world = world_of(record.truth)
        back = bool(record.notes.get("swapped"))
        found = world.find(record.class_target if back else record.class_origin)
        if len(found) != 1:
            return
        if record.task in ("remove", "add"):
            painted = record.source if back else record.target
            drawn = world.draw(world.without(*found))
            self.exact.add(painted is not None and np.array_equal(painted, drawn))
        mask = decode_mask(record.notes.get("segmentation"))
        if mask is not None and not back:
            true = world.masks[found[0]]
            shared = int((mask & true).sum())
            self.precision.add(shared, int(mask.sum()))
            self.recall.add(shared, int(true.sum()))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        shares = {
            "faults_caught": self.all_caught.share,
            "good_pairs_lost": self.good.share,
            "good_wordings_lost": self.wordings.share,
            "exact_removals": self.exact.share,
            "mask_precision": self.precision.share,
            "mask_recall": self.recall.share,
        }
        return {**shares, **asdict(self)}

    def text(self) -> str:
        """For people."""
        rates = {
            "planted faults caught": self.all_caught,
            **{f"  {kind}": self.caught[kind] for kind in KINDS if kind in self.caught},
            "good pairs lost": self.good,
            "good wordings lost": self.wordings,
            "removals and additions that are exact": self.exact,
            "mask precision, pixels": self.precision,
            "mask recall, pixels": self.recall,
        }
        lines = []
        for name, rate in rates.items():
            share = "none" if rate.share is None else f"{rate.share:.2%}"
            lines.append(f"{name:40} {share:>8}  ({rate.hits} of {rate.of})")
        reasons = Counter(why.partition(":")[0] for why in self.lost.values())
        lines += [f"  lost because: {why} ({count})" for why, count in reasons.most_common()]
        return "\n".join([*lines, *(f"  not caught: {key}" for key in self.passed)])


def measure(outcomes: Iterable[Record | Rejected]) -> OracleReport:
    """Count what became of every pair of a run."""
    report = OracleReport()
    for outcome in outcomes:
        report.take(outcome)
    return report


def measure_run(folder: Path) -> OracleReport:
    """The report of a finished run's folder; ValueError if it is no finished run."""
    from data_recipes.formats.reading import open_pairs

    manifest, refused = folder / "manifest.json", folder / "rejected.jsonl"
    if not manifest.is_file() or not refused.is_file():
        raise ValueError(f"{folder} holds no finished run of a recipe: name the folder that was given with --out.")
    told = json.loads(manifest.read_text(encoding="utf-8"))
    output = told["settings"]["output"]
    config = InputConfig(kind=output["format"], path=str(folder), split=output["split"], max_side=None)
    pairs = open_pairs(config) if told["pairs"] else ()
    rows = map(json.loads, refused.read_text(encoding="utf-8").splitlines())
    return measure(chain((pairs[number] for number in range(len(pairs))), (Rejected(**row) for row in rows)))


def write_report(folder: Path) -> OracleReport:
    """Measure a finished run (ValueError if it is none) and keep what was counted beside it, in `oracle.json`."""
    report = measure_run(folder)
    (folder / "oracle.json").write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    return report


def main(arguments: list[str] | None = None) -> int:
    """Write the report of a run's folder and show what it says."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        sys.stderr.write("usage: python -m data_recipes.oracle.report OUT\n")
        return 2
    with one_sentence_errors():
        sys.stdout.write(write_report(Path(given[0])).text() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
