"""Model folders are found, explained, and written whole."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from insightedit.export.checks import SHEET
from insightedit.export.folder import export_editor, export_pipeline
from insightedit.pipelines import loading as hub
from insightedit.pipelines.compose import pipeline_from_editor
from insightedit.pipelines.loading import describe_model, find_model, load_pipeline


class TestFinding:
    def test_default(self, monkeypatch, tiny_folder, tmp_path):
        monkeypatch.setattr(hub, "DEFAULT_MODEL", tmp_path / "none")
        with pytest.raises(FileNotFoundError, match=r"No default model at .*train one"):
            find_model()
        monkeypatch.setattr(hub, "DEFAULT_MODEL", tiny_folder)
        assert find_model() == str(tiny_folder)

    def test_run_folder(self, tiny_folder, tmp_path):
        (tmp_path / "model").symlink_to(tiny_folder)
        assert find_model(tmp_path) == str(tmp_path / "model")

    def test_hub_id(self):
        assert find_model("somebody/some-model_1.0") == "somebody/some-model_1.0"

    @pytest.mark.parametrize("name", ["./some/where", "/no/where", "nowhere", "../x"])
    def test_missing(self, name):
        with pytest.raises(FileNotFoundError, match=r"No model folder at .*hub id owner/name"):
            find_model(name)

    def test_no_model(self, tmp_path):
        with pytest.raises(ValueError, match=r"holds no model_index\.json"):
            find_model(tmp_path)


def test_load(tiny_folder):
    pipeline = load_pipeline(tiny_folder, "cpu")
    assert pipeline.unet.dtype == torch.float32
    assert pipeline.device.type == "cpu"


def test_load_damaged(tiny_folder, tmp_path):
    (tmp_path / "model_index.json").write_text((tiny_folder / "model_index.json").read_text())
    with pytest.raises(ValueError, match="Cannot load the model"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize(
    ("device", "message"), [("toaster", "is no device: use cpu"), ("mps", "is not there on this machine")]
)
def test_bad_device(tiny_folder, device, message):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ValueError, match=message):
        load_pipeline(tiny_folder, device)


class TestExport:
    def test_files(self, tiny_folder):
        names = {path.name for path in tiny_folder.iterdir()}
        parts = {"mllm", "processor", "bridge", "vae", "unet", "scheduler", "image_encoder", "feature_extractor"}
        assert names == parts | {"model_index.json", "README.md", "pipeline.py", "export.json"}

    def test_replaces_an_old_model_only(self, tiny_pipeline, tiny_folder, tmp_path):
        """What an older export wrote goes; whatever else lies in the folder, a clone for one, is not touched."""
        target = export_pipeline(tiny_pipeline, tmp_path / "model")
        stale = ("unet/diffusion_pytorch_model-00001-of-00002.safetensors", "text_encoder/config.json", SHEET)
        theirs = (".git/config", "notes.md", "data/model_index.json", "unet/merges.md", ".env", "unet/my.safetensors")
        for name in (*stale, *theirs):
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).write_text(name)
        (target / "data/link").symlink_to(target / "notes.md")
        export_pipeline(tiny_pipeline, target)
        assert not [name for name in stale if (target / name).exists()]
        assert [(target / name).read_text() for name in theirs] == list(theirs)
        assert (target / "data/link").is_symlink()
        found = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()} - {"data/link"}
        assert found - set(theirs) == {
            p.relative_to(tiny_folder).as_posix() for p in tiny_folder.rglob("*") if p.is_file()
        }
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    @pytest.mark.parametrize("value", [0o000, 0o022, 0o027, 0o077])
    def test_others_may_read_what_the_umask_allows(self, tiny_pipeline, tmp_path, value):
        before = os.umask(value)
        try:
            target = export_pipeline(tiny_pipeline, tmp_path / "model")
        finally:
            os.umask(before)
        for path in (target, *target.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~value, path

    def test_another_program_s_model_is_kept(self, tiny_pipeline, tmp_path):
        (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
        with pytest.raises(ValueError, match="holds a model that `insightedit export` did not write"):
            export_pipeline(tiny_pipeline, tmp_path)

    def test_into_the_folder_one_stands_in(self, tiny_pipeline, tmp_path, monkeypatch):
        (tmp_path / "model").mkdir()
        monkeypatch.chdir(tmp_path / "model")
        for _ in range(2):
            export_pipeline(tiny_pipeline, ".")
            assert (Path("model_index.json")).is_file() and not [n for n in os.listdir() if n.startswith(".")]
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    def test_keeps_other_files(self, tiny_pipeline, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(ValueError, match="holds other files"):
            export_pipeline(tiny_pipeline, tmp_path)

    def test_failure_leaves_nothing(self, tiny_pipeline, tmp_path, monkeypatch):
        monkeypatch.setattr("insightedit.export.folder.model_card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export_pipeline(tiny_pipeline, tmp_path / "model")
        assert not list(tmp_path.iterdir())

    def test_card(self, tiny_pipeline, tmp_path):
        card = {"license": "mit", "datasets": ["scenes"], "steps": "stage 1: 10 steps", "skill": ["a", "b"]}
        text = (export_pipeline(tiny_pipeline, tmp_path / "m", card=card) / "README.md").read_text()
        header = yaml.safe_load(text.split("---")[1])
        assert header["license"] == "mit"
        assert header["library_name"] == "diffusers"
        assert header["pipeline_tag"] == "image-to-image"
        assert header["datasets"] == ["scenes"]
        assert "- stage 1: 10 steps" in text
        assert re.search(r"\| in all \| \d+\.\d M parameters \|", text)


class TestEditor:
    """A trained editor, in use and written down."""

    def test_preview_draws_with_the_live_parts(self, tiny_editor, picture_of):
        editor, config = tiny_editor
        pipeline = pipeline_from_editor(editor, config)
        pipeline.set_progress_bar_config(disable=True)
        editor.train()
        before = {name: value.clone() for name, value in editor.state_dict().items()}
        pictures = [np.asarray(picture_of("RGB", (32, 32), seed)) for seed in (1, 2)]
        options = {"seed": [0, 1], "batch_size": 2, "background_lock": False, "output_type": "np"}
        first = pipeline(image=pictures, instruction=["make it red", "remove the dog"], **options).images
        assert first[0].shape == (32, 32, 3)
        assert editor.training
        assert editor.comprehension.mllm.training
        assert all(torch.equal(value, before[name]) for name, value in editor.state_dict().items())
        with torch.no_grad():
            for name, parameter in editor.comprehension.named_parameters():
                if "lora_B" in name:
                    parameter.normal_()
        again = pipeline(image=pictures, instruction=["make it red", "remove the dog"], **options).images
        assert not np.array_equal(first[0], again[0])

    def test_export_draws_the_same(self, tiny_editor, tmp_path, picture_of):
        editor, config = tiny_editor
        folder = export_editor(editor, config, tmp_path / "model", torch.float32)
        assert not [p for p in folder.rglob("*") if "adapter" in p.name]
        options = {"seed": 3, "output_type": "latent"}
        source = picture_of("RGB", (32, 32))
        results = []
        for pipeline in (pipeline_from_editor(editor, config), load_pipeline(folder, "cpu")):
            pipeline.set_progress_bar_config(disable=True)
            results.append(pipeline(source, "make it red", **options).images)
        torch.testing.assert_close(results[0], results[1], atol=1e-3, rtol=1e-3)

    def test_half_precision_folder_is_small(self, tiny_editor, tmp_path):
        editor, config = tiny_editor
        editor.image_encoder = None
        folder = export_editor(editor, config, tmp_path / "model")
        weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        kept = (editor.bridge, editor.vae, editor.unet, editor.comprehension)
        count = sum(p.numel() for part in kept for p in part.parameters())
        assert weights < 2.1 * count
        assert not (folder / "image_encoder").exists()
        assert {p.dtype for p in editor.unet.parameters()} == {torch.float32}

    def test_stage_1_does_not_draw(self, tiny_editor, tmp_path):
        editor, config = tiny_editor
        editor.unet = None
        with pytest.raises(ValueError, match="has no generator"):
            export_editor(editor, config, tmp_path / "model")


def test_describe(tiny_folder):
    facts = describe_model(tiny_folder)
    assert facts["resolution"] == "32 px"
    assert facts["license"] == "apache-2.0"
    with pytest.raises(ValueError, match="local model folders"):
        describe_model("owner/name")
