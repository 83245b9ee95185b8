"""The parts of the run: what each needs, its share of the time, its command, and where it keeps what it did."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

FOREVER = 100_000_000  # steps: the clock ends a part
COMPILED_FROM = 8.0  # minutes of a part on an accelerator; below, compiling costs more than it gives
EVALUATED = {180.0: 600, 60.0: 300, 10.0: 100, 0.0: 24}  # minutes of the run -> scenes; half as many photographs
RESULTS, MODEL, DRAFT = "results", "model", "draft"
DRAWN = (64, 2000)  # scenes that sharpening lets the editor draw, at least and at most
DRAWN_A_MINUTE = 100  # of sharpening
CALIBRATED_ON = 400  # requests at most
DRAWS_ONLY = "stage.trainable=[bridge.*,unet.*]"  # stage 3: what the language model says is settled by then


@dataclass(frozen=True)
class DefaultSize:
    """One size of the embedded default: its miniatures and the words that make the stages fit them."""

    miniature: str  # of `insightedit.miniatures.sizes`
    pixels: int
    stage_words: tuple[str, ...]


_TINY_WORDS = (  # the overlay for tests, on bases of the run's own, whose UNet has learned to edit as `mini`'s
    "comprehension.model=miniature:mini/llava",
    "generation.model=miniature:mini/sd",
    "generation.denoiser.model=miniature:mini/ip2p",
    "generation.image_encoder=miniature:mini/clip",
    "generation.prediction_type=sample",
    "generation.source_prior=0.25",
    "comprehension.expressive=true",  # or there would be nothing to calibrate
    "comprehension.max_new_tokens=8",
)
WORLDS = {
    "tiny": DefaultSize("tiny", 32, ("--overlay", "tiny", *_TINY_WORDS)),
    "64": DefaultSize("mini", 64, ("--overlay", "mini")),
    "128": DefaultSize("mini128", 128, ("--overlay", "mini", "--overlay", "mini128")),
}


@dataclass(frozen=True)
class Settings:
    """What the user chose and what the machine has."""

    minutes: float  # wall clock of everything, all sessions together
    runs: Path  # folder of all parts
    size: str  # of WORLDS
    cores: tuple[int, ...]  # numbers of the processor's cores
    accelerator: str = ""  # its name; empty for none
    lanes: int = 1  # parts that run side by side
    workers: int = 0  # processes of each part that render
    steps: int | None = None  # of each training part, in place of minutes
    pack: Path | None = None  # further photographs
    export: Path | None = None  # where the model folder goes, beside the results
    shard_mb: float | None = None  # results also packed in files of so many MiB

    @property
    def bases(self) -> Path:
        """Folder of the miniature base models."""
        return self.runs / "bases"

    @property
    def results(self) -> Path:
        """Folder of the model, its reports and the record."""
        return self.runs / RESULTS

    @property
    def scenes(self) -> int:
        """On how many scenes success is measured."""
        if self.steps is not None:
            return 4
        return next(count for minutes, count in EVALUATED.items() if self.minutes >= minutes)


Command = Callable[[Settings, float], list[str]]


@dataclass(frozen=True)
class PlannedPart:
    """One part: a command of its own, in a process of its own."""

    name: str
    needs: tuple[str, ...]  # parts that have to be done before
    share: float  # of the training time; 0: takes as long as it takes
    seconds: float  # beside training: start, measuring, writing (two shared cores, docs/lab-notes.md)
    command: Command  # (settings, minutes) -> module and its words
    folder: Callable[[Settings], Path] | None = None  # with `log.jsonl` and `checkpoints`
    each: float = 0.0  # seconds for every request that it measures, likewise
    instead: Command | None = None  # where the first one fails
    extends: bool = False  # trains on when a finished run is given more minutes


def _miniature(name: str, batch_on_accelerator: int, **how: object) -> PlannedPart:
    def command(settings: Settings, minutes: float) -> list[str]:
        words = ["insightedit.miniatures", name, "--size", WORLDS[settings.size].miniature]
        words += ["--root", str(settings.bases), "--workers", str(settings.workers)]
        words += ["--pack", str(settings.pack)] if settings.pack else []
        if settings.steps is not None:
            words += ["--steps", str(settings.steps), "--minutes", "0"]
        else:
            words += ["--steps", str(FOREVER), "--minutes", f"{minutes:.3f}"]
        if settings.accelerator:
            words += ["--batch-size", str(batch_on_accelerator)]
            words += ["--compile"] * (minutes >= COMPILED_FROM)
        return words

    return PlannedPart(name, command=command, folder=lambda settings: settings.bases / ".train" / name, **how)  # type: ignore[arg-type]


def _stage_folder(settings: Settings, number: int) -> Path:
    return settings.runs / f"stage{number}"


def _stage(number: int, **how: object) -> PlannedPart:
    def command(settings: Settings, minutes: float) -> list[str]:
        words = [f"insightedit.stage{number}", "--recipe", "insightedit", *WORLDS[settings.size].stage_words]
        words += [f"output_dir={_stage_folder(settings, number)}", f"data.num_workers={settings.workers}"]
        words += ["train.num_samples=0"]  # what it draws is looked at when it is measured
        words += [DRAWS_ONLY] * (number == 3)
        if settings.pack:
            words += [f"data.sources=[{{kind: descriptions, split: train, pack: '{settings.pack}'}}]"]
        if settings.steps is not None:
            return [*words, f"train.max_steps={settings.steps}"]
        # the rate falls to zero when the time is over; of more minutes later it begins anew, at what is then left
        words += [f"train.max_steps={FOREVER}", f"train.total_minutes={minutes:.3f}"]
        return [*words, "optim.schedule=cosine", "optim.warmup_steps=50"]

    return PlannedPart(f"stage{number}", command=command, folder=lambda found: _stage_folder(found, number), **how)  # type: ignore[arg-type]


def _sharpen(settings: Settings, minutes: float) -> list[str]:
    drawn = max(DRAWN[0], min(DRAWN[1], round(DRAWN_A_MINUTE * minutes))) if settings.steps is None else 16
    words = ["--editor", str(settings.runs / DRAFT), "--scenes", str(drawn)]
    return [word for word in _SHARPEN.command(settings, minutes) if word != "--compile"] + words


def _tokenizer(settings: Settings, minutes: float) -> list[str]:
    size = WORLDS[settings.size].miniature
    return ["insightedit.miniatures", "tokenizer", "--size", size, "--root", str(settings.bases)]


def _draft(settings: Settings, minutes: float) -> list[str]:
    words = ["insightedit", "export", str(_stage_folder(settings, 3)), "-o", str(settings.runs / DRAFT)]
    return [*words, "--scenes", "0"]


def _calibrate(settings: Settings, minutes: float) -> list[str]:
    words = ["insightedit", "calibrate", str(settings.runs / DRAFT)]
    words += ["--count", str(max(20, min(CALIBRATED_ON, settings.scenes)))]
    return [*words, *(["--pack", str(settings.pack)] if settings.pack else [])]


def _uncalibrated(settings: Settings, minutes: float) -> list[str]:
    """Of a model that does nothing right yet there is nothing to calibrate: it stays as it is."""
    return ["insightedit", "info", "--model", str(settings.runs / DRAFT)]


def _measured(kind: str) -> Command:
    def command(settings: Settings, minutes: float) -> list[str]:
        count = settings.scenes if kind == "scenes" else max(4, settings.scenes // 2)  # photographs are larger
        words = ["insightedit", "eval", kind, "--model", str(settings.runs / DRAFT), "--count", str(count)]
        return [*words, "--out", str(settings.results / kind)]

    return command


def _export(settings: Settings, minutes: float) -> list[str]:
    words = ["insightedit", "export", str(_stage_folder(settings, 3)), "-o", str(settings.results / MODEL)]
    for kind in ("scenes", "photos"):
        words += ["--report", str(settings.results / kind / "report.json")]
    return words


# by itself where the editor understands nothing yet, so that there is nothing drawn to sharpen
_SHARPEN = _miniature("sharpen", 64, needs=("draft",), share=10, seconds=15)
PARTS = (
    PlannedPart("tokenizer", (), 0, 15, _tokenizer),
    _miniature("vision", 256, needs=("tokenizer",), share=18, seconds=15),
    _miniature("vae", 128, needs=("tokenizer",), share=14, seconds=15),
    _miniature("clip", 256, needs=("vision",), share=3, seconds=15),
    _miniature("llava", 128, needs=("clip",), share=163, seconds=40),
    _miniature("ip2p", 128, needs=("clip", "vae"), share=66, seconds=15),
    _stage(1, needs=("llava", "ip2p"), share=26, seconds=15),
    _stage(2, needs=("stage1",), share=2, seconds=15),
    _stage(3, needs=("stage2",), share=70, seconds=15, extends=True),
    PlannedPart("draft", ("stage3",), 0, 10, _draft),
    replace(_SHARPEN, command=_sharpen, each=0.05, instead=_SHARPEN.command),
    PlannedPart("sharper", ("sharpen",), 0, 10, _draft),
    PlannedPart("calibrate", ("sharper",), 0, 10, _calibrate, each=0.1, instead=_uncalibrated),
    PlannedPart("scenes", ("calibrate",), 0, 10, _measured("scenes"), each=0.3),
    PlannedPart("photos", ("calibrate",), 0, 10, _measured("photos"), each=0.7),
    PlannedPart("export", ("scenes", "photos"), 0, 15, _export),
)
"""In the order in which they begin where several could. Shares are minutes of a run of six hours on two cores: what
learns late or slowly gets more, and reading many people's words on pictures of 293 things is what learns most slowly.
Two lanes are about equally long: vision, clip, llava beside vae, ip2p. Stage 3 reads no cache: a sample would have to
be read three times to gain a fifth of the time, and samples that are not seen twice teach more than that."""


def planned_parts(settings: Settings) -> tuple[PlannedPart, ...]:
    """The parts of this run, with what measuring takes for its number of scenes."""
    return tuple(replace(part, seconds=part.seconds + part.each * settings.scenes) for part in PARTS)


def variables(settings: Settings) -> dict[str, str]:
    """What the parts find in their environment."""
    seen = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ}
    return {"INSIGHTEDIT_MINIATURES": str(settings.bases.resolve()), "TOKENIZERS_PARALLELISM": "false"} | seen
