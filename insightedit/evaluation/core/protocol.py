"""What was measured, exactly: two numbers may stand in one column only if the hashes of their protocols are equal.

A `Protocol` is the rules of one publication. A column exists as `paper` (parity with the publication: its rule, its
faults included) and, where that is not what we hold to be right, as `strict`, with the reason in a line. Its hash
covers all rules, and no wording; the hash in a record covers besides which weights the column was measured with
(`column_hash`), so that numbers of two CLIPs do not meet either.

A `SceneProtocol` is the same for scenes, a `PhotoProtocol` for photographs: the set of pictures and the rule of
success. Fields that later versions add to the records leave its hash alone as long as every earlier number stays the
same bit for bit; they have rules and a hash of their own (`insightedit.evaluation.scenes.details`). The protocols are
in `insightedit.evaluation.core.protocols`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields, is_dataclass
from typing import Any

from insightedit.evaluation.core.records import VARIANTS
from insightedit.evaluation.scenes import metrics

REVISION = 1  # raised when a measurement changes without a change of a field
NOT_HASHED = {"is_hashed": False}  # fields that explain, or say where a rule is used, and decide about no number

KINDS = ("clip", "dino", "lpips", "detector", "segmenter", "judge")
REFERENCES = ("", "source", "target", "subject", "input subject", "all subjects")
CAPTIONS = ("", "local_caption", "target_caption")
EQUAL = ("keep", "leave out", "zero")
SCENE_RULES = {
    "editing": "scenes_v2",
    "subject": "scenes_subject_v2",
    "subject_editing": "scenes_subject_editing_v2",
}  # task -> name of its rules


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 over a value's JSON: the hash of every protocol."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8")).hexdigest()[:16]


@dataclass(frozen=True)
class Model:
    """A network, or a judge, that columns are measured with."""

    key: str  # its name within the protocol
    kind: str  # one of `KINDS`
    name: str  # hub id; net of LPIPS; rubric of a judge
    preprocess: str = ""  # of CLIP and DINO, see `insightedit.evaluation.metrics.preprocess`


@dataclass(frozen=True)
class MetricRule:
    """One column."""

    name: str  # of the metric, spelled as in `published_results.yaml` where it is published
    measure: str  # what computes it, a name of `insightedit.evaluation.core.measure.MEASURES`, or MODULE:NAME
    _: KW_ONLY
    variant: str = "paper"  # "paper" or "strict"
    models: tuple[str, ...] = ()  # keys of the networks that it takes, the encoder first
    # what the output is compared with: "source", "target", "subject" (cut out), "input subject" (the picture that was
    # given), "all subjects", or ""
    reference: str = ""
    caption: str = ""  # what the output is compared with, a field of the sample
    equal_captions: str = "keep"  # where captions before and after are equal: "keep", "leave out" or "zero"
    frame: str = ""  # in which pixels are compared: "squash", "letterbox", "reference", "square" (its middle)
    scale: float = 1.0  # the value is multiplied by it
    only: tuple[str, ...] = field(default=(), metadata=NOT_HASHED)  # benchmarks that it exists on; empty = all
    better: str = field(default="higher", metadata=NOT_HASHED)  # "higher", "lower" or "n/a"
    why: str = field(default="", metadata=NOT_HASHED)  # what is to be known of it, in a sentence

    @property
    def key(self) -> tuple[str, str]:
        """(metric name, variant), unique in a protocol."""
        return self.name, self.variant

    @property
    def asks_a_judge(self) -> bool:
        """Whether its value comes from a judge."""
        return self.measure.startswith("judge_")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """All rules of one publication.

    Raises:
        ValueError: if a rule stands twice or names what there is not.
    """

    name: str  # with its version, e.g. "smartedit_v1"; a change of a definition gets a new one
    title: str = field(metadata=NOT_HASHED)  # in a few words
    source: str = field(metadata=NOT_HASHED)  # where the rules were read
    benchmarks: tuple[str, ...] = field(metadata=NOT_HASHED)  # that can be measured by it
    rules: tuple[MetricRule, ...]  # columns in the order of tables
    models: tuple[Model, ...] = ()  # that the rules name
    side: int = 256  # pixels of the frame for "squash", "letterbox" and "square"
    ssim_border: int = 5  # see `insightedit.evaluation.metrics.pixels.ssim`: 5 = cropped, as torchmetrics up to 1.3.2
    psnr_cap: float = 60.0  # dB of equal pictures
    mask_threshold: int = 127  # grey level, for strict masks
    dilation: int = 6  # pixels of the frame by which strict masks are widened
    averaging: str = "micro"  # "micro" (all samples alike) or "macro" (categories alike)
    seeds: int = field(default=1, metadata=NOT_HASHED)  # pictures per sample
    repeats: int = 3  # of a judge's questions
    command: str = field(default="", metadata=NOT_HASHED)  # what measures it, if not `insightedit eval BENCHMARK`
    caveats: tuple[str, ...] = field(default=(), metadata=NOT_HASHED)  # what is not known or differs, as sentences
    # columns that somebody measures besides (`--metric`); each has a hash of its own, so that the protocol's stay
    # comparable
    added: tuple[MetricRule, ...] = field(default=(), metadata=NOT_HASHED)
    # which scenes or photographs, where those are drawn for a run; its hash is the protocol's
    drawn: SceneProtocol | PhotoProtocol | None = field(default=None, metadata=NOT_HASHED)

    def __post_init__(self) -> None:
        keys = [rule.key for rule in (*self.rules, *self.added)]
        if len(set(keys)) < len(keys):
            raise ValueError(f"{self.name} has a column twice: {', '.join(map(str, keys))}.")
        known = {model.key for model in self.models}
        for rule in (*self.rules, *self.added):
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
        return self.drawn.hash if self.drawn else digest({"revision": REVISION, "rules": _hashed(self)})

    def column_hash(self, rule: MetricRule, revisions: Mapping[str, str]) -> str:
        """The hash that goes into a column's records, by which weights each model has, missing ones left out."""
        own = digest({"revision": REVISION, "added": _hashed(rule)}) if rule in self.added else self.hash
        used = {key: revisions[key] for key in rule.models if key in revisions}
        return digest({"protocol": own, "weights": used}) if used else own

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
        return tuple(rule for rule in (*self.rules, *self.added) if not rule.only or bench in rule.only)

    def models_for(self, bench: str) -> tuple[Model, ...]:
        """The models that a benchmark's columns take, in their order."""
        needed = {key for rule in self.rules_for(bench) for key in rule.models}
        return tuple(model for model in self.models if model.key in needed)

    @property
    def asks_a_judge(self) -> bool:
        """Whether a column comes from a judge."""
        return any(model.kind == "judge" for model in self.models)


