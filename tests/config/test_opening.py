"""Base models that cannot be opened are told by the setting that names them."""

from __future__ import annotations

import pytest
from safetensors import SafetensorError

from insightedit.config import ConfigError, load_config
from insightedit.model.build import build_editor, check_resolution
from insightedit.modeling.pretrained import open_base_model
from insightedit.training.run import run_from_command_line, run_stage


@pytest.mark.parametrize("error", [OSError, ValueError, KeyError, RuntimeError, SafetensorError])
def test_a_reason_of_one_line(error):
    with (
        pytest.raises(
            ConfigError, match=r"^a\.key: owner/model cannot be loaded as a thing \('?first line'?\)\. Name"
        ),
        open_base_model("a.key", "owner/model", "a thing") as place,
    ):
        assert place == "owner/model"
        raise error("first line." if error is not KeyError else "first line")


def test_own_words_pass(monkeypatch, tmp_path):
    monkeypatch.setenv("INSIGHTEDIT_MINIATURES", str(tmp_path))
    with pytest.raises(ConfigError, match="^told already$"), open_base_model("a.key", "owner/model", "a thing"):
        raise ConfigError("told already")
    with (
        pytest.raises(FileNotFoundError, match="miniature:mini/llava: no model in"),
        open_base_model("a.key", "miniature:mini/llava", "a thing"),
    ):
        raise AssertionError("not reached")


@pytest.mark.parametrize(
    ("recipe", "stage", "key", "what"),
    [
        ("insightedit", 1, "comprehension.model", "a LLaVA model in transformers' format"),
        ("insightedit", 1, "generation.model", "a Stable Diffusion pipeline in diffusers' format"),
        ("insightedit", 2, "generation.denoiser.model", "a folder whose unet/ fits this config"),
        ("insightedit", 2, "generation.image_encoder", "a CLIP model in transformers' format"),
        ("mige", 3, "comprehension.vision", "a BLIP-2 in transformers' format"),
        ("mige", 3, "comprehension.text_encoder", "a T5 in transformers' format"),
        ("mige", 3, "generation.model", "a Stable Diffusion pipeline in diffusers' format"),
        ("mige", 3, "generation.denoiser.model", r"a PixArt pipeline \(transformer/\)"),
    ],
)
def test_every_base_model_is_told_by_its_key(recipe, stage, key, what, tmp_path):
    config = load_config(recipe, stage, ["tiny"], [f"{key}={tmp_path}"])
    with pytest.raises(ConfigError, match=rf"^{key}: {tmp_path} cannot be loaded as {what}"):
        build_editor(config)


@pytest.mark.parametrize(("recipe", "stage"), [("insightedit", 2), ("mige", 3)])
def test_pictures_have_to_fit_autoencoder_and_denoiser(recipe, stage):
    """Before training, not at the first sample or at the export."""
    config = load_config(recipe, stage, ["tiny"], ["generation.resolution=33"])
    with pytest.raises(ConfigError, match=r"generation\.resolution is 33: .* a multiple of 8, e\.g\. 32 or 40\."):
        build_editor(config)
    check_resolution(32, 8)
    with pytest.raises(ConfigError, match=r"resolution is 36: .* a multiple of 8, e\.g\. 32 or 40\."):
        check_resolution(36, 8)
    with pytest.raises(ConfigError, match=r"resolution is 4: .* a multiple of 8, e\.g\. 8\."):
        check_resolution(4, 8)


def test_a_stage_ends_in_one_sentence(tmp_path, capsys):
    """Neither a wrong base model nor models that do not fit nor a place nobody can write to is a traceback."""
    (tmp_path / "file").touch()

    def told(recipe: str, stage: int, *words: str) -> str:
        argv = ["--recipe", recipe, "--overlay", "tiny", f"output_dir={tmp_path / 'run'}", *words]
        with pytest.raises(SystemExit) as ended:
            run_from_command_line(lambda: run_stage(stage, argv))
        assert ended.value.code == 2
        return capsys.readouterr().err

    assert "insightedit: comprehension.model: no/such" in told("insightedit", 1, "comprehension.model=no/such")
    assert "insightedit: output_dir=" in told("insightedit", 1, f"output_dir={tmp_path}/file/run")
    clip = "comprehension.text_encoder=miniature:tiny/clip"
    assert "comprehension.text_encoder: miniature:tiny/clip cannot be loaded as a T5" in told("mige", 3, clip)
