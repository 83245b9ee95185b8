"""A published checkpoint, imported, is trained on: `--init-from` of a stage names its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from insightedit import stage3
from insightedit.export.checks import read_run
from insightedit.export.folder import export_run
from insightedit.training.checkpoint import StageError, load_tensors, stage_weights
from insightedit.training.run_folder import base_models
from tests.importers.conftest import stored

SHORT = ["--overlay", "tiny", "train.max_steps=2", "train.num_samples=0", "train.ema_decay=null"]
NOISE = "generation.prediction_type=epsilon generation.zero_terminal_snr=False"
WORDS = {
    "smartedit": f"comprehension.num_edit_tokens=32 {NOISE} bridge.qformer.num_layers=6 "
    "bridge.qformer.num_heads=1 bridge.bim.depth=2 bridge.bim.num_heads=8",
    "mgie": f"comprehension.num_edit_tokens=8 {NOISE} bridge.edit_head.width=16 "
    "bridge.edit_head.num_layers=4 bridge.edit_head.num_heads=4 bridge.edit_head.ffn_dim=32",
    "mige": f"{NOISE} bridge.fusion.num_heads=8 bridge.fusion.activation=none",
}
"""What the published models have and the tiny overlay has not."""
CLIP = Path("miniature:tiny/clip")  # no part of SmartEdit or MGIE
LANDED = {
    "smartedit": ("bridge.bim.positions.frequencies", "bridge", "bim.positions.frequencies"),
    "mgie": ("unet.conv_out.weight", "unet", "conv_out.weight"),
    "mige": ("transformer.proj_out.weight", "transformer", "proj_out.weight"),
}


@pytest.mark.parametrize("system", WORDS)
def test_an_imported_model_is_trained_on(made, tmp_path, system):
    folder = made[system][0]
    command = ["--recipe", system, *SHORT, "--init-from", str(folder), f"output_dir={tmp_path / 'run'}"]
    with pytest.raises(StageError) as refused:
        stage3.main(command)
    assert all(f"'{word}'" in str(refused.value) for word in WORDS[system].split())  # it says what to add
    assert not (tmp_path / "run" / "checkpoints").exists()
    run_dir = stage3.main([*command, *WORDS[system].split(), "optim.lr=1e-9"]).run_dir
    name, part, key = LANDED[system]
    torch.testing.assert_close(stage_weights(run_dir)[name], stored(folder, part)[key].float(), rtol=0, atol=1e-6)
    assert (export_run(run_dir, tmp_path / "again") / "model_index.json").is_file()
    assert {Path(model) for model in base_models(read_run(run_dir)).values()} <= {folder, *folder.iterdir(), CLIP}


def test_the_imported_fourier_matrix_stays(made, tmp_path):
    """SmartEdit's BIM reads places by the matrix in its files, not by one drawn here."""
    words = [*WORDS["smartedit"].split(), "--init-from", str(made["smartedit"][0])]
    run_dir = stage3.main(["--recipe", "smartedit", *SHORT, *words, f"output_dir={tmp_path / 'run'}"]).run_dir
    given = made["smartedit"][1]["modulate-15000/adapter_model.bin"]["pe_layer.positional_encoding_gaussian_matrix"]
    kept = load_tensors(run_dir / "inherited.safetensors")["bridge.bim.positions.frequencies"]
    assert torch.equal(kept, given)
