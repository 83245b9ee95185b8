"""The objectives on real tiny parts: which losses, which gradients, what is repeatable."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from insightedit.config.load import load_config
from insightedit.model.build import build_editor
from insightedit.model.editor import Editor
from insightedit.training.data import build_loader
from insightedit.training.objectives import OBJECTIVES
from insightedit.training.trainable import select_trainable
from insightedit.types import NoisePrediction


def prepare(stage: int, *overrides: str):
    config = load_config("insightedit", stage, ["tiny"], list(overrides))
    editor = build_editor(config)
    select_trainable(editor, config.stage.trainable)
    editor.train()
    return config, editor, next(iter(build_loader(config, editor)))


def losses_of(stage: int, seed: int = 0, *overrides: str):
    config, editor, batch = prepare(stage, *overrides)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(seed)
    return editor, OBJECTIVES[config.stage.objective](editor, batch, config, generator)


@pytest.mark.usefixtures("tiny_root")
class TestObjectives:
    def test_stage_1_aligns_and_does_not_draw(self) -> None:
        editor, losses = losses_of(1)
        assert set(losses) == {"lm", "align", "metric/qformer_spread"}
        assert editor.denoiser is None
        (losses["lm"] + losses["align"]).backward()
        assert all(p.grad is not None for p in editor.bridge.qformer.parameters())

    def test_stage_1_on_pictures_names_words_and_places(self) -> None:
        overrides = ["data.sources=[{kind: descriptions}]", "bridge.qformer.token_head=true"]
        overrides += ["bridge.bim.place_head=true", "stage.use_bim=true"]
        overrides += ["stage.trainable=[bridge.qformer.*, bridge.token_out.*, bridge.bim.*]"]
        editor, losses = losses_of(1, 0, *overrides)
        assert set(losses) == {"lm", "align", "token", "place", "metric/qformer_spread"}
        (losses["token"] + losses["place"]).backward()
        assert editor.bridge.token_out.weight.grad.abs().max() > 0
        assert editor.bridge.bim.image_out.weight.grad.abs().max() > 0
        assert all(p.grad is not None for p in editor.bridge.qformer.parameters())

    def test_the_token_loss_is_small_where_the_words_are_right(self) -> None:
        overrides = ["data.sources=[{kind: descriptions}]", "bridge.qformer.token_head=true"]
        config, editor, batch = prepare(1, *overrides)
        words = F.normalize(editor.text_encoder.get_input_embeddings().weight, dim=-1)

        def loss_for(ids: torch.Tensor) -> float:
            editor.bridge.qformer.forward = lambda _: 100 * words[ids]
            torch.nn.init.eye_(editor.bridge.token_out.weight)
            torch.nn.init.zeros_(editor.bridge.token_out.bias)
            return float(OBJECTIVES["align"](editor, batch, config, torch.Generator())["token"])

        ids = batch.text_target_ids
        ends = (ids == editor.tokenizer.eos_token_id).int().argmax(dim=1)
        padded = ids.clone()
        padded[torch.arange(ids.shape[1]) > ends[:, None]] = 5
        assert loss_for(ids) < 0.1
        assert loss_for(padded) == pytest.approx(loss_for(ids))  # what follows the end does not count
        wrong = ids.clone()
        wrong[:, 2] = 5
        assert loss_for(wrong) > 1

    @pytest.mark.parametrize("stage", [2, 3])
    def test_drawing_stages_name_their_losses(self, stage: int) -> None:
        _, losses = losses_of(stage)
        assert set(losses) == {"lm", "iaa", "noise", "metric/qformer_spread"}
        assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())

    def test_stage_3_reaches_bim_and_stage_2_does_not(self) -> None:
        for stage, reached in ((2, False), (3, True)):
            editor, losses = losses_of(stage)
            losses["noise"].backward()
            gradients = [p.grad for p in editor.bridge.bim.parameters() if p.requires_grad]
            assert any(g is not None for g in gradients) == reached

    def test_the_generator_decides(self) -> None:
        same = [float(losses_of(3, 1)[1]["noise"].detach()) for _ in range(2)]
        assert same[0] == same[1]
        assert same[0] != float(losses_of(3, 2)[1]["noise"].detach())

    def test_a_place_head_teaches_bim_where_the_edit_is(self) -> None:
        editor, losses = losses_of(3, 0, "bridge.bim.place_head=true")
        assert set(losses) == {"lm", "iaa", "noise", "place", "metric/qformer_spread"}
        assert float(losses["place"].detach()) == pytest.approx(math.log(2), abs=0.3)  # v' starts at zero: undecided
        losses["place"].backward()
        assert editor.bridge.bim.image_out.weight.grad.abs().max() > 0
        assert set(losses_of(2, 0, "bridge.bim.place_head=true")[1]) == {"lm", "iaa", "noise", "metric/qformer_spread"}

    @pytest.mark.parametrize("scaled", [True, False])
    def test_with_a_change_floor_a_copy_costs_one(self, scaled: bool) -> None:
        overrides = ["generation.prediction_type=sample", "loss.change_floor=1e-6", "loss.min_timestep=999"]
        overrides += [f"guidance.drop_{name}=0.0" for name in ("text", "image", "both")]
        overrides += [f"generation.scale_source_latents={scaled}"]
        config, editor, batch = prepare(3, *overrides)
        factor = 1.0 if scaled else editor.vae.config.scaling_factor
        editor.predict_noise = lambda noisy, timesteps, source, condition: NoisePrediction(source * factor)
        losses = OBJECTIVES["edit"](editor, batch, config, torch.Generator().manual_seed(0))
        # the target is a sample of a narrow posterior, drawn once for weights and error alike
        assert float(losses["noise"]) == pytest.approx(1.0, rel=1e-4)

    def test_dropping_every_condition_silences_the_bridge(self) -> None:
        editor, losses = losses_of(3, 0, "guidance.drop_text=0.0", "guidance.drop_both=1.0", "guidance.drop_image=0.0")
        losses["noise"].backward()
        assert all(p.grad is None or not p.grad.any() for p in editor.bridge.qformer.parameters())

    def test_an_editor_of_stage_1_explains_that_it_cannot_draw(self) -> None:
        _, editor, _ = prepare(1)
        assert isinstance(editor, Editor)
        with pytest.raises(RuntimeError, match="this editor has no UNet"):
            editor.predict_noise(None, None, None, None)
