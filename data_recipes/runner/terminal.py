"""What a run shows: bars while it goes, tables at the end."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from data_recipes.runner.dry_run import Estimate
from data_recipes.runner.progress import ProgressReporter
from data_recipes.runner.worker import READ

EVERY = 10.0  # seconds between lines, where nobody watches
WIDTH_OF_FILES = 120


class ProgressLines(ProgressReporter):
    """Tells a log file how a run goes: a line every ten seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.inputs = self.units = self.done = self.pairs = self.rejected = 0
        self.last = time.monotonic()

    @property
    def results(self) -> str:
        """What came of the units so far."""
        return f"{self.pairs:,} pairs, {self.rejected:,} rejected"

    def begin(self, inputs: int, units: int, steps: Sequence[str]) -> None:
        """See `ProgressReporter`."""
        self.inputs, self.units = inputs, units

    def kept(self, inputs: int, counts: Mapping[str, Any]) -> None:
        """See `ProgressReporter`."""
        self.count(counts)

    def unit_done(self, report: Mapping[str, Any]) -> None:
        """See `ProgressReporter`."""
        if "counts" in report:
            self.count(report["counts"])
        if time.monotonic() - self.last >= EVERY:
            self.last = time.monotonic()
            self.tell()

    def tell(self) -> None:
        """Say how far it is."""
        self.say(f"{self.done} of {self.units} units: {self.results}", "dim")

    def worker_died(self, unit: int, why: str) -> None:
        """See `ProgressReporter`."""
        self.say(f"a worker was lost ({why}); unit {unit} is given to another one", "yellow")

    def stopping(self) -> None:
        """See `ProgressReporter`."""
        self.say("stopping after the units in work; once more ends them", "yellow")

    def count(self, counts: Mapping[str, Any]) -> None:
        """Add a unit's numbers."""
        self.done += 1
        self.pairs += counts["pairs"]
        self.rejected += sum(sum(found.values()) for found in counts["rejects_by_reason"].values())

    def say(self, text: str, style: str) -> None:
        """A line of its own."""
        self.console.print(text, style=style, highlight=False)


class ProgressBars(ProgressLines):
    """Shows how a run goes: a bar for the inputs, a count for each step, and rejects as units end."""

    def __init__(self, console: Console, progress: Progress) -> None:
        super().__init__(console)
        self.progress = progress
        self.rows: dict[str, Any] = {}
        self.reasons: dict[str, Counter[str]] = defaultdict(Counter)

    def begin(self, inputs: int, units: int, steps: Sequence[str]) -> None:
        """See `ProgressReporter`."""
        super().begin(inputs, units, steps)
        self.rows[READ] = self.progress.add_task("inputs", total=inputs, told="")
        self.rows |= {name: self.progress.add_task(f"  {name}", total=None, told="") for name in steps}

    def kept(self, inputs: int, counts: Mapping[str, Any]) -> None:
        """See `ProgressReporter`."""
        self.progress.advance(self.rows[READ], inputs)
        super().kept(inputs, counts)

    def passed(self, step: str, records: int) -> None:
        """See `ProgressReporter`."""
        if step in self.rows:
            self.progress.advance(self.rows[step], records)

    def tell(self) -> None:
        """The bars tell it."""

    def count(self, counts: Mapping[str, Any]) -> None:
        """Add a unit's numbers."""
        super().count(counts)
        self.progress.update(self.rows[READ], told=f"{self.done}/{self.units} units, {self.results}")
        for step, found in counts["rejects_by_reason"].items():
            self.reasons[step].update(found)
            if step in self.rows and step != READ:
                most, number = self.reasons[step].most_common(1)[0]
                told = f"{self.reasons[step].total():,} rejected, {most}: {number:,}"
                self.progress.update(self.rows[step], told=told)


@contextmanager
def watching() -> Iterator[ProgressReporter]:
    """Bars on the error stream where somebody watches it, else lines."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield ProgressLines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f}"),
        TextColumn("[dim]{task.fields[told]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield ProgressBars(console, progress)


def output_console() -> Console:
    """Standard output as tables want it."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES, highlight=False)


