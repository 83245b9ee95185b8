"""A stage that starts from a finished model: the same weights, the same losses, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from insightedit import stage3
from insightedit.config import load_config
from insightedit.config.schema import Config
from insightedit.export.card import carried_config, data_facts, training_facts
from insightedit.export.checks import read_run
from insightedit.export.folder import export_run, run_facts
from insightedit.model.build import build_editor
from insightedit.modeling.pretrained import processor_path
from insightedit.pipelines.loading import default_model, load_pipeline
from insightedit.training.checkpoint import StageError, load_stage_weights, load_weights
from insightedit.training.data import build_loader
from insightedit.training.model_start import find_start, load_model_weights, pretrained_config
from insightedit.training.objectives import OBJECTIVES
from insightedit.training.run_folder import base_models, stages_behind, started_from
from tests.training.golden import train


@pytest.fixture(scope="module", params=["insightedit", "smartedit", "mgie", "mige"])
def recipe(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory) -> Path:
    """Run folder of a recipe's last stage."""
    folder = tmp_path_factory.mktemp(recipe)
    return [train(recipe, number, folder) for number in load_config(recipe).stages][-1].run_dir


@pytest.fixture(scope="module")
def model(run, tmp_path_factory) -> Path:
    return export_run(run, tmp_path_factory.mktemp("exports") / "model", dtype="fp32")


