"""Every recipe at every one of its stages, on the tiny models: trains, is stopped and goes on, is saved, edits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from insightedit.config import list_recipes, load_config
from insightedit.export.checks import read_run
from insightedit.export.folder import export_run
from insightedit.model.build import build_editor
from insightedit.pipelines.compose import pipeline_from_editor
from insightedit.pipelines.loading import load_pipeline
from insightedit.training.checkpoint import CheckpointFolder, load_stage_weights, stage_weights
from insightedit.training.trainable import select_trainable
from tests.training.golden import GOLDEN, STEPS, cases, read_losses, train

RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Between CPUs: other vector units sum in another order, and five steps of Adam enlarge it (measured: 2e-5)."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The folder of all recipes' runs; `chain` trains what is asked for, once."""
    return tmp_path_factory.mktemp("recipes")


def chain(runs: Path, recipe: str, stage: int) -> Path:
    """Run folder of a stage, all stages before it trained."""
    for number in load_config(recipe).stages:
        if number <= stage and not (runs / recipe / f"stage{number}" / "contract.json").exists():
            summary = train(recipe, number, runs / recipe)
            assert summary.finished
            assert summary.steps == STEPS
    return runs / recipe / f"stage{stage}"


@pytest.mark.parametrize(("recipe", "stage"), cases())
def test_it_trains_with_the_losses_it_always_had(runs, recipe, stage):
    losses = read_losses(chain(runs, recipe, stage))
    golden = json.loads(GOLDEN.read_text())[recipe][f"stage{stage}"]
    assert losses.keys() == golden.keys(), "python -m tests.training.golden writes them anew"
    for name, values in losses.items():
        assert len(values) == STEPS
        assert all(map(math.isfinite, values))
        assert values == pytest.approx(golden[name], rel=RELATIVE, abs=ABSOLUTE), name


def test_golden_losses_are_of_recipes_that_exist():
    golden = json.loads(GOLDEN.read_text())
    assert {(r, int(s.removeprefix("stage"))) for r, stages in golden.items() for s in stages} == set(cases())


@pytest.mark.parametrize(("recipe", "stage"), cases())
def test_stopped_and_gone_on_is_bit_equal(runs, tmp_path, recipe, stage):
    straight = chain(runs, recipe, stage)
    first = load_config(recipe).stages[0] == stage
    begin = [] if first else ["--init-from", str(chain(runs, recipe, stage - 1))]
    stopped = train(recipe, stage, tmp_path, *begin, "train.max_minutes=0")
    assert (stopped.steps, stopped.finished) == (1, False)
    resumed = train(recipe, stage, tmp_path, *begin)
    assert (resumed.resumed_from, resumed.steps, resumed.finished) == (1, STEPS, True)
    ours, theirs = stage_weights(resumed.run_dir), stage_weights(straight)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize(("recipe", "stage"), cases())
def test_what_was_saved_is_what_was_trained(runs, recipe, stage):
    run_dir = chain(runs, recipe, stage)
    config = read_run(run_dir)
    editor = build_editor(config)
    report = select_trainable(editor, config.stage.trainable)
    fresh = {name: value.detach().clone() for name, value in editor.named_parameters()}
    loaded = load_stage_weights(editor, run_dir)
    assert set(report.names) <= set(loaded)
    moved = {name for name in report.names if not torch.equal(loaded[name], fresh[name])}
    parts = {name.split(".")[0] for name in report.names}
    assert {name.split(".")[0] for name in moved} == parts, "a part that trains does not move"
    newest = CheckpointFolder(run_dir / "checkpoints").latest()
    assert newest is not None
    assert newest.name == f"step-{STEPS:06d}"


@pytest.mark.parametrize("recipe", list_recipes())
def test_the_last_stages_export_edits_a_picture_as_the_run_itself(runs, tmp_path, recipe):
    run_dir = chain(runs, recipe, load_config(recipe).stages[-1])
    folder = export_run(run_dir, tmp_path / "model", dtype="fp32")
    exported = load_pipeline(folder, "cpu")
    config = read_run(run_dir)
    editor = build_editor(config)
    load_stage_weights(editor, run_dir)
    live = pipeline_from_editor(editor, config)
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    results = []
    for pipeline in (exported, exported, live):
        pipeline.set_progress_bar_config(disable=True)
        results.append(
            pipeline(picture, "remove the dog", seed=3, background_lock=False, output_type="np", force=True)
        )
    again, here = results[1].images[0], results[2].images[0]
    edited = results[0].images[0]
    assert edited.shape == picture.shape
    assert np.isfinite(edited).all()
    assert edited.std() > 0
    assert np.abs(edited - picture / 255).max() > 0.02
    np.testing.assert_array_equal(edited, again)
    np.testing.assert_allclose(edited, here, atol=2 / 255)  # LoRA is folded into the weights, which rounds
    assert results[0].expressive_instructions == results[2].expressive_instructions
