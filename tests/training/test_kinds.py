"""Any MLLM with any denoiser that takes what it gives: LLaVA before PixArt."""

from __future__ import annotations

import pytest
import torch

from insightedit.config import ConfigError, load_config
from insightedit.generation.transformer import EditTransformer
from insightedit.model.build import build_editor
from insightedit.stage2 import main
from insightedit.training.checkpoint import load_stage_weights
from insightedit.training.data import build_loader
from insightedit.training.objectives import edit
from insightedit.training.run_folder import base_models, read_contract

PIXART = ["generation.denoiser.kind=pixart", "bridge.bim=null", "bridge.iaa=null", "stage.use_bim=false"]
TRAINS = [
    "stage.trainable=['comprehension.*trainable_tokens_delta*', 'comprehension.*lora_*', 'bridge.*', 'transformer.*']",
    "stages=[2]",
    "stage.use_iaa=false",
]


def of_tiny(*words: str):
    return load_config("insightedit", 2, ["tiny"], [*PIXART, *TRAINS, *words])


def test_every_loss_reaches_every_part():
    config = of_tiny()
    editor = build_editor(config)
    assert isinstance(editor.denoiser, EditTransformer)
    assert editor.bridge.config["text_width"] == editor.denoiser.config.caption_channels
    batch = next(iter(build_loader(config, editor)))
    losses = edit(editor, batch, config, torch.Generator().manual_seed(0))
    assert set(losses) == {"lm", "noise", "metric/qformer_spread"}
    losses["noise"].backward()
    for name in ("bridge.qformer.queries", "transformer.pos_embed.proj.weight"):
        assert editor.get_parameter(name).grad.abs().sum() > 0, name


def test_it_trains_and_its_weights_are_taken_up_again(tmp_path):
    words = ["engine=torch", "train.num_samples=0", "train.max_steps=2", f"output_dir={tmp_path / 'run'}"]
    run = main(["--recipe", "insightedit", "--overlay", "tiny", *PIXART, *TRAINS, *words])
    assert run.finished
    config = load_config(tmp_path / "run/config.yaml")
    assert read_contract(run.run_dir)["base_models"] == base_models(config)
    assert base_models(config)["generation.denoiser.model"] == "miniature:tiny/pixart"
    assert "transformer.proj_out.weight" in load_stage_weights(build_editor(config), run.run_dir)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("bridge.bim.width=32", "bridge.bim makes v', which generation.denoiser.kind pixart does not take: set bri"),
        ("bridge.iaa.hidden_dim=32", "bridge.iaa makes an image prompt, which generation.denoiser.kind pixart does"),
        ("bridge.fusion.num_heads=2", "bridge.fusion joins the pictures inside an instruction, and comprehension.kin"),
    ],
)
def test_what_the_denoiser_does_not_take_is_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        build_editor(of_tiny(word))


def test_a_text_encoder_of_another_width_is_refused(tmp_path):
    config = of_tiny()
    transformer = EditTransformer.from_transformer(_stock(caption_channels=24), source_channels=4)
    transformer.save_pretrained(tmp_path / "transformer")
    config.generation.denoiser.model = str(tmp_path)
    with pytest.raises(ConfigError, match="has states of width 32, generation.denoiser.kind pixart reads width 24"):
        build_editor(config)


def _stock(**changed):
    from diffusers import PixArtTransformer2DModel

    from insightedit.modeling.pretrained import resolve_model_id

    config = PixArtTransformer2DModel.load_config(resolve_model_id("miniature:tiny/pixart"), subfolder="transformer")
    return PixArtTransformer2DModel.from_config({**config, **changed})
