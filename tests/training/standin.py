"""A small editor, objective and loader, so that the loop is tested apart from the models."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from insightedit.config.schema import Config, OptimConfig, StageConfig, TrainConfig


class Part(nn.Module):
    """Linear, norm and dropout."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.norm(self.linear(x)))


class SmallEditor(nn.Module):
    """A frozen body and a trained bridge."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = Part()
        self.bridge = nn.ModuleDict({"qformer": Part(), "bim": Part()})

    def forward(self, x: Tensor) -> Tensor:
        return self.bridge["bim"](self.bridge["qformer"](self.body(x)))


@dataclass(frozen=True)
class Batch:
    """One tensor that can move."""

    x: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.x.to(device))


class SmallLoader:
    """Batch `i` is a function of `i`; starting draws from torch's generator, as a `DataLoader` does."""

    def __init__(self, rank: int = 0, end: int | None = None) -> None:
        self.position, self.rank, self.end = 0, rank, end

    def __iter__(self):
        torch.empty((), dtype=torch.int64).random_()
        while self.end is None or self.position < self.end:
            generator = torch.Generator().manual_seed(1000 * self.rank + self.position)
            self.position += 1
            yield Batch(torch.randn(4, 8, generator=generator))

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


def objective(editor: nn.Module, batch: Batch, config: Config, generator: torch.Generator) -> dict[str, Tensor]:
    """Denoise; draws from the given generator, and from torch's own through dropout."""
    noise = torch.randn(batch.x.shape, generator=generator).to(batch.x.device)
    prediction = editor(batch.x + noise)
    return {"noise": (prediction - noise).pow(2).mean(), "lm": None, "metric/spread": prediction.detach().std()}


def small_config(**train: object) -> Config:
    """Six steps in float32 on plain torch."""
    settings = {
        "max_steps": 6,
        "batch_size": 4,
        "precision": "fp32",
        "engine": "torch",
        "save_every": 2,
        "log_every": 1,
    }
    return Config(
        optim=OptimConfig(lr=1e-2, weight_decay=0.01, warmup_ratio=0.2),
        train=TrainConfig(**{**settings, "ema_decay": 0.9, **train}),
        stage=StageConfig(number=1, objective="align", trainable=["bridge.*"]),
    )
