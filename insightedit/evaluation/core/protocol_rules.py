"""What a protocol is: its columns, the networks that they take, and the hash that goes into every record.

A column exists as `paper` (parity with the publication: its rule, its faults included) and, where that is not what we
hold to be right, as `strict`, with the reason in a line. Numbers of two hashes never share a column of a table.

`protocol.hash` covers all rules, and no wording. The hash in a record covers besides which weights the column was
measured with (`column_hash`), so that numbers of two CLIPs do not meet either; columns without weights have the
protocol's own. The protocols themselves are in `insightedit.evaluation.core.protocols`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from insightedit.evaluation.core.records import VARIANTS

REVISION = 1  # raised when a measurement changes without a change of a field
NOT_HASHED = {"is_hashed": False}  # fields that explain, or say where a rule is used, and decide about no number

KINDS = ("clip", "dino", "lpips", "detector", "segmenter", "judge")
REFERENCES = ("", "source", "target", "subject", "input subject", "all subjects")
CAPTIONS = ("", "local_caption", "target_caption")
EQUAL = ("keep", "leave out", "zero")


@dataclass(frozen=True)
class Model:
    """A network, or a judge, that columns are measured with.

    Attributes:
        key: its name within the protocol.
        kind: one of `KINDS`.
        name: hub id; net of LPIPS; rubric of a judge.
        preprocess: of CLIP and DINO, see `insightedit.evaluation.metrics.preprocess`.
    """

    key: str
    kind: str
    name: str
    preprocess: str = ""


@dataclass(frozen=True, kw_only=True)
class MetricRule:
    """One column.

    Attributes:
        name: of the metric, spelled as in `published_results.yaml` where it is published.
        variant: "paper" or "strict".
        measure: what computes it, a name of `insightedit.evaluation.core.measure.MEASURES`.
        models: keys of the networks that it takes, the encoder first.
        reference: what the output is compared with: "source", "target", "subject" (cut out), "input subject" (the
            picture that was given), "all subjects", or "".
        caption: what the output is compared with, a field of the sample.
        equal_captions: rows whose captions before and after are the same: "keep", "leave out", or "zero" (score 0).
        frame: size in which pixels are compared: "squash", "letterbox", "reference" (its size), "square" (the middle
            square).
        scale: the value is multiplied by it.
        only: benchmarks that it exists on; empty = all of the protocol's.
        better: "higher" or "lower".
        why: what sets it apart from its paper twin, or what is to be known; a sentence.
    """

    name: str
    measure: str
    variant: str = "paper"
    models: tuple[str, ...] = ()
    reference: str = ""
    caption: str = ""
    equal_captions: str = "keep"
    frame: str = ""
    scale: float = 1.0
    only: tuple[str, ...] = field(default=(), metadata=NOT_HASHED)
    better: str = field(default="higher", metadata=NOT_HASHED)
    why: str = field(default="", metadata=NOT_HASHED)

    @property
    def key(self) -> tuple[str, str]:
        """(metric name, variant), unique in a protocol."""
        return self.name, self.variant


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """All rules of one publication.

    Attributes:
        name: with its version, e.g. "smartedit_v1"; a change of a definition gets a new one.
        title: in a few words.
        source: where the rules were read.
        benchmarks: that can be measured by it.
        rules: columns in the order of tables.
        models: that the rules name.
        side: pixels of the frame for "squash", "letterbox" and "square".
        ssim_border: see `insightedit.evaluation.metrics.pixels.ssim`: 5 = cropped, as torchmetrics up to 1.3.2.
        psnr_cap: dB of equal pictures.
        mask_threshold: grey level, for strict masks.
        dilation: pixels of the frame by which strict masks are widened.
        averaging: "micro" (all samples alike) or "macro" (categories alike).
        seeds: pictures per sample.
        repeats: of a judge's questions.
        command: what measures it, if not `insightedit eval BENCHMARK`.
        caveats: what is not known or differs, as sentences.

    Raises:
        ValueError: if a rule stands twice or names what there is not.
    """

    name: str
    title: str = field(metadata=NOT_HASHED)
    source: str = field(metadata=NOT_HASHED)
    benchmarks: tuple[str, ...] = field(metadata=NOT_HASHED)
    rules: tuple[MetricRule, ...]
    models: tuple[Model, ...] = ()
    side: int = 256
    ssim_border: int = 5
    psnr_cap: float = 60.0
    mask_threshold: int = 127
    dilation: int = 6
    averaging: str = "micro"
    seeds: int = field(default=1, metadata=NOT_HASHED)
    repeats: int = 3
    command: str = field(default="", metadata=NOT_HASHED)
    caveats: tuple[str, ...] = field(default=(), metadata=NOT_HASHED)

    def __post_init__(self) -> None:
        keys = [rule.key for rule in self.rules]
        if len(set(keys)) < len(keys):
            raise ValueError(f"{self.name} has a column twice: {', '.join(map(str, keys))}.")
        known = {model.key for model in self.models}
        for rule in self.rules:
            for what, value, allowed in (
                ("variant", rule.variant, VARIANTS),
                ("reference", rule.reference, REFERENCES),
                ("caption", rule.caption, CAPTIONS),
                ("equal_captions", rule.equal_captions, EQUAL),
                *(("models", key, known) for key in rule.models),
            ):
                if value not in allowed:
                    listed = ", ".join(map(repr, sorted(allowed)))
                    raise ValueError(f"{self.name}, {rule.name}: {what} is {value!r}; it is one of {listed}.")

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over all rules."""
        return _digest({"revision": REVISION, "rules": _rules_of(self)})

    def column_hash(self, rule: MetricRule, revisions: Mapping[str, str]) -> str:
        """The hash that goes into a column's records.

        Args:
            rule: the column.
            revisions: key of a model -> which weights it has; those that are missing are left out.
        """
        used = {key: revisions[key] for key in rule.models if key in revisions}
        return _digest({"protocol": self.hash, "weights": used}) if used else self.hash

    def rules_for(self, bench: str) -> tuple[MetricRule, ...]:
        """The columns that exist on a benchmark.

        Raises:
            ValueError: if the protocol is not for it.
        """
        if bench not in self.benchmarks:
            raise ValueError(
                f"{self.name} measures {', '.join(self.benchmarks)}, not {bench}: `insightedit eval list` says which "
                "protocol measures what."
            )
        return tuple(rule for rule in self.rules if not rule.only or bench in rule.only)

    def models_for(self, bench: str) -> tuple[Model, ...]:
        """The models that a benchmark's columns take, in their order."""
        needed = {key for rule in self.rules_for(bench) for key in rule.models}
        return tuple(model for model in self.models if model.key in needed)

    @property
    def asks_a_judge(self) -> bool:
        """Whether a column comes from a judge."""
        return any(model.kind == "judge" for model in self.models)

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON, wording included."""
        return _plain(self, everything=True)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8")).hexdigest()[:16]


def _rules_of(protocol: Protocol) -> dict[str, Any]:
    return _plain(protocol, everything=False)


def _plain(value: Any, *, everything: bool) -> Any:
    if is_dataclass(value):
        return {
            one.name: _plain(getattr(value, one.name), everything=everything)
            for one in fields(value)
            if everything or one.metadata.get("is_hashed") is not False
        }
    if isinstance(value, tuple):
        return [_plain(one, everything=everything) for one in value]
    return value
