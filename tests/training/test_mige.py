"""Joint training where instructions carry pictures: what learns, what stays, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
import torch

from insightedit.config import ConfigError, load_config
from insightedit.model.build import build_editor
from insightedit.pipelines.compose import sample_edits
from insightedit.stage3 import main
from insightedit.training.checkpoint import stage_weights
from insightedit.training.data import build_loader
from insightedit.training.objectives import edit
from insightedit.training.optim import build_optimizer, build_schedule
from insightedit.training.run import save_memory
from insightedit.training.run_folder import base_models, read_contract
from insightedit.training.samples import fixed_samples
from insightedit.training.trainable import select_trainable

RUN = ["--recipe", "mige", "--overlay", "tiny", "engine=torch", "train.batch_size=3", "train.num_samples=0"]


@pytest.fixture(scope="module")
def config():
    return load_config("mige", 3, ["tiny"], ["train.batch_size=6"])


@pytest.fixture(scope="module")
def editor(config):
    return build_editor(config)


@pytest.fixture(scope="module")
def batch(config, editor):
    return next(iter(build_loader(config, editor)))


def test_the_papers_numbers():
    config = load_config("mige", 3)
    assert config.stages == [3]
    optim = config.optim
    assert (optim.lr, optim.weight_decay, optim.eps, optim.max_grad_norm) == (1e-5, 0.03, 1e-10, 0.01)
    assert (optim.warmup_steps, optim.schedule) == (1000, "constant")
    guidance = config.guidance
    assert (guidance.guidance_scale, guidance.image_guidance_scale, guidance.num_inference_steps) == (5.0, 1.0, 60)
    assert (guidance.creation_guidance_scale, guidance.creation_inference_steps) == (7.0, 50)
    assert [source.weight for source in config.data.sources] == [1.0, 1.0, 1.0]


def test_warm_up_in_steps_goes_before_the_ratio():
    config = load_config("mige", 3).optim
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = build_optimizer([("w", parameter)], config, device=torch.device("cpu"))
    schedule = build_schedule(optimizer, config, max_steps=10**6)
    rates = []
    for _ in range(1001):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == 0 and rates[500] == pytest.approx(5e-6) and rates[1000] == pytest.approx(1e-5)


def test_everything_learns_but_the_two_image_encoders(config, editor):
    names = set(select_trainable(editor, config.stage.trainable).names)
    tower = "comprehension.picture_encoder.vision_model."
    frozen = {name for name, _ in editor.named_parameters()} - names
    assert frozen == {
        name
        for name, _ in editor.named_parameters()
        if name.startswith("vae.") or (name.startswith(tower) and "post_layernorm" not in name)
    }


def test_gradients_reach_all_that_learns(config, editor, batch):
    editor.zero_grad()
    names = select_trainable(editor, config.stage.trainable).names
    torch.nn.init.normal_(editor.bridge.fusion.out.weight, std=0.1)  # as after a first step
    losses = edit(editor, batch, config, torch.Generator().manual_seed(0))
    assert set(losses) == {"noise"} and torch.isfinite(losses["noise"].detach())
    losses["noise"].backward()
    parameters = dict(editor.named_parameters())
    silent = [name for name in names if parameters[name].grad is None]
    assert silent == []
    for pattern in ("*query_tokens", "*.qformer.*query.weight", "*language_projection.weight", "*shared.weight",
                    "bridge.fusion.key.0.weight", "transformer.pos_embed.proj.weight"):  # fmt: skip
        found = [name for name in names if fnmatchcase(name, pattern)]
        assert found and all(parameters[name].grad.abs().sum() > 0 for name in found), pattern
    torch.nn.init.zeros_(editor.bridge.fusion.out.weight)
    editor.zero_grad()


def test_a_blank_canvas_is_zero_latents(config, editor, batch, monkeypatch):
    seen = []
    forward = type(editor.transformer).forward

    def spy(self, sample, *args, **kwargs):
        seen.append(sample.detach())
        return forward(self, sample, *args, **kwargs)

    monkeypatch.setattr(type(editor.transformer), "forward", spy)
    config.guidance.drop_image = config.guidance.drop_both = 0.0
    with torch.no_grad():
        edit(editor, batch, config, torch.Generator().manual_seed(0))
    config.guidance.drop_image = config.guidance.drop_both = 0.05
    is_blank = (seen[0][:, 4:] == 0).flatten(1).all(dim=1)
    assert torch.equal(is_blank, batch.has_source == 0)
    assert is_blank.any() and not is_blank.all()


def test_reference_latents_are_not_scaled_and_source_latents_are(config, editor, batch, monkeypatch):
    fed = []
    features = editor.transformer.patch_features
    monkeypatch.setattr(editor.transformer, "patch_features", lambda latents: fed.append(latents) or features(latents))
    with torch.no_grad():
        editor.understand(batch.tokens, (8, 8))
        modes = editor.vae.encode(batch.tokens.reference_pixels).latent_dist.mode()
    assert torch.equal(fed[0], modes)
    assert editor.scale_source_latents


def test_a_place_head_learns_where_an_edit_happens_but_not_on_a_blank_canvas(batch):
    config = load_config("mige", 3, ["tiny"], ["generation.denoiser.place_head=true"])
    editor = build_editor(config)
    assert "transformer.place_out.weight" in select_trainable(editor, config.stage.trainable).names
    assert batch.has_source.tolist().count(0.0) >= 1
    torch.nn.init.normal_(editor.transformer.place_out.weight)

    def place(**changes) -> float:
        losses = edit(editor, replace(batch, **changes), config, torch.Generator().manual_seed(0))
        return losses["place"].item()

    loss = place()
    assert loss > 0
    blank = batch.has_source[:, None, None, None] == 0
    assert place(changed_mask=torch.where(blank, 0.0, batch.changed_mask)) == pytest.approx(loss)
    assert place(changed_mask=torch.where(blank, batch.changed_mask, 0.0)) != pytest.approx(loss)


def test_stage_3_runs_stops_and_goes_on_bit_equal(tmp_path):
    straight = main([*RUN, f"output_dir={tmp_path / 'a'}", "max_steps=4"])
    assert straight.finished and set(straight.losses) == {"loss", "noise"}
    main([*RUN, f"output_dir={tmp_path / 'b'}", "max_steps=2", "schedule=constant"])
    (tmp_path / "b" / "contract.json").unlink()
    resumed = main([*RUN, f"output_dir={tmp_path / 'b'}", "max_steps=4"])
    assert resumed.resumed_from == 2
    first, again = stage_weights(tmp_path / "a"), stage_weights(tmp_path / "b")
    assert first.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    contract = read_contract(tmp_path / "a")
    assert contract["base_models"] == {
        "comprehension.vision": "miniature:tiny/blip2",
        "comprehension.text_encoder": "miniature:tiny/t5",
        "generation.model": "miniature:tiny/sd",
        "generation.denoiser.model": "miniature:tiny/pixart",
    }


def test_previews_take_turns_among_the_tasks(config, editor):
    samples = fixed_samples(load_config("mige", 3, ["tiny"], ["train.num_samples=3"]))
    assert [(s.source is None, bool(s.reference_images)) for s in samples] == [
        (False, False), (True, True), (False, True),
    ]  # fmt: skip
    edited = sample_edits(editor, config, samples)
    assert [picture.shape for picture in edited] == [(32, 32, 3)] * 3


def test_memory_can_be_saved(editor):
    save_memory(editor)
    assert editor.transformer.is_gradient_checkpointing
    assert editor.comprehension.text_encoder.is_gradient_checkpointing
    editor.transformer.disable_gradient_checkpointing()


class TestRefusals:
    def config(self, *words):
        return load_config("mige", 3, ["tiny"], words)

    def test_a_reader_needs_fusion_and_transformer(self):
        with pytest.raises(ConfigError, match="bridge.fusion alone brings to the denoiser, and bridge.fusion is null"):
            build_editor(self.config("bridge.fusion=null"))
        with pytest.raises(ConfigError, match="through the denoiser's patches, and generation.denoiser.kind unet has"):
            build_editor(self.config("generation.denoiser.kind=unet"))
        with pytest.raises(ConfigError, match="and bridge.qformer is set: set bridge.fusion, and qformer, edit_head,"):
            build_editor(self.config("bridge.qformer.num_layers=2"))

    def test_fusion_and_transformer_need_a_reader(self):
        with pytest.raises(ConfigError, match="bridge.fusion joins .*, and comprehension.kind llava reads none: set"):
            build_editor(self.config("comprehension.kind=llava"))

    def test_stage_1_has_nothing_to_align(self):
        with pytest.raises(ConfigError, match="comprehension.kind blip2_t5 has none: train it at stage 3"):
            build_editor(self.config("stage.objective=align"))

    def test_transformer_and_autoencoder_belong_together(self, monkeypatch):
        import insightedit.model.build as build

        autoencoder, scheduler = build.build_autoencoder(self.config())
        autoencoder.register_to_config(latent_channels=6)
        monkeypatch.setattr(build, "build_autoencoder", lambda config: (autoencoder, scheduler))
        with pytest.raises(ConfigError, match=r"denoises 4 channels, the autoencoder of generation.model .* has 6"):
            build_editor(self.config())


def test_the_config_says_what_stands_on_what(config):
    assert build_editor(config).comprehension.reads_references
    assert set(base_models(config)) == {
        "comprehension.vision", "comprehension.text_encoder", "generation.model",
        "generation.denoiser.model",
    }  # fmt: skip
