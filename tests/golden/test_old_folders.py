"""Folders that 0.1 wrote still load: the default that came along, exports, and runs, which also go on.

`tests/data/golden/old` holds their small files as 0.1 wrote them, and is never written anew. Their weights were random;
here they are drawn from the names and shapes of then, so that a tensor that gets another name is missed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from insightedit import load_pipeline
from insightedit.export.folder import export_run
from insightedit.pipelines.loading import describe_model
from tests.pipeline.test_pixels import LEVEL, blocks
from tests.runs import TINY
from tests.training.golden import STAGES

DATA = Path(__file__).parents[1] / "data" / "golden"
OLD = DATA / "old"
PIXELS = OLD / "pixels.npz"
MODELS = {"insightedit": "InsightEditPipeline", "mige": "InterleavedEditPipeline"}
RUNS = [("insightedit", 3), ("mige", 3)]


def draw(shapes: dict[str, list[int]], dtype: torch.dtype, scale: float = 0.1) -> dict[str, torch.Tensor]:
    """Numbers for named tensors, the same on any machine; weights of norms around one."""
    random = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        values = torch.from_numpy(random.standard_normal(shape) * scale)
        is_norm = len(shape) == 1 and name.endswith("weight")
        tensors[name] = (values + is_norm).to(dtype)
    return tensors


def fill(folder: Path) -> Path:
    """A folder that holds only names and shapes of its weights, with weights."""
    weights = folder / "weights.json"
    for name, shapes in json.loads(weights.read_text()).items():
        save_file(draw(shapes, torch.float16), folder / name, {"format": "pt"})
    weights.unlink()
    return folder


def old_export(folder: Path, recipe: str, tiny_root: Path) -> Path:
    """A tiny export of 0.1."""
    fill(Path(shutil.copytree(OLD / f"export-{recipe}", folder)))
    if recipe == "mige":  # its tokenizer is large
        shutil.copyfile(tiny_root / "t5" / "tokenizer.json", folder / "tokenizer" / "tokenizer.json")
    return folder


def old_run(root: Path, recipe: str, stage: int, step: int = 2) -> Path:
    """A run of 0.1 in `root/runs/RECIPE/stageN`: finished at step 2, or stopped at step 1."""
    run = root / "runs" / recipe / f"stage{stage}"
    shutil.copytree(OLD / "runs" / recipe / f"stage{stage}", run)
    shapes = json.loads((run / "contract.json").read_text())["keys"]
    for folder in (run / "checkpoints").glob("step-*"):
        trained = json.loads((folder / "trainer.json").read_text())["trainable"]
        trainable = draw({name: shapes[name] for name in trained}, torch.float32)
        save_file(trainable, folder / "trainable.safetensors")
        optimizer = {f"exp_avg/{name}": 0.01 * value for name, value in trainable.items()}
        optimizer |= {f"exp_avg_sq/{name}": value**2 for name, value in trainable.items()}
        optimizer |= {f"step/{name}": torch.tensor(1.0) for name in trainable}
        save_file(optimizer, folder / "optimizer.safetensors")
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        (folder / "COMPLETE").write_text(json.dumps(sizes))
    inherited = {name: shape for name, shape in shapes.items() if name not in trained}
    if inherited:
        save_file(draw(inherited, torch.float32), run / "inherited.safetensors")
    if step == 1:
        shutil.rmtree(run / "checkpoints" / "step-000002")
        (run / "checkpoints" / "latest").write_text("step-000001\n")
        (run / "contract.json").unlink()
        log = run / "log.jsonl"
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:1]))
    return run


def edit(folder: Path) -> np.ndarray:
    """Means of the blocks of an edit."""
    pipe = load_pipeline(folder, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    y, x = np.mgrid[:32, :32]
    photo = np.stack([8 * x, 8 * y, 4 * (x + y)], axis=-1).astype(np.uint8)
    return blocks(pipe(photo, "make the dog red", seed=3, background_lock=False, output_type="np").images[0])


@pytest.fixture
def inside(tmp_path):
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def test_the_default_of_then_draws_what_it_drew(tmp_path):
    """Of 0.1 and of 0.2, with other weights: the package's own are later ones."""
    folder = fill(Path(shutil.copytree(OLD / "default", tmp_path / "default")))
    found, kept = edit(folder), np.load(PIXELS)["default"]
    assert found.std() > 4 * LEVEL
    assert np.abs(found - kept).max() <= LEVEL
    assert describe_model(folder)["recipe"] == "insightedit"


@pytest.mark.parametrize("recipe", MODELS)
def test_an_export_of_then_draws_what_it_drew(tmp_path, tiny_root, recipe):
    folder = old_export(tmp_path / "model", recipe, tiny_root)
    found, kept = edit(folder), np.load(PIXELS)[recipe]
    assert found.std() > 4 * LEVEL
    assert np.abs(found - kept).max() <= LEVEL
    assert describe_model(folder)["recipe"] == recipe


@pytest.mark.parametrize("recipe", MODELS)
def test_diffusers_itself_loads_an_export_of_then(tmp_path, tiny_root, monkeypatch, recipe):
    from diffusers import DiffusionPipeline

    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    for name in [name for name in sys.modules if name.startswith("diffusers_modules.local")]:
        monkeypatch.delitem(sys.modules, name)  # it adds to the code of another folder of the same process
    loaded = DiffusionPipeline.from_pretrained(
        old_export(tmp_path / "model", recipe, tiny_root), custom_pipeline="pipeline", trust_remote_code=True
    )
    assert type(loaded).__name__ == MODELS[recipe]


@pytest.mark.parametrize("recipe", MODELS)
def test_a_stage_starts_from_an_export_of_then(inside, tiny_root, recipe):
    folder = old_export(inside / "model", recipe, tiny_root)
    run = STAGES[3](["--recipe", recipe, *TINY, "--init-from", str(folder)])
    assert run.finished


@pytest.mark.parametrize(("recipe", "stage"), RUNS)
def test_a_run_of_then_is_exported(inside, recipe, stage):
    folder = export_run(old_run(inside, recipe, stage), inside / "model")
    pictures = edit(folder)
    assert np.isfinite(pictures).all()
    assert describe_model(folder)["recipe"] == recipe


@pytest.mark.parametrize(("recipe", "stage"), RUNS)
def test_a_stopped_run_of_then_goes_on(inside, recipe, stage):
    if recipe == "insightedit":
        old_run(inside, recipe, 2)
    run = old_run(inside, recipe, stage, step=1)
    summary: Any = STAGES[stage](["--recipe", recipe, *TINY])
    assert summary.finished
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2]
    assert json.loads((run / "contract.json").read_text())["steps"] == 2


def test_a_stage_follows_a_run_of_then(inside):
    old_run(inside, "insightedit", 2)
    assert STAGES[3](["--recipe", "insightedit", *TINY]).finished
    assert (inside / "runs/insightedit/stage3/contract.json").is_file()
