"""One measured number: the flat record that every aggregate, interval and table is derived from."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from insightedit.files import drop_cut_line, write_atomically

VARIANTS = ("paper", "strict")  # parity with the publication, and what we hold to be right
CONTROL_ROWS = (
    *("copy_source", "empty_backdrop", "oracle", "wrong_object", "wrong_subject", "copy_reference", "blank_canvas"),
    *("oracle_tint", "autoencoder_source", "autoencoder_backdrop", "autoencoder_target"),
)
PHOTO_ROWS = ("copy_source", "oracle", "transferred", "added_change", "upsampled")  # of photographs
CONTROLS = tuple(dict.fromkeys((*CONTROL_ROWS, *PHOTO_ROWS, "no_op", "oracle_target", "constant_tint")))

_NAMES = ("run_id", "method", "bench", "bench_version", "sample_id", "metric_name", "protocol_hash")
_TEXTS = ("category", "sampler", "cluster")
_HEX = {"ckpt_sha": (7, 64), "out_png_sha256": (64, 64), "protocol_hash": (8, 64)}  # field -> digits, least and most
FAILURES = {
    "F1": "no edit",
    "F2": "wrong object",
    "F3": "right object, wrong attribute or class",
    "F4": "partial edit",
    "F5": "over-edit or leak",
    "F6": "wrong place or size",
    "F7": "wrong count, extra or duplicate objects",
    "F8": "removal residue or poor fill",
    "F9": "subject identity lost",
    "F10": "artefact, blur, broken geometry",
    "F11": "global colour or tone drift",
    "F12": "reasoning misread",
    "F13": "crop or alignment shift",
    "F14": "ambiguous or bad sample",
}
"""The ways in which an edit fails, for people, judges and exact scenes alike."""


@dataclass(frozen=True, kw_only=True)
class MetricRecord:
    """One metric of one output.

    Raises:
        ValueError: if a field is empty, malformed or contradicts another.
        TypeError: if a field is of the wrong kind.
    """

    run_id: str  # of the run that measured it; one run has one method
    method: str  # row of the table, e.g. "InsightEdit with AdvancedEdit" or "copy-source"
    bench: str  # benchmark, as on the command line, e.g. "reason-edit"
    bench_version: str  # see `Benchmark.version`
    sample_id: str  # unique in the benchmark
    metric_name: str  # spelled as in `published_results.yaml`, e.g. "PSNR", "CLIP_I"
    metric_variant: str  # "paper" or "strict"
    value: float | None  # finite; None if the metric failed or has no meaning here, never a guess
    protocol_hash: str  # hex digits of the protocol's hash; numbers of two protocols never share a column
    category: str = ""  # group of the sample; "" without groups
    cluster: str = ""  # source picture or session, what is resampled together; "" = the sample itself
    # SHA-256 (or its beginning, at least 7 digits) of the weights; None for outputs made elsewhere and for control
    # rows
    ckpt_sha: str | None = None
    seed: int | None = None  # of the generation; None where nothing was drawn
    cfg: Mapping[str, float] = field(default_factory=dict)  # guidance scales by name, e.g. {"guidance_scale": 7.5}
    sampler: str = ""  # name and steps, e.g. "euler-50"; "" where nothing was sampled
    out_png_sha256: str | None = None  # of the output's file; None if there was no output
    capped: bool = False  # whether `value` was brought down to a stated limit, e.g. the PSNR of a copy
    error: str | None = None  # why there is no value; None exactly if there is one
    lib_versions: Mapping[str, str] = field(default_factory=dict)  # library -> version, of those that took part
    # what else was found of the output beside the number, ready for JSON; of scenes and photographs, the first does
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*_NAMES, *_TEXTS):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is {getattr(self, name)!r}: a record's {name} is a string.")
        for name in _NAMES:
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: a record without it cannot be traced.")
        if self.metric_variant not in VARIANTS:
            raise ValueError(f"metric_variant is {self.metric_variant!r}; it is one of {', '.join(VARIANTS)}.")
        for name, (least, most) in _HEX.items():
            text = getattr(self, name)
            is_hex = isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{least},{most}}}", text)
            if text is not None and not is_hex:
                size = f"{least}" if least == most else f"{least} to {most}"
                raise ValueError(f"{name} is {text!r}: it is {size} lower-case hex digits.")
        if self.capped not in (True, False):
            raise TypeError(f"capped is {self.capped!r}: it is True or False.")
        object.__setattr__(self, "capped", bool(self.capped))
        if self.seed is not None:
            if isinstance(self.seed, bool) or not isinstance(self.seed, Integral):
                raise TypeError(f"seed is {self.seed!r}: it is an integer, or None where nothing was drawn.")
            object.__setattr__(self, "seed", int(self.seed))
        self._set_mapping("cfg", Real, "numbers", float)
        self._set_mapping("lib_versions", str, "strings", str)
        self._set_mapping("facts", object, "values", lambda value: value)
        self._check_value()

    def _set_mapping(self, name: str, kind: type, kinds: str, convert: Callable[[Any], Any]) -> None:
        """Keep a plain dictionary that JSON can hold."""
        given = getattr(self, name)
        if not isinstance(given, Mapping) or not all(isinstance(value, kind) for value in given.values()):
            raise TypeError(f"{name} is {given!r}: it is a dictionary of {kinds}.")
        object.__setattr__(self, name, {str(key): convert(value) for key, value in given.items()})

    def _check_value(self) -> None:
        if self.value is None:
            if not self.error:
                raise ValueError(f"value is None and error is {self.error!r}: say why there is no value.")
            if self.capped:
                raise ValueError("value is None and capped is True: only a value can be capped.")
            return
        if not isinstance(self.value, Real):
            raise TypeError(f"value is {self.value!r}: it is a number, or None with an error.")
        if not math.isfinite(self.value):
            raise ValueError(
                f"value is {self.value}: cap it and set capped=True, or give None and an error ({self.metric_name})."
            )
        if self.error is not None:
            raise ValueError(f"value is {self.value} and error is {self.error!r}: a failure has the value None.")
        object.__setattr__(self, "value", float(self.value))

    @property
    def metric(self) -> tuple[str, str]:
        """(metric name, variant)."""
        return self.metric_name, self.metric_variant

    @property
    def unit(self) -> str:
        """What is resampled: the cluster, or the sample itself where it has none."""
        return self.cluster or self.sample_id

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; no facts where there are none."""
        return {name: value for name, value in vars(self).items() if name != "facts" or value}

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> MetricRecord:
        """The record that `to_dict` described.

        Raises:
            ValueError, TypeError: if fields are unknown, missing or wrong.
        """
        known = {one.name for one in fields(cls)}
        needed = {one.name for one in fields(cls) if one.default is MISSING and one.default_factory is MISSING}
        if unknown := sorted(set(entries) - known):
            raise ValueError(f"a record has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
        if missing := sorted(needed - set(entries)):
            raise ValueError(f"the record lacks {', '.join(missing)}: every record has them.")
        return cls(**entries)


def is_control(method: str) -> bool:
    """Whether a row is a control (copy of the source, oracle, ...), which no ranking counts."""
    return method.lower().replace("-", "_").replace(" ", "_") in CONTROLS


def by_hash(names: Iterable[str], count: int = 16, seed: int = 0) -> tuple[str, ...]:
    """The `count` names with the lowest SHA-256 of "SEED:ID", lowest first."""
    return tuple(sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())[:count])


def write_records(records: Iterable[MetricRecord], path: Path, *, append: bool = False) -> int:
    """Write one JSON line per record, one record at a time in memory; returns how many.

    `append` adds to what is there, each line flushed, so that a killed run keeps all whole lines; a line that was cut
    off by a kill is removed first. Without it the file appears whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if append:
        drop_cut_line(path)
    with nullcontext(path) if append else write_atomically(path) as place, place.open("ab") as stream:
        count = 0
        for record in records:
            line = json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False)
            stream.write(line.encode("utf-8") + b"\n")
            if append:
                stream.flush()
            count += 1
    return count


def read_records(path: Path) -> Iterator[MetricRecord]:
    """Read a file of `write_records`, one record at a time in memory; empty lines are skipped.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming file and line of the first record that is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No records at {path}: name the .jsonl file that an evaluation wrote.")
    with path.open("rb") as stream:  # a line cut within a character is a fault of that line
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                entries = json.loads(line)
                if not isinstance(entries, dict):
                    raise ValueError(f"a line holds one JSON object, not {json.dumps(entries)[:40]}")
                record = MetricRecord.from_dict(entries)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}:{number} is no record ({error})") from error
            yield record