def show_models(backends: Mapping[str, Any]) -> None:
    """Tell which models will be loaded before the first takes its minutes; `backends` is the config's section."""
    users: dict[str, list[str]] = {}
    for name, entry in backends.items():
        if "model" in entry and entry.get("kind") != "endpoint":
            users.setdefault(str(entry["model"]), []).append(name)
    if users:
        told = "; ".join(f"{model} ({', '.join(names)})" for model, names in users.items())
        output_console().print(
            f"Loads {told}. What is not on this machine is downloaded first.", highlight=False, markup=False
        )


def show_result(manifest: Mapping[str, Any], out: str, usage: Mapping[str, Mapping[str, float]]) -> None:
    """What a run has made, what it rejected and why, and where to look."""
    console = output_console()
    size = sum(shard["bytes"] for shard in manifest["shards"]) / 1e6
    console.print(
        f"{manifest['pairs']:,} pairs of {manifest['inputs']:,} inputs in {len(manifest['shards'])} files, "
        f"{size:.1f} MB, in {out}"
    )
    if manifest["tasks"]:
        console.print("  " + ", ".join(f"{name} {number:,}" for name, number in manifest["tasks"].items()))
    if manifest["rejects"]:
        table = Table("step", "rejected because", title="Rejected", title_justify="left", box=None)
        table.add_column("records", justify="right")
        for step, reasons in manifest["rejects"].items():
            for reason, number in sorted(reasons.items(), key=lambda one: -one[1]):
                table.add_row(step, reason, f"{number:,}")
        console.print(table)
    for name, used in usage.items():
        console.print(f"{name}: {_used(used)}")
    console.print(f"Look at {out}/statistics.html and {out}/README.md; each reject is in {out}/rejected.jsonl")


def show_estimate(estimate: Estimate, workers: int) -> None:
    """What a run would take."""
    console = output_console()
    console.print(
        f"{estimate.sampled} of {estimate.inputs:,} inputs gave {estimate.pairs} pairs; nothing was written."
    )
    table = Table("step", box=None)
    for name in ("records", "s a record", "rejected"):
        table.add_column(name, justify="right")
    table.add_column("because")
    for step in estimate.steps:
        seconds = "–" if step.seconds is None else f"{step.seconds:.4f}"
        share = f"{step.rejected / step.records:.0%}" if step.records else "–"
        table.add_row(step.name, str(step.records), seconds, share, "; ".join(step.reasons))
    console.print(table)
    together = f"{workers} worker" + "s" * (workers > 1)
    console.print(
        f"Whole run with {together}: about {_duration(estimate.total)}, {estimate.bytes / 1e6:,.0f} MB, "
        f"{estimate.pairs * estimate.inputs / estimate.sampled:,.0f} pairs; loading models took "
        f"{_duration(estimate.loading)}."
    )
    for name, used in estimate.usage.items():
        console.print(f"{name}: about {_used(used)}")


def nothing_came(estimate: Estimate) -> str:
    """Why a dry run gave no pair, as a sentence."""
    told = [
        f"{step.name} rejected {step.rejected} of {step.records} ({'; '.join(step.reasons[:3])})"
        for step in estimate.steps
        if step.rejected
    ]
    return (
        f"{estimate.sampled} inputs were tried and gave no pair: {', '.join(told) or 'no step gave a reason'}. Put "
        "that right before the whole run."
    )


def _used(used: Mapping[str, float]) -> str:
    told = [f"{used.get('calls', 0):,.0f} questions, {used.get('asked', 0):,.0f} of them asked anew"]
    tokens = used.get("input_tokens", 0), used.get("output_tokens", 0)
    if any(tokens):
        told.append(f"{tokens[0]:,.0f} tokens in, {tokens[1]:,.0f} out")
    if used.get("cost"):
        told.append(f"cost {used['cost']:,.2f}")
    return ", ".join(told)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
