"""Training of a miniature base model on scenes by the stages' loop, with a budget of time as well as of steps.

A run with `steps` alone repeats bit for bit, also when it is stopped and resumed. With `minutes` the schedule follows
whichever of the two budgets is nearer to its end, so the learning rate has reached zero when the time is over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info
from transformers import BatchFeature

from insightedit.config.schema import Config, OptimConfig, StageConfig, TrainConfig
from insightedit.datasets.loader import StepLoader
from insightedit.files import lock_folder
from insightedit.modeling.devices import avoid_cudnn_attention
from insightedit.training.logging import METRIC
from insightedit.training.loop import Budget, RunSummary, fit
from insightedit.training.objectives import TrainingStep
from insightedit.training.processes import Processes
from insightedit.training.trainer_state import TrainerState

LOG_EVERY = 20  # steps
METRICS = "metrics.json"
# Mean and deviation of OpenAI's CLIP, as in transformers' CLIPImageProcessor.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
VAL_COUNT = 256  # held-out scenes that `evaluate` looks at


class Sampler(Protocol):
    """What trainers need of `insightedit.scenes.SceneSampler`: edit samples by index."""

    def __getitem__(self, index: int) -> Any:
        """Sample with `source` and `target` (H, W, 3) uint8, `caption_source`, `caption_target`, ..."""
        ...

    def requests(self, sample: Any, count: int, whole: int = 0) -> list[tuple[str, str]]:
        """Further instructions for a sample's source, and `whole` more for all of it or for what nobody can do.

        Each with its expressive instruction.
        """
        ...


def scene_samplers(size: int, pack: Path | None = None, declines: float = 0.0) -> tuple[Sampler, Sampler]:
    """Training and held-out scenes at `size` pixels, on the photographs of a `pack`, too; `declines` as of scenes."""
    from insightedit.scenes import Assets, SceneSampler

    assets = Assets.embedded(pack)
    train, held_out = (SceneSampler(s, size, assets=assets, declines=declines) for s in ("train", "val"))
    return train, held_out


def stack(pictures: Iterable[np.ndarray]) -> Tensor:
    """(H, W, 3) uint8 arrays -> (B, 3, H, W) uint8 tensor.

    In plain memory order: on the CPU, torch's bf16 group norm is up to twelve times slower channels-last, which costs
    a convolutional net more than it gains.
    """
    return torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2).contiguous()


def both_images(samples: Sequence[Any]) -> Tensor:
    """(2 B, 3, H, W) uint8 sources of B scenes, then their targets.

    A scene's two images differ by one edit, so each is a hard negative of the other.
    """
    return stack([s.source for s in samples] + [s.target for s in samples])


def both_captions(samples: Sequence[Any]) -> list[str]:
    """The captions of `both_images`."""
    return [s.caption_source for s in samples] + [s.caption_target for s in samples]


def padded(tokenizer: Any, texts: list[str], length: int) -> Any:
    """`input_ids` and `attention_mask` (B, `length`) int64 of texts."""
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")


def to_vae_pixels(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> float32 in [-1, 1]."""
    return pictures.float() / 127.5 - 1.0


