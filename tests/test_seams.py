"""The seams hold: an MLLM, a denoiser, a benchmark and a metric of one file each, outside the package, are enough.

`tests/seams` is what a stranger writes. They train, edit, are exported, loaded again, and score.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from insightedit import load_pipeline, stage3
from insightedit.cli.eval import app as evaluation
from insightedit.export.folder import export_run
from insightedit.training.run_folder import read_run
from tests.runs import TINY

MLLM = "comprehension.kind=tests.seams.toy_mllm:ToyComprehension"
DENOISER = "generation.denoiser.kind=tests.seams.toy_denoiser:ToyDenoiser"
PIXART = "generation.denoiser.kind=pixart"
TEXT_ONLY = ["bridge.bim=null", "bridge.iaa=null", "stage.use_bim=false", "stage.use_iaa=false"]
CASES = {
    "mllm": [MLLM, "stage.trainable=['comprehension.*', 'bridge.*', 'unet.*']"],
    "denoiser": [DENOISER, *TEXT_ONLY, "stage.trainable=['bridge.*', 'transformer.*']"],
    "both": [MLLM, DENOISER, *TEXT_ONLY, "stage.trainable=['comprehension.*', 'bridge.*', 'transformer.*']"],
    "llava and pixart": [PIXART, *TEXT_ONLY, "stage.trainable=['*lora_*', 'bridge.*', 'transformer.*']"],
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy benchmark's folder."""
    folder = tmp_path_factory.mktemp("toy")
    random = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(random.integers(0, 256, (40, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "words.txt").write_text("make it darker\nremove the dog\n")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_it_trains_edits_is_exported_loaded_and_scored(case, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = stage3.main(["--recipe", "insightedit", *TINY, "stages=[3]", *CASES[case]])
    assert run.finished

    folder = export_run(run.run_dir, tmp_path / "model", dtype="fp32")
    pipe = load_pipeline(folder, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    first, again = (
        pipe(photos / "0.png", "make it darker", seed=seed, background_lock=False).images[0] for seed in (1, 1)
    )
    other = pipe(photos / "0.png", "make it darker", seed=2, background_lock=False).images[0]
    assert first.size == (32, 40)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)

    words = ["tests.seams.toy_benchmark:Toy", str(photos), "--model", str(folder), "--out", str(tmp_path / "scores")]
    done = CliRunner().invoke(evaluation, [*words, "--metric", "tests.seams.toy_metric:Brightness"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (tmp_path / "scores" / "records.jsonl").read_text().splitlines()]
    assert {row["metric_name"] for row in rows} == {"L1", "brightness"}
    assert "brightness" in done.output


def test_a_folder_imports_no_module(tmp_path):
    """Somebody else's config may name any module, one beside it too: it is refused until its user imported it."""
    (tmp_path / "config.yaml").write_text("comprehension: {kind: 'never_imported.evil:Part'}\n")
    with pytest.raises(ValueError, match=r"comprehension.kind in a saved config is never_imported.evil:Part, and a f"):
        read_run(tmp_path)
    assert "never_imported" not in sys.modules
