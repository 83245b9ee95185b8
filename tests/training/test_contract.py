from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from insightedit.config.schema import Config, GenerationConfig, LlavaConfig, StageConfig, UNetConfig
from insightedit.training.checkpoint import CheckpointFolder, StageError, load_stage_weights, save_tensors
from insightedit.training.processes import Processes
from insightedit.training.run_folder import check_contract, config_hash, read_contract, write_contract


def config(number: int, **parts: object) -> Config:
    return Config(
        stage=StageConfig(number=number, objective={1: "align", 2: "understand", 3: "edit"}[number]), **parts
    )


def editor(width: int = 3) -> nn.ModuleDict:
    parts = nn.ModuleDict({"bridge": nn.Linear(width, 2)})
    parts.comprehension = nn.Module()
    parts.comprehension.edit_token_ids = [7, 8]
    return parts


def finished(folder: Path, number: int = 1, **parts: object) -> dict:
    with CheckpointFolder(folder / "checkpoints").writing(5, Processes()) as path:
        weights = {f"bridge.{name}": value for name, value in editor()["bridge"].state_dict().items()}
        save_tensors(path / "trainable.safetensors", weights)
    return write_contract(folder, config(number, comprehension=LlavaConfig(num_edit_tokens=2), **parts), editor(), 5)


def test_a_contract_says_what_was_made(tmp_path):
    contract = finished(tmp_path)
    assert contract == read_contract(tmp_path)
    assert contract["keys"] == {"bridge.bias": [2], "bridge.weight": [2, 3]}
    assert contract["stage"] == 1 and contract["edit_token_ids"] == [7, 8] and contract["steps"] == 5
    assert contract["packages"]["torch"].startswith(torch.__version__.split("+")[0])


def test_the_next_stage_accepts_it(tmp_path):
    contract = finished(tmp_path)
    check_contract(contract, config(2, comprehension=LlavaConfig(num_edit_tokens=2)), tmp_path)


def test_weights_are_handed_over(tmp_path):
    finished(tmp_path)
    target = editor()
    nn.init.zeros_(target["bridge"].weight)
    loaded = load_stage_weights(target, tmp_path)
    assert torch.equal(target["bridge"].weight, loaded["bridge.weight"]) and loaded["bridge.weight"].abs().sum() > 0


def test_missing_folder_names_the_command(tmp_path):
    with pytest.raises(
        StageError, match="nowhere does not exist. Run `python -m insightedit.stage1 --overlay tiny` first"
    ):
        read_contract(tmp_path / "nowhere", command="python -m insightedit.stage1 --overlay tiny")


def test_missing_folder_without_a_command(tmp_path):
    with pytest.raises(StageError, match="Run that stage first, or name another one with --init-from"):
        read_contract(tmp_path / "nowhere")


def test_unfinished_stage_says_how_far_it_is(tmp_path):
    finished(tmp_path)
    (tmp_path / "contract.json").unlink()
    with pytest.raises(StageError, match="has not finished: it stopped at step-000005.*Run `do it` again, it goes on"):
        read_contract(tmp_path, command="do it")


def test_stage_without_any_checkpoint(tmp_path):
    with pytest.raises(StageError, match="it has no checkpoint yet"):
        read_contract(tmp_path)


def test_broken_contract(tmp_path):
    (tmp_path / "contract.json").write_text("{")
    with pytest.raises(StageError, match="is not JSON"):
        read_contract(tmp_path)


def test_stage_3_directly_after_1_is_refused(tmp_path):
    contract = finished(tmp_path)
    with pytest.raises(StageError, match="stage 3 comes after stage 2, but .* holds stage 1: run stage 2 first"):
        check_contract(contract, config(3), tmp_path)


def test_stage_3_after_1_where_the_recipe_says_so(tmp_path):
    parts = {"comprehension": LlavaConfig(num_edit_tokens=2), "stages": [1, 3]}
    check_contract(finished(tmp_path), config(3, **parts), tmp_path)


def test_going_back_is_refused(tmp_path):
    with pytest.raises(
        StageError, match="stage 1 cannot start from .* holds stage 3: stages run in the order 1, 2, 3"
    ):
        check_contract(finished(tmp_path, 3), config(1), tmp_path)


def test_another_base_model_is_explained(tmp_path):
    contract = finished(tmp_path)
    other = config(2, generation=GenerationConfig(model="other/sd"))
    with pytest.raises(StageError, match="trained on generation.model=stable-diffusion-v1-5.*uses other/sd"):
        check_contract(contract, other, tmp_path)


def test_stage_1_does_not_bind_the_unet(tmp_path):
    parts = {
        "comprehension": LlavaConfig(num_edit_tokens=2),
        "generation": GenerationConfig(denoiser=UNetConfig(model="other/unet")),
    }
    check_contract(finished(tmp_path), config(2, **parts), tmp_path)


def test_another_number_of_edit_tokens_is_explained(tmp_path):
    with pytest.raises(StageError, match="2 edit tokens, this stage has 32: set comprehension.num_edit_tokens=2"):
        check_contract(finished(tmp_path), config(2), tmp_path)


def test_unknown_keys_are_named(tmp_path):
    finished(tmp_path)
    with pytest.raises(StageError, match="holds 2 weights that this editor does not have, e.g. bridge.bias"):
        load_stage_weights(nn.ModuleDict({"other": nn.Linear(2, 2)}), tmp_path)


def test_shapes_are_compared(tmp_path):
    finished(tmp_path)
    target = editor(width=4)
    before = target["bridge"].bias.detach().clone()
    with pytest.raises(StageError, match=r"bridge.weight of shape \(2, 3\), this editor has \(2, 4\)"):
        load_stage_weights(target, tmp_path)
    assert torch.equal(target["bridge"].bias, before)


def test_hash_depends_on_every_setting():
    plain = config(1)
    assert config_hash(plain) == config_hash(config(1))
    assert config_hash(plain) != config_hash(replace(plain, optim=replace(plain.optim, lr=2e-5)))
    assert json.dumps(config_hash(plain))
