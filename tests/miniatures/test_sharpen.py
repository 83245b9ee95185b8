"""The decoder stage: its losses by hand, what it leaves alone, and what an editor draws for it."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC, AutoencoderKL
from torch import nn
from torch.nn import functional as F

from insightedit.miniatures.builders import build_vae
from insightedit.miniatures.sizes import TINY, VaeSize
from insightedit.training.miniatures import sharpen
from insightedit.training.miniatures.loop import TrainOptions, train_part
from insightedit.training.miniatures.sharpen import (
    PieceDiscriminator,
    SharpenPart,
    adversarial_loss,
    discriminator_loss,
    texture_loss,
)
from tests.miniatures.fakes import Squares

SQUARES = Squares(32)
OPTIONS = TrainOptions(steps=3, warmup_steps=1, workers=0, lr=1e-3, betas=(0.5, 0.99))


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_root, tmp_path / "root"))


def part_of(root: Path) -> SharpenPart:
    return SharpenPart(root, SQUARES, SQUARES, 6)


class Mean(nn.Module):
    """A discriminator whose only logit is w times the mean of a picture's pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.w * pictures.mean(dim=(1, 2, 3), keepdim=True)


def test_the_losses_are_what_the_paper_writes() -> None:
    real, drawn = torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, 3, 4, 4)
    found = discriminator_loss(Mean(), real, drawn, penalty=3.0)
    # logits 1 and 0; each of 48 pixels moves a logit by 2 / 48, in the real picture and in the drawn one
    wanted = F.softplus(torch.tensor(-1.0)) + 3.0 / 2 * 2 * 48 * (2 / 48) ** 2
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    weights = torch.tensor([0.25, 0.75]).reshape(2, 1, 1, 1)
    assert adversarial_loss(Mean(), real, drawn, weights).item() == pytest.approx(0.5 * math.log(1 + math.e))


def test_who_learns_of_which_loss() -> None:
    discriminator, drawn = PieceDiscriminator(8), torch.rand(1, 3, 16, 16, requires_grad=True)
    adversarial_loss(discriminator, torch.rand(1, 3, 16, 16), drawn, torch.ones(1, 1, 2, 2)).backward()
    assert drawn.grad is not None and drawn.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in discriminator.parameters())
    drawn.grad = None
    discriminator_loss(discriminator, torch.rand(1, 3, 16, 16), drawn, 1.0).backward()
    assert drawn.grad is None
    assert all(weight.grad is not None for weight in discriminator.parameters())


def test_edges_have_to_be_as_strong_as_the_truths_wherever_they_lie_in_a_window() -> None:
    real = torch.zeros(1, 3, 17, 17)
    real[..., 6:] = 1.0  # one edge: a squared difference of 3 channels in each row
    weights, flat = torch.ones(1, 1, 2, 2), torch.zeros_like(real)
    assert texture_loss(real, real, weights).item() == 0
    # windows of 8 from 0, 4, 8 in each direction: the edge, between columns 5 and 6, lies in the first two
    step = math.sqrt(3 / 8 + 1e-4) - math.sqrt(1e-4)
    assert texture_loss(real, flat, weights).item() == pytest.approx(2 / 3 * step, rel=1e-5)
    weak, moved = real / 2, real.roll(-1, dims=3)
    moved[..., -1] = 1.0
    assert 0 < texture_loss(real, weak, weights).item() < texture_loss(real, flat, weights).item()
    assert texture_loss(real, moved, weights).item() == pytest.approx(0, abs=1e-6)
    assert texture_loss(real, flat, 0 * weights).item() == 0


