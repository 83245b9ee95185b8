"""The folder that a benchmark run writes: which files it holds and what stands in them.

```
OUT/
  run.json             `RunCard`: benchmark, protocol with its hashes, models, outputs, settings, versions
  samples.jsonl        `RunSample` a line: what was asked, pictures by path, in the order of the benchmark
  records.jsonl        `insightedit.evaluation.core.records.MetricRecord` a line: every number, controls too
  pictures/ID.png      made by `--model`: of the first seed
  pictures/ID.json     `Said`: what the editor told of that picture; none where it tells nothing
  pictures/seed-7/ID.png   of each further seed
  turns/ID-1.png       results of a session's earlier turns; turns/seed-7/ for further seeds
  judge.jsonl          every reply of a judge, where one was asked
```

Pictures that another editor made (`--results`) stay where they are, with what it told of them beside them. Paths are
relative to OUT where they lie in it, and absolute elsewhere. run.json and samples.jsonl are there before the first
record; `finished` is null until all are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from insightedit.files import write_text

T = TypeVar("T")

FORMAT = "insightedit-run-1"
RUN, SAMPLES, RECORDS, REPLIES = "run.json", "samples.jsonl", "records.jsonl", "judge.jsonl"
PICTURES, TURNS = "pictures", "turns"


@dataclass(frozen=True, kw_only=True)
class RunCard:
    """What was measured, on what, how; `run.json`."""

    run_id: str  # follows from all that decides about the numbers, so a resumed run keeps it
    method: str  # row of the table
    # `name`, `title`, `paper`, `obtain`, `licence`, `is_non_commercial`, `folder`, `split`, `version`, `samples`
    # (their number), `warnings` of the loader, and `differs`, those that make it other data
    benchmark: Mapping[str, Any]
    # `name`, `title`, `source`, `averaging`, `caveats`, `hash` (of the rules alone), and `columns`: a list of
    # {`metric_name`, `metric_variant`, `hash` (of the rules and the weights that this column was measured with: the
    # `protocol_hash` of its records), `why` (what sets strict apart from paper, or "")}
    protocol: Mapping[str, Any]
    # key in the protocol -> {`kind`, `name`, `preprocess`, `revision`, a judge also `judge`, its name}; of those that
    # were there
    models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)  # key -> why it was not there, with what to do
    # `kind` ("model" or "results"), `source` (model or folder), `ckpt_sha` (None for results), `seeds` ([None] for
    # results) and `warnings` of the pairing
    outputs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the model's calls; empty for results
    controls: tuple[str, ...] = ()  # methods of the control rows in the records, e.g. "copy_source"
    versions: Mapping[str, str] = field(default_factory=dict)  # library -> version
    started: str = ""  # ISO 8601, UTC
    finished: str | None = None  # likewise; None while it runs or after it was stopped
    seconds: float | None = None  # of the last invocation; None before its end

    @property
    def apart(self) -> tuple[str, ...]:
        """Why no number of this run may be ranked beside others: it is partial, on other data, or warned of."""
        told = self.benchmark.get("differs")
        if told is None:  # of an earlier version, which did not tell them apart
            told = [one for one in self.benchmark.get("warnings", ()) if "licence" not in one]
        unfinished = ["It is not finished: run the same command again."] if self.finished is None else []
        return (*unfinished, *told, *self.outputs.get("warnings", ()))

    def column_hashes(self) -> dict[tuple[str, str], str]:
        """(metric name, variant) -> the `protocol_hash` of its records."""
        return {(one["metric_name"], one["metric_variant"]): one["hash"] for one in self.protocol["columns"]}


@dataclass(frozen=True)
class RunSample:
    """One line of `samples.jsonl`."""

    sample_id: str  # see `BenchmarkSample`; so are the others that it shares with it
    instruction: str  # what the editor was told
    earlier: tuple[str, ...] = ()  # instructions before it, in sessions
    category: str = ""  # group
    cluster: str = ""  # what is resampled together
    source: str | None = None  # path; None where something is made from nothing
    target: str | None = None  # path; None without
    mask: str | None = None  # path; None without
    references: tuple[str, ...] = ()  # paths
    outputs: tuple[Mapping[str, Any], ...] = ()  # [{`seed`: number or None, `path`: of the picture}]


@dataclass(frozen=True, kw_only=True)
class Said:
    """What an editor told of one picture, as `ID.json` beside it; an editor may tell any part of it, or nothing."""

    words: str | None = None  # what it understood, e.g. "make the whole picture warmer"
    understood: bool | None = None  # whether it took the request for one that it can carry out
    confidence: float | None = None  # 0..1, that the picture is what was asked for
    warnings: tuple[str, ...] = ()  # reasons to look at the picture twice

    @property
    def has_doubts(self) -> bool:
        """Whether it said that the picture is not, or may not be, what was asked for."""
        return self.understood is False or bool(self.warnings)


SILENT = Said()


def write_said(said: Said, picture: Path) -> None:
    """Keep what was told beside a picture that is about to be written; nothing is kept of an editor that is silent."""
    path = picture.with_suffix(".json")
    if said == SILENT:
        path.unlink(missing_ok=True)
        return
    write_text(path, json.dumps(asdict(said), ensure_ascii=False, allow_nan=False) + "\n")


def read_said(picture: Path) -> Said:
    """What was told of a picture; a ValueError if the file beside it is damaged."""
    path = picture.with_suffix(".json")
    return _read(Said, path.read_bytes(), str(path)) if path.is_file() else SILENT


def write_run(card: RunCard, folder: Path) -> Path:
    """Write `run.json`, whole or not at all; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, **asdict(card)}, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / RUN, text + "\n")
    return folder / RUN


def read_run(folder: Path) -> RunCard:
    """Read `run.json`; a FileNotFoundError if there is none, a ValueError if it is damaged or of another kind."""
    path = _existing(folder, RUN)
    return _read(RunCard, path.read_bytes(), str(path), FORMAT)


def write_samples(samples: list[RunSample], folder: Path) -> Path:
    """Write `samples.jsonl`, whole or not at all; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(sample), ensure_ascii=False) for sample in samples]
    write_text(folder / SAMPLES, "\n".join(lines) + "\n")
    return folder / SAMPLES


def read_samples(folder: Path) -> Iterator[RunSample]:
    """Read `samples.jsonl` line by line; a FileNotFoundError if there is none, a ValueError names a damaged line."""
    path = _existing(folder, SAMPLES)
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield _read(RunSample, line, f"{path}:{number}")


def shorten(path: Path, folder: Path) -> str:
    """A path as it is written: relative to the run's folder where it lies in it; `folder / path` opens it."""
    absolute, root = path.absolute(), folder.absolute()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else str(absolute)


def _existing(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"No {name} in {folder}: name a folder that `insightedit eval BENCHMARK ... --out` wrote."
        )
    return folder / name


def _read(cls: type[T], text: bytes, where: str, form: str | None = None) -> T:
    """What a JSON object describes; `form` is what it has to say as its `format`."""
    try:
        entries = json.loads(text)
        if not isinstance(entries, dict):
            raise TypeError("no JSON object")
        if form is not None and entries.pop("format", None) != form:
            raise ValueError(f"{where} is no run of this version (format {form}): measure again.")
        if unknown := sorted(set(entries) - {one.name for one in fields(cls)}):  # type: ignore[arg-type]
            raise ValueError(f"{where} has entries of another version ({', '.join(unknown)}): measure again.")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in entries.items()})
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"{where} is damaged ({error}): measure again.") from error
