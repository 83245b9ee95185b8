"""The recipe `smartedit` against what its paper and its code say."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import pytest
import torch

from insightedit.config import load_config
from insightedit.generation.guidance import drop_conditions
from insightedit.model.build import build_editor, null_text_states
from insightedit.model.editor import Editor
from insightedit.pipelines.compose import pipeline_from_editor
from insightedit.types import EditCondition

STAGES = (1, 2, 3)


def test_numbers_of_the_stages() -> None:
    configs = [load_config("smartedit", stage) for stage in STAGES]
    assert [c.optim.lr for c in configs] == [2e-4, 1e-5, 1e-5]
    assert [c.optim.warmup_ratio for c in configs] == [0.04, 0.001, 0.001]
    assert [c.optim.weight_decay for c in configs] == [0.0, 0.0, 0.0]
    assert [c.train.max_steps for c in configs] == [150_000, 5_000, 15_000]
    assert [c.stage.objective for c in configs] == ["align", "understand", "edit"]
    assert [c.stage.use_bim for c in configs] == [False, False, True]
    for stage in STAGES:
        eight = load_config("smartedit", stage, ["multi_gpu"]).train
        assert 8 * eight.batch_size * eight.gradient_accumulation_steps == 128
        one = load_config("smartedit", stage, ["single_gpu"]).train
        assert one.batch_size * one.gradient_accumulation_steps == 128


def test_tokens_prompts_and_guidance() -> None:
    config = load_config("smartedit", 3)
    assert config.comprehension.num_edit_tokens == 32
    assert config.comprehension.templates == "thirty"
    assert (config.guidance.guidance_scale, config.guidance.image_guidance_scale) == (7.5, 1.5)
    assert config.guidance.num_inference_steps == 100
    assert (config.guidance.drop_text, config.guidance.drop_both, config.guidance.drop_image) == (0.05,) * 3
    assert config.bridge.iaa is None
    assert not config.generation.scale_source_latents


@pytest.fixture(scope="module")
def editor() -> Editor:
    built = build_editor(load_config("smartedit", 3, ["tiny"]))
    assert isinstance(built, Editor)
    return built


def test_no_image_branch_is_built(editor: Editor) -> None:
    assert editor.bridge.iaa is None
    assert editor.image_encoder is None
    assert not any("_ip" in name for name, _ in editor.unet.named_parameters())


def test_no_text_means_clips_states_of_nothing(editor: Editor) -> None:
    wanted = null_text_states(editor.text_encoder, editor.tokenizer, editor.bridge.config["num_queries"])
    assert torch.equal(editor.bridge.null_text_states, wanted)
    assert wanted.std() > 0


def test_what_each_stage_trains(editor: Editor) -> None:
    names = [name for name, _ in editor.named_parameters()]

    def trained(stage: int) -> set[str]:
        patterns = load_config("smartedit", stage).stage.trainable
        return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}

    rows = {n for n in names if "trainable_tokens_delta" in n} | {n for n in names if n.startswith("bridge.qformer.")}
    drawing = {n for n in names if "lora_" in n or n.startswith("unet.")}
    bim = {n for n in names if n.startswith("bridge.bim.")}
    assert rows and drawing and bim
    assert [trained(stage) for stage in STAGES] == [rows, rows | drawing, rows | drawing | bim]


def test_shares_of_dropped_conditions_and_that_the_spatial_residual_stays() -> None:
    config = load_config("smartedit", 3)
    count = 8000
    condition = EditCondition(torch.ones(count, 1, 1), torch.ones(count, 1, 1, 1))
    dropped, source = drop_conditions(
        condition,
        torch.ones(count, 1, 1, 1),
        torch.zeros(1, 1),
        generator=torch.Generator().manual_seed(0),
        drop_text=config.guidance.drop_text,
        drop_image=config.guidance.drop_image,
        drop_both=config.guidance.drop_both,
    )
    no_text, no_picture = dropped.encoder_hidden_states.flatten() == 0, source.flatten() == 0
    shares = [no_text & ~no_picture, no_text & no_picture, ~no_text & no_picture]
    assert [share.float().mean().item() for share in shares] == pytest.approx([0.05] * 3, abs=0.01)
    assert dropped.spatial_residual is not None
    assert torch.equal(dropped.spatial_residual, condition.spatial_residual)


def test_its_own_sampler_can_draw(editor: Editor) -> None:
    from diffusers import EulerAncestralDiscreteScheduler

    pipeline = pipeline_from_editor(editor, load_config("smartedit", 3, ["tiny"]))
    pipeline.set_progress_bar_config(disable=True)
    picture = np.full((32, 32, 3), 128, np.uint8)
    options = {"seed": 0, "num_inference_steps": 3, "background_lock": False, "output_type": "np"}
    before = pipeline(image=picture, instruction="remove the dog", **options).images[0]
    pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    drawn, again = (pipeline(image=picture, instruction="remove the dog", **options).images[0] for _ in range(2))
    assert np.isfinite(drawn).all()
    np.testing.assert_array_equal(drawn, again)
    assert np.abs(drawn - before).max() > 0.01