def test_the_losses_are_the_finished_runs(recipe, run, model):
    """The adapter is merged, the seed another one: what was learned is all there, BIM's frequencies included."""
    config = replace(read_run(run), init_from=None)
    config.train.seed = 5
    finished, started = build_editor(config), build_editor(pretrained_config(config, model))
    load_stage_weights(finished, run)
    load_weights(started, load_model_weights(started, model), model)
    batch = next(iter(build_loader(config, finished)))
    with torch.no_grad():
        expected, losses = (
            OBJECTIVES["edit"](editor.eval(), batch, config, torch.Generator().manual_seed(1))
            for editor in (finished, started)
        )
    assert "noise" in expected
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_it_trains_on_is_exported_and_says_where_it_came_from(recipe, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = train(recipe, 3, tmp_path, "--init-from", str(model), "train.max_minutes=0")
    assert not first.finished
    run_dir = train(recipe, 3, tmp_path, "--init-from", str(model)).run_dir
    before = json.loads((model / "export.json").read_text())
    steps = training_facts(run_dir)
    assert steps[:-1] == before["steps"]
    assert steps[-1].startswith("stage 3")
    assert set(before["data"]) <= set(data_facts(run_dir))
    again = export_run(run_dir, tmp_path / "again", dtype="fp32")
    card = json.loads((again / "export.json").read_text())
    bases = [row["model"] for row in card["bases"]]
    assert bases[0] == model.name
    assert "mllm" not in bases
    assert {row["model"] for row in before["bases"]} <= set(bases)  # the licences' chain goes on
    assert card["steps"] == steps
    assert len(load_pipeline(again, device="cpu").components) == len(load_pipeline(model, device="cpu").components)


def test_its_folder_alone_is_enough(run, model):
    """No base model of the config is read again."""
    adopted = pretrained_config(replace(read_run(run), init_from=None), model)
    used = base_models(adopted)
    assert all(Path(name).is_relative_to(model) for name in used.values()), used


def test_it_carries_its_config(run, model, tmp_path, monkeypatch):
    """Without secrets and paths of this machine; an older folder, which has none, is told by its parts' files."""
    config, own = read_run(run), read_run(model)
    assert (own.bridge, own.guidance, own.optim, own.stage) == (
        config.bridge,
        config.guidance,
        config.optim,
        config.stage,
    )
    assert str(run.parent) not in (model / "config.yaml").read_text()
    monkeypatch.setenv("A_TOKEN", "secret-words")
    assert "<A_TOKEN>/deep" in carried_config(replace(config, output_dir="secret-words/deep"))
    older = Path(shutil.copytree(model, tmp_path / "older"))
    (older / "config.yaml").unlink()
    scales = config.generation.scale_source_latents
    other = replace(config, init_from=None, generation=replace(config.generation, scale_source_latents=not scales))
    for folder in (model, older):
        assert base_models(pretrained_config(replace(config, init_from=None), folder))
        with pytest.raises(StageError, match=f"Add 'generation.scale_source_latents={scales}' to the command"):
            pretrained_config(other, folder)


@pytest.mark.parametrize("recipe", ["insightedit"], indirect=True)
def test_a_later_stage_finds_the_model_that_an_earlier_one_started_from(recipe, run, model, tmp_path):
    first = train(recipe, 2, tmp_path, "--init-from", str(model))
    last = train(recipe, 3, tmp_path)
    assert first.finished and last.finished
    assert read_run(last.run_dir).generation.model == str(model)
    assert load_pipeline(export_run(last.run_dir, tmp_path / "again"), device="cpu")


@pytest.mark.parametrize("recipe", ["insightedit"], indirect=True)
def test_a_folder_without_text_encoder_takes_the_config_s_base_models(recipe, tmp_path, run, model):
    """As exports were before they held one, and as imports are."""
    older = Path(shutil.copytree(model, tmp_path / "older"))
    shutil.rmtree(older / "tokenizer")
    config = replace(read_run(run), init_from=None)
    assert pretrained_config(config, older).generation == config.generation


def test_the_model_of_the_package_trains_on_anywhere(tmp_path, monkeypatch):
    """From nothing but the package: what it learned is there from the first step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSIGHTEDIT_MINIATURES", str(tmp_path))
    words = ["train.batch_size=4", "train.max_steps=1", "train.num_samples=0", "output_dir=mine"]
    run = stage3.main(["--overlay", "mini", "--init-from", "default", *words])
    assert run.finished
    assert run.losses["place"] < 0.2  # ln 2 = 0.69 untrained
    assert run.losses["lm"] < 6.5  # ln 1024 = 6.9 untrained; these weights know the words of version 0.2 alone
    card = run_facts(run.run_dir, read_run(run.run_dir))
    assert (card["bases"][0]["model"], card["license"]) == ("default", "apache-2.0")


@pytest.mark.parametrize("recipe", ["insightedit"], indirect=True)
def test_companions_lie_beside_parts_of_a_model(model, tmp_path):
    assert processor_path(str(model / "mllm"), "processor") == str(model / "processor")
    assert processor_path("google/flan-t5-xxl", "tokenizer") == "google/flan-t5-xxl"
    (tmp_path / "image_encoder").mkdir()
    lonely = str(tmp_path / "image_encoder")
    assert processor_path(lonely, "feature_extractor") == lonely, "nothing beside it"
    assert processor_path("", "tokenizer") == ""


def test_another_programs_config_is_no_run(tmp_path):
    for text in ("a: [", "- 1", "stage: 3", "model: {x: 1}"):
        (tmp_path / "config.yaml").write_text(text)
        assert (stages_behind(tmp_path), started_from(tmp_path)) == ([], None)
    run = tmp_path / "stage2"
    run.mkdir()
    (run / "config.yaml").write_text("stage: {number: 2}\ninit_from: some/model\n")
    assert (stages_behind(run), started_from(run)) == ([run], "some/model")


def test_what_init_from_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_start("default") == str(default_model())
    (tmp_path / "default").mkdir()
    assert find_start("default") == "default", "a folder of that name is nearer"
    assert find_start("runs/elsewhere/stage2") == "runs/elsewhere/stage2", "no hub id: told as a missing run"
    with pytest.raises(
        StageError,
        match=r"--init-from runs/stage2: there is no such folder here, and the hub gave no model of that name \(.+\)\. "
        "Name the run folder of an earlier stage",
    ):
        find_start("runs/stage2")


def of_tiny(recipe: str, *words: str) -> Config:
    return load_config(recipe, 3, ["tiny"], list(words))


@pytest.mark.parametrize("recipe", ["insightedit"], indirect=True)
class TestRefusals:
    @pytest.fixture
    def copy(self, model, tmp_path) -> Path:
        return Path(shutil.copytree(model, tmp_path / "copy"))

    def test_another_kind_of_model(self, model):
        with pytest.raises(
            StageError, match="reads with a language model, which recipe mige does not have: name the model's own"
        ):
            pretrained_config(of_tiny("mige"), model)

    def test_other_settings(self, model):
        words = ["comprehension.num_edit_tokens=3", "generation.scale_source_latents=true"]
        with pytest.raises(
            StageError,
            match="other settings than this stage has .*num_edit_tokens=3.* Add 'comprehension.num_edit_tokens=4' "
            "'generation.scale_source_latents=False' to the command",
        ):
            pretrained_config(of_tiny("insightedit", *words), model)

    def test_a_folder_that_is_not_whole(self, copy):
        (copy / "config.yaml").write_text("bridge: ${oc.env:HOME}")
        with pytest.raises(StageError, match=r"copy is no whole model: .*config\.yaml holds .* to be filled in"):
            pretrained_config(of_tiny("insightedit"), copy)
        (copy / "config.yaml").unlink()
        (copy / "bridge" / "config.json").write_text("{")
        with pytest.raises(StageError, match=r"copy is no whole model: its bridge/config\.json cannot be read"):
            pretrained_config(of_tiny("insightedit"), copy)

    def test_a_part_that_cannot_be_read(self, copy):
        file = copy / "bridge" / "diffusion_pytorch_model.safetensors"
        file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(StageError, match="its bridge/ cannot be loaded as EditBridge"):
            load_model_weights(build_editor(of_tiny("insightedit")), copy)
        shutil.rmtree(copy / "vae")
        with pytest.raises(StageError, match="its vae/ cannot be loaded as AutoencoderKL"):
            load_model_weights(build_editor(of_tiny("insightedit")), copy)

    def test_an_adapter_without_its_language_model(self, copy):
        (copy / "mllm" / "config.json").unlink()
        with pytest.raises(StageError, match="adapter in place of a language model: export the run again"):
            pretrained_config(of_tiny("insightedit"), copy)

    def test_another_autoencoder(self, copy):
        file = copy / "vae" / "diffusion_pytorch_model.safetensors"
        save_file({name: value * 1.1 for name, value in load_file(file).items()}, file)
        with pytest.raises(StageError, match="draws on another autoencoder than generation.model gives"):
            load_model_weights(build_editor(of_tiny("insightedit")), copy)

    def test_heads_which_no_shape_shows(self, model, tmp_path):
        with pytest.raises(StageError, match="Add 'bridge.qformer.num_heads=2' to the command"):
            train("insightedit", 3, tmp_path, "--init-from", str(model), "bridge.qformer.num_heads=4")

    def test_a_branch_that_the_recipe_does_not_have(self, model, tmp_path):
        with pytest.raises(
            StageError, match=r"a branch that this config does not build \(bridge\.iaa=null\).* leave bridge\.iaa"
        ):
            train("insightedit", 3, tmp_path, "--init-from", str(model), "bridge.iaa=null", "stage.use_iaa=false")
