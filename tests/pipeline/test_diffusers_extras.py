"""What people do with a diffusers pipeline beside calling it: callbacks, LoRA, compiling, offloading, other parts."""

from __future__ import annotations

import logging

import accelerate
import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from diffusers.callbacks import (
    IPAdapterScaleCutoffCallback,
    MultiPipelineCallbacks,
    SDCFGCutoffCallback,
    SDXLCFGCutoffCallback,
)
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from insightedit.pipelines.edit import InsightEditPipeline
from tests.pipeline.test_diffusers_contract import CPU, PICTURE, WORDS, edit_pipe, modules, originals, pipe, run, same  # noqa: F401 - fixtures are imported by name


class TestCallbacks:
    def test_guidance_that_is_cut_off_is_none_afterwards(self, pipe):  # noqa: F811
        sizes = []
        denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
        hook = denoiser.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
        cut = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=0)
        run(pipe, image_guidance_scale=1.0, callback_on_step_end=cut, num_inference_steps=3)
        hook.remove()
        assert sizes == [2, 1, 1]
        assert not pipe.do_classifier_free_guidance

    def test_the_image_branch_is_cut_off(self, edit_pipe):  # noqa: F811
        plain = run(edit_pipe, output_type="latent")
        cut = IPAdapterScaleCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=0)
        both = MultiPipelineCallbacks([cut])
        changed = run(edit_pipe, output_type="latent", callback_on_step_end=both)
        assert not torch.equal(changed, plain)
        assert torch.equal(run(edit_pipe, output_type="latent"), plain)

    def test_callbacks_of_other_models_are_refused(self, pipe):  # noqa: F811
        with pytest.raises(ValueError, match="this pipeline has only .*callbacks of SDXL, SD3 and ControlNet"):
            run(pipe, callback_on_step_end=SDXLCFGCutoffCallback(cutoff_step_ratio=0.5))
        cut = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=0)
        with pytest.raises(ValueError, match="keep one row, so use them with batch_size=1"):
            run(pipe, image=[PICTURE] * 2, generator=None, seed=1, batch_size=2, callback_on_step_end=cut)

    def test_an_interrupted_call_gives_what_it_began(self, pipe):  # noqa: F811
        steps = []

        def stop(pipeline, step, timestep, tensors):
            steps.append(step)
            pipeline._interrupt = True

        result = pipe([PICTURE] * 3, WORDS, seed=1, num_inference_steps=3, callback_on_step_end=stop, output_type="np")
        assert steps == [0] and pipe.interrupt
        assert len(result.images) == len(result.seeds) == len(result.masks) == len(result.warnings) == 1
        assert len(pipe([PICTURE] * 2, WORDS, seed=1, num_inference_steps=1).images) == 2
        assert not pipe.interrupt

    def test_a_second_order_scheduler_calls_twice(self, edit_pipe):  # noqa: F811
        from diffusers import HeunDiscreteScheduler

        edit_pipe.scheduler = HeunDiscreteScheduler.from_config(edit_pipe.scheduler.config)
        run(edit_pipe, num_inference_steps=3, callback_on_step_end=lambda *_: None)
        assert edit_pipe.num_timesteps == 5