def _hashed(value: Any) -> Any:
    """The fields that decide about numbers, ready for JSON."""
    if is_dataclass(value):
        names = [one.name for one in fields(value) if one.metadata.get("is_hashed") is not False]
        return {name: _hashed(getattr(value, name)) for name in names}
    return [_hashed(one) for one in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class SceneProtocol:
    """A set of scenes and the rule of success."""

    split: str  # of the scenes
    size: int  # pixels of a side
    seed: int  # of the scenes
    count: int  # scenes
    pairs: int  # minimal pairs
    # over the bytes of every source (or, for a new picture, empty backdrop), target, instruction and reference, so
    # that a changed scene generator shows
    data_sha256: str
    name: str = SCENE_RULES["editing"]  # of the task's rules
    min_progress: float = metrics.MIN_PROGRESS  # see `insightedit.evaluation.scenes.metrics`; so are the others
    max_leak: float = metrics.MAX_LEAK  # share of the background
    leak_threshold: int = metrics.SUCCESS_THRESHOLD  # grey levels
    psnr_cap: float = metrics.PSNR_CAP  # dB
    background_radius: int = 0  # pixels
    box_width: int = 0  # pixels

    @classmethod
    def describe(cls, *, size: int, task: str = "editing", **scenes: Any) -> SceneProtocol:
        """The protocol for scenes of `size`, with the pixel widths that follow from it."""
        widths = {"background_radius": metrics.background_radius(size), "box_width": metrics.box_width(size)}
        return cls(size=size, name=SCENE_RULES[task], **widths, **scenes)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over all fields."""
        return digest(asdict(self))


@dataclass(frozen=True)
class PhotoProtocol:
    """A set of requests on photographs and the rule of success, see `insightedit.evaluation.photos`."""

    split: str  # of photographs, wordings and scenes
    seed: int  # of the requests
    count: int  # requests
    data_sha256: str  # over the values of every source and right answer, and every instruction
    tones: str  # digest of the names of all operations, which are what the right one is told from
    low_side: int  # pixels of a side of the pictures behind the control rows
    compared: int  # pixels that operations are told apart on, at most
    name: str = "photos_v1"
    min_progress: float = metrics.MIN_PROGRESS  # see `insightedit.evaluation.scenes.metrics`
    psnr_cap: float = metrics.PSNR_CAP  # dB

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over all fields."""
        return digest(asdict(self))
