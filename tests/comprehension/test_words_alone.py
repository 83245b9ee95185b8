"""Instructions whose source picture has no place among the words: MIGE's ablation without multimodal instructions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from insightedit.config import load_config
from insightedit.export.folder import export_editor
from insightedit.model.build import build_editor
from insightedit.pipelines.loading import load_pipeline
from insightedit.training.data import build_loader
from insightedit.training.objectives import edit

WORDS_ALONE = ["comprehension.source_in_text=false", "train.batch_size=2"]
PARK, DOG = (np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8) for seed in (0, 1))


@pytest.fixture(scope="module")
def config():
    return load_config("mige", 3, ["tiny"], [*WORDS_ALONE, "data.sources=[{kind: scenes}]"])


@pytest.fixture(scope="module")
def editor(config):
    return build_editor(config)


def test_the_words_stand_alone(editor):
    batch = editor.comprehension.tokenize(["remove the dog"], [PARK], [[]])
    assert batch.pixel_values is None
    assert not batch.image_positions.any()
    plain = build_editor(load_config("mige", 3, ["tiny"])).comprehension.tokenize(["remove the dog"], [PARK], [[]])
    assert plain.pixel_values.shape[0] == 1
    assert plain.image_positions.any()


def test_references_keep_their_places(editor):
    batch = editor.comprehension.tokenize(["add <imagehere> here"], [PARK], [[DOG]])
    assert batch.pixel_values.shape[0] == 1
    assert batch.image_positions.sum() == editor.comprehension.picture_encoder.config.num_query_tokens


def test_it_trains_without_any_picture_in_the_text(config, editor):
    batch = next(iter(build_loader(config, editor)))
    losses = edit(editor, batch, config, torch.Generator().manual_seed(0))
    losses["noise"].backward()
    assert torch.isfinite(losses["noise"].detach())
    assert editor.bridge.fusion.out.weight.grad is None
    assert editor.comprehension.text_encoder.shared.weight.grad.abs().sum() > 0
    editor.zero_grad(set_to_none=True)


def test_a_saved_model_reads_as_it_was_trained(config, editor, tmp_path):
    pipe = load_pipeline(export_editor(editor, config, tmp_path / "model", torch.float32), device="cpu")
    assert pipe.config.source_in_text is False
    assert pipe.comprehension.tokenize(["remove the dog"], [PARK], [[]]).pixel_values is None
    pipe.set_progress_bar_config(disable=True)
    assert pipe(PARK, "remove the dog", seed=0).images[0].size == (32, 32)