class TestArguments:
    def test_latents(self, pipe):  # noqa: F811
        from insightedit.generation.sampling import initial_noise

        shape = run(pipe, output_type="latent", generator=None, seed=3).shape
        noise = initial_noise([3], tuple(shape[1:]))
        same(run(pipe, latents=noise), run(pipe, generator=None, seed=3), atol=0)
        with pytest.raises(ValueError, match=r"`latents` has shape \(2, 4, 1, 1\), expected \(1, 4,"):
            run(pipe, latents=torch.zeros(2, 4, 1, 1))
        with pytest.raises(ValueError, match="`latents` holds values that are not finite"):
            run(pipe, latents=noise * float("nan"))

    def test_negative_prompt(self, pipe):  # noqa: F811
        plain = run(pipe, output_type="latent")
        avoided = run(pipe, output_type="latent", negative_prompt="make the dog blue")
        assert not torch.equal(plain, avoided)
        several = run(
            pipe, image=[PICTURE] * 2, generator=None, seed=0, output_type="latent", batch_size=2,
            negative_prompt=["make the dog blue", "a cat"],
        )  # fmt: skip
        assert not torch.equal(several[0], several[1])
        with pytest.raises(ValueError, match="1 nothing is compared with it: leave it out"):
            run(pipe, negative_prompt="a", guidance_scale=1.0, image_guidance_scale=1.0)
        with pytest.raises(ValueError, match="got 2 values for `negative_prompt` and 1 pictures"):
            run(pipe, negative_prompt=["a", "b"])
        with pytest.raises(ValueError, match="is empty"):
            run(pipe, negative_prompt=" ")

    def test_results_that_are_no_numbers_are_errors(self, pipe):  # noqa: F811
        with pytest.raises(ValueError, match=r"guidance scales 1e\+308 and .* not finite: take smaller"):
            run(pipe, guidance_scale=1e308)
        with torch.no_grad():
            next(pipe.vae.decoder.parameters()).fill_(float("nan"))
        with pytest.raises(ValueError, match="the autoencoder's picture holds values that are not finite"):
            run(pipe)


class TestOtherParts:
    @pytest.mark.slow
    def test_compiled(self, pipe):  # noqa: F811
        expected = run(pipe)
        for name in ("unet", "transformer", "bridge", "vae"):
            if hasattr(pipe, name):
                setattr(pipe, name, torch.compile(getattr(pipe, name), backend="eager"))
        same(run(pipe), expected)
        assert dict(type(pipe)(**pipe.components).config)["resolution"] == 32

    def test_behind_peft(self, pipe, tmp_path):  # noqa: F811
        name = "unet" if hasattr(pipe, "unet") else "transformer"
        expected = run(pipe)
        wrapped = get_peft_model(getattr(pipe, name), LoraConfig(r=2, target_modules=["to_q", "to_v"]))
        setattr(pipe, name, wrapped)
        same(run(pipe), expected)  # a new adapter changes nothing
        with torch.no_grad():
            for key, parameter in wrapped.named_parameters():
                if "lora_B" in key:
                    parameter.normal_()
        changed = run(pipe)
        assert not np.allclose(changed[0], expected[0], atol=1e-2)
        with pytest.raises(ValueError, match=f"`{name}` stands behind peft, whose folder no pipeline"):
            pipe.save_pretrained(tmp_path)
        setattr(pipe, name, wrapped.merge_and_unload())
        same(run(pipe), changed, atol=1e-2)
        pipe.save_pretrained(tmp_path)

    def test_a_tiny_autoencoder(self, edit_pipe, tmp_path):  # noqa: F811
        torch.manual_seed(0)
        tiny = AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1),
        )  # fmt: skip
        edit_pipe.vae = tiny.eval()
        assert run(edit_pipe)[0].shape == (32, 32, 3)
        edit_pipe.save_pretrained(tmp_path)
        assert isinstance(InsightEditPipeline.from_pretrained(tmp_path).vae, AutoencoderTiny)
        from insightedit.generation.autoencoder import encode_source

        pixels = torch.rand(1, 3, 32, 32) * 2 - 1
        scaled = encode_source(tiny, pixels, scaled=True)
        torch.testing.assert_close(scaled, tiny.encode(pixels).latents)
        torch.testing.assert_close(encode_source(tiny, pixels, scaled=False) * 0.18215, scaled)


class TestOffloadedLanguageModel:
    """As `from_pretrained(..., device_map=...)` places it: weights on `meta` until a layer runs."""

    @pytest.mark.parametrize("place", ["cpu", "disk"])
    def test_it_runs_and_speaks(self, edit_pipe, tmp_path, place):  # noqa: F811
        options = {"describe": True, "seed": 1, "num_inference_steps": 1, "output_type": "np"}
        expected = edit_pipe(PICTURE, WORDS, **options)
        if place == "cpu":
            accelerate.cpu_offload(edit_pipe.mllm, CPU)
        else:
            accelerate.disk_offload(edit_pipe.mllm, str(tmp_path), CPU)
        assert edit_pipe.mllm.device.type == "meta"
        found = edit_pipe(PICTURE, WORDS, **options)
        assert found.expressive_instructions == expected.expressive_instructions
        same(found.images, expected.images, atol=0)

    def test_a_folder_with_a_device_map(self, edit_pipe, tmp_path):  # noqa: F811
        from transformers import AutoModelForImageTextToText

        edit_pipe.mllm.save_pretrained(tmp_path / "mllm")
        expected = run(edit_pipe)
        edit_pipe.mllm = AutoModelForImageTextToText.from_pretrained(
            tmp_path / "mllm",
            device_map={"model.vision_tower": "cpu", "model.multi_modal_projector": "cpu"}
            | {"model.language_model": "disk", "lm_head": "cpu"},
            offload_folder=str(tmp_path / "offload"),
        )
        same(run(edit_pipe), expected)