def test_a_discriminator_learns_to_tell_blur_from_the_truth() -> None:
    torch.manual_seed(0)
    discriminator = PieceDiscriminator(8)
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.99))
    for _ in range(60):
        real = torch.rand(4, 3, 16, 16) * 2 - 1
        loss = discriminator_loss(discriminator, real, F.avg_pool2d(real, 3, 1, 1), sharpen.PENALTY)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    real = torch.rand(16, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        told = discriminator(real) - discriminator(F.avg_pool2d(real, 3, 1, 1))
    assert discriminator(real).shape == (16, 1, 4, 4)
    assert (told > 0).float().mean() > 0.9


@pytest.mark.parametrize("kind", ["kl", "dc"])
def test_the_encoder_and_the_latents_scale_stay(root: Path, tmp_path: Path, kind: str) -> None:
    if kind == "dc":
        size = replace(TINY, vae=VaeSize("dc", 4, (32, 32, 64), layers_per_block=1, norm_num_groups=0))
        build_vae(size).save_pretrained(root / "sd" / "vae")
    part = part_of(root)
    before = {name: value.clone() for name, value in part.autoencoder.state_dict().items()}
    scale = part.autoencoder.config.scaling_factor
    _, metrics = train_part(part, tmp_path / "run", OPTIONS)
    kind_of = {"kl": AutoencoderKL, "dc": AutoencoderDC}[kind]
    after = kind_of.from_pretrained(root / "sd" / "vae")
    moved = {name.split(".")[0] for name, value in after.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"decoder"} and after.config.scaling_factor == scale
    assert np.isfinite(list(metrics.values())).all()


def test_the_discriminator_has_a_head_start(root: Path) -> None:
    part = part_of(root)
    batch = part.batch(0)
    assert batch["pixels"].shape == (6, 3, 32, 32) and batch["corners"].max() <= 4
    pulls = []
    for step in (sharpen.HEAD_START - 1, sharpen.HEAD_START):
        losses = {name: loss.item() for name, loss in part.loss({**batch, "step": step}, torch.Generator()).items()}
        error = losses["l1"] + sharpen.MSE_WEIGHT * losses["mse"] + sharpen.TEXTURE_WEIGHT * losses["texture"]
        pulls.append(losses["loss"] - error - losses["discriminator"])
    assert (
        not batch["changed"].any()
        and pulls[0] == pytest.approx(0.0, abs=1e-5)
        and pulls[1] == pytest.approx(sharpen.ADVERSARIAL_WEIGHT * losses["adversarial"], abs=1e-5)
    )


class Editor:
    """Draws latents that say which scene they are of, and says the right edit of every other scene."""

    def __init__(self, root: Path, *, knows: bool = True) -> None:
        self.vae, self.knows = AutoencoderKL.from_pretrained(root / "sd" / "vae"), knows

    def set_progress_bar_config(self, **_: Any) -> None:
        pass

    def __call__(self, images: Any, texts: list[str], seed: list[int], **_: Any) -> SimpleNamespace:
        latents = torch.stack([torch.full((4, 8, 8), float(number)) for number in seed])
        words = [
            SQUARES[number].expressive_instruction.upper() if self.knows and number % 2 else "no" for number in seed
        ]
        return SimpleNamespace(images=latents, expressive_instructions=words)


def test_only_what_an_editor_understood_is_learnt_from(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharpen, "load_pipeline", lambda folder, device: Editor(root))
    monkeypatch.setattr(sharpen, "VAL_SCENES", 4)
    part = part_of(root)
    part.draw(Path("editor"), tmp_path / "run", 20)
    assert part.drawn["train.latents"][:, 0, 0, 0].tolist() == list(range(1, 20, 2))
    assert torch.equal(part.drawn["train.targets"][2], torch.from_numpy(SQUARES[5].target).permute(2, 0, 1))
    batch = part.batch(0)
    assert len(batch["latents"]) == 4 and len(batch["pixels"]) == 6
    changed = part.drawn["train.changed"]
    for latents, (row, column) in zip(batch["latents"], batch["corners"].tolist(), strict=False):
        own = changed[(int(latents[0, 0, 0]) - 1) // 2]
        assert own[row : row + 4, column : column + 4].any()  # the piece shows something of the edit
    _, metrics = train_part(part, tmp_path / "run", OPTIONS)
    assert metrics["drawn_crispness"] > 0
    monkeypatch.setattr(sharpen, "load_pipeline", None)  # what was drawn is kept
    again = part_of(root)
    again.draw(Path("editor"), tmp_path / "run", 20)
    assert torch.equal(again.drawn["train.latents"], part.drawn["train.latents"])


def test_an_editor_of_another_autoencoder_or_without_understanding_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, deaf = Editor(root), Editor(root, knows=False)
    for weight in other.vae.encoder.parameters():
        weight.data.add_(1.0)
    for editor, words in (
        (other, "editor draws on another autoencoder"),
        (deaf, "editor understood none of 4 scenes"),
    ):
        monkeypatch.setattr(sharpen, "load_pipeline", lambda folder, device, editor=editor: editor)
        with pytest.raises(ValueError, match=words):
            part_of(root).draw(Path("editor"), tmp_path / "run", 4)