def to_clip_pixels(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> float32 normalised as CLIPImageProcessor does for pictures of its own size."""
    mean = torch.tensor(CLIP_MEAN, device=pictures.device)[:, None, None]
    std = torch.tensor(CLIP_STD, device=pictures.device)[:, None, None]
    return (pictures.float() / 255.0 - mean) / std


@dataclass(frozen=True)
class TrainOptions:
    """How long, how large, how fast."""

    steps: int  # optimiser steps of the whole run
    minutes: float | None = None  # wall clock of the whole run, resumed parts included; None for steps alone
    batch_size: int = 16  # images or pairs a step
    lr: float = 1e-3  # peak
    warmup_steps: int = 50
    weight_decay: float = 0.01  # on matrices and kernels only
    betas: tuple[float, float] = (0.9, 0.99)  # of Adam's averages
    ema_decay: float | None = None  # of the average that is evaluated and exported; None for the weights themselves
    save_minutes: float = 2.0  # between two checkpoints
    save_steps: int = 1_000_000  # likewise; whichever comes first
    workers: int = 1  # processes that render and tokenize; 0 does it inline
    stop_after: int | None = None  # stop, and save, after so many steps, as an interruption would
    compile: bool = False  # run the hot modules through `torch.compile`


class Part:
    """A miniature that is trained: its model, its data and its loss."""

    name: ClassVar[str]  # of its command and its run folder
    options: ClassVar[TrainOptions]
    trainable: ClassVar[list[str]] = ["*"]  # patterns of the parameters that are trained
    hot: ClassVar[tuple[str, ...]] = ("model",)  # attributes that `torch.compile` is worth for
    declines: ClassVar[float] = 0.0  # share of its samples that ask for what cannot be done
    images: ClassVar[int] = 1  # of a scene that are rows of a batch: the source, or 2 with the target
    model: Any  # nn.Module with all that is trained; each part's own class

    def __init__(self, root: Path, train: Sampler, val: Sampler, batch_size: int | None = None) -> None:
        self.root, self.train, self.val = root, train, val
        self.batch_size = batch_size or self.options.batch_size
        self.load()

    def load(self) -> None:
        """Load what stands in `root`."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def batch(self, step: int) -> dict[str, Any]:
        """Training batch number `step` on the CPU; depends on nothing else. Runs in a worker process."""
        scenes = self.batch_size // self.images
        return self.rows([self.train[step * scenes + i] for i in range(scenes)], step * scenes)

    def held_out(self, count: int, first: int = 0, **settings: Any) -> dict[str, Any]:
        """`count` rows of held-out scenes, from number `first` on, on the model's device."""
        samples = [self.val[first + i] for i in range(count // self.images)]
        return {name: value.to(self.device) for name, value in self.rows(samples, first, **settings).items()}

    def rows(self, samples: list[Any], first: int) -> dict[str, Any]:
        """Rows of a batch of scenes, of which the first has the number `first`."""
        raise NotImplementedError

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Scalars by name; `loss` is the one that is minimised. All randomness comes from `generator`."""
        raise NotImplementedError

    def evaluate(self) -> dict[str, float]:
        """Numbers on held-out scenes."""
        raise NotImplementedError

    def export(self) -> None:
        """Write the model back into its stock folder."""
        raise NotImplementedError


def train_part(part: Part, folder: str | Path, options: TrainOptions) -> tuple[RunSummary, dict[str, float]]:
    """Train `part`, resuming from `folder` if a checkpoint lies there, and export it at every checkpoint.

    What was done, and the numbers of `Part.evaluate`, empty if the run has not finished.
    """
    folder = Path(folder)
    config = Config(
        optim=OptimConfig(lr=options.lr, betas=list(options.betas), weight_decay=options.weight_decay),
        train=TrainConfig(
            max_steps=options.steps,
            batch_size=part.batch_size,
            engine="torch",
            ema_decay=options.ema_decay,
            log_every=LOG_EVERY,
            keep_checkpoints=1,
        ),
        stage=StageConfig(trainable=part.trainable),
    )
    budget = Budget(
        options.steps, options.save_steps, options.minutes, options.save_minutes, session_steps=options.stop_after
    )
    avoid_cudnn_attention()
    for name in part.hot if options.compile else ():
        attrgetter(name)(part).compile()
    loader: Any = StepLoader(_Stream(part), lambda records, _: records[0], batch_size=1, num_workers=options.workers)
    exporter = _Exporter(part)
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        summary = fit(
            TrainingStep(part.model, _objective(part, folder), config),
            loader,
            folder,
            processes=Processes(device=part.device),
            callback=exporter,
            budget=budget,
            schedule=budget.cosine(options.warmup_steps),
        )
        if exporter.metrics:
            (folder / METRICS).write_text(json.dumps(exporter.metrics, indent=1) + "\n")
    return summary, exporter.metrics


def _objective(part: Part, folder: Path) -> Callable[..., dict[str, Tensor]]:
    """A part's loss as the loop takes it: what is minimised is called `noise`, all else is logged only."""

    def losses(_: nn.Module, batch: dict[str, Any], config: Config, generator: torch.Generator) -> dict[str, Tensor]:
        # parts draw on the device, and the loop's generator, whose state is saved, lives on the CPU
        seed = int(torch.randint(2**62, (), generator=generator))
        found = part.loss(batch, torch.Generator(part.device).manual_seed(seed))
        loss = found.pop("loss")
        if not loss.isfinite():
            raise RuntimeError(
                f"{part.name}: the loss is {loss.item()}; lower --lr and start again from the last checkpoint in "
                f"{folder}"
            )
        return {"noise": loss, **{f"{METRIC}{name}": value for name, value in found.items()}}

    return losses


class _Stream:
    """`part.batch` by step number, as the loader asks for records."""

    def __init__(self, part: Part) -> None:
        self.part, self.is_quiet = part, False

    def __getitem__(self, step: int) -> BatchFeature:
        if get_worker_info() is not None and not self.is_quiet:
            os.nice(5)  # the training process goes first
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
            self.is_quiet = True
        return BatchFeature(self.part.batch(step))


class _Exporter:
    """A callback that writes the averaged model into its stock folder at every checkpoint, and measures the last."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.metrics: dict[str, float] = {}

    def after_step(self, state: TrainerState, *, last: bool, saved: bool) -> None:
        if saved:
            self._export(state, last)

    def resumed(self, state: TrainerState, *, last: bool) -> None:
        if last:
            self._export(state, last)

    def _export(self, state: TrainerState, last: bool) -> None:
        with state.eval_mode():
            self.part.export()
            self.metrics = self.part.evaluate() if last else {}