class TestLora:
    @pytest.fixture
    def weights(self, edit_pipe):  # noqa: F811
        """What training a plain text-to-image UNet of the same sizes gives: LoRA on its attentions."""
        torch.manual_seed(0)
        own = edit_pipe.unet.config
        stock = UNet2DConditionModel.from_config(
            {k: v for k, v in own.items() if k not in ("encoder_hid_dim_type", "_class_name")}
        )
        stock.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
        state = get_peft_model_state_dict(stock)
        return {f"unet.{name}": torch.randn_like(tensor) * 0.3 for name, tensor in state.items()}

    @pytest.mark.parametrize("form", ["diffusers", "kohya"])
    def test_a_stable_diffusion_lora_loads_fuses_and_leaves(self, edit_pipe, weights, tmp_path, form):  # noqa: F811
        file = tmp_path / "pytorch_lora_weights.safetensors"
        if form == "diffusers":
            save_file(weights, file)
        else:
            kohya = {}
            for name, tensor in weights.items():
                layer, _, side = name.removeprefix("unet.").removesuffix(".weight").rpartition(".")
                place = f"lora_unet_{layer.replace('.', '_')}"
                kohya[f"{place}.{'lora_down' if side == 'lora_A' else 'lora_up'}.weight"] = tensor
                kohya[f"{place}.alpha"] = torch.tensor(2.0)
            save_file(kohya, file)
        expected = run(edit_pipe)
        edit_pipe.load_lora_weights(file, adapter_name="style")
        changed = run(edit_pipe)
        assert not np.allclose(changed[0], expected[0], atol=1e-2)
        assert edit_pipe.get_active_adapters() == ["style"]
        with pytest.raises(ValueError, match="Take LoRA layers out"):
            edit_pipe.save_pretrained(tmp_path / "with")
        edit_pipe.set_adapters("style", 0.0)
        same(run(edit_pipe), expected, atol=1e-3)
        edit_pipe.set_adapters("style", 1.0)
        edit_pipe.fuse_lora()
        edit_pipe.unload_lora_weights()
        fused = run(edit_pipe)
        same(fused, changed, atol=0.05)  # sums are rounded in another order
        edit_pipe.save_pretrained(tmp_path / "fused")
        loaded = InsightEditPipeline.from_pretrained(tmp_path / "fused")
        loaded.set_progress_bar_config(disable=True)
        same(run(loaded), fused, atol=1e-3)

    def test_unloading_leaves_nothing(self, edit_pipe, weights, tmp_path):  # noqa: F811
        expected, names = run(edit_pipe), set(edit_pipe.unet.state_dict())
        edit_pipe.load_lora_weights(weights)
        edit_pipe.fuse_lora()
        edit_pipe.unfuse_lora()
        edit_pipe.unload_lora_weights()
        assert set(edit_pipe.unet.state_dict()) == names
        same(run(edit_pipe), expected, atol=1e-3)

    def test_a_text_encoders_part_is_passed_over(self, edit_pipe, weights, caplog):  # noqa: F811
        logging.getLogger("diffusers").propagate = True
        text = {"text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 32)}
        found = []
        from insightedit.pipelines import folder_pipeline as pipeline_base

        handler = logging.Handler()
        handler.emit = lambda record: found.append(record.getMessage())
        pipeline_base.logger.addHandler(handler)
        edit_pipe.load_lora_weights({**weights, **text})
        pipeline_base.logger.removeHandler(handler)
        assert found == [
            "The LoRA file holds 1 tensors for a text encoder, which this model does not have: only its UNet part "
            "is used."
        ]
