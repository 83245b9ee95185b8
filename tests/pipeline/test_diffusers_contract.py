"""What diffusers' own tests ask of every pipeline, asked of ours; written anew from what each of them checks.

The table names the tests of diffusers 0.42 (`tests/pipelines`) and where ours stand. Differences that hold for all of
them: ours gives a list of pictures, each in its source's size, and saves no pickles.
"""

from __future__ import annotations

import copy
import inspect

import accelerate
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from PIL import Image

from insightedit.config import load_config
from insightedit.model.build import build_editor
from insightedit.pipelines.compose import pipeline_from_editor
from insightedit.pipelines.edit import InsightEditPipeline

CONTRACT = {
    "test_save_load_local": "test_save_load_local",
    "test_save_load_optional_components": "test_save_load_optional_components",
    "test_save_load_float16": "test_save_load_float16",
    "test_serialization_with_variants": "test_variants",
    "test_loading_with_variants": "test_variants",
    "test_loading_with_incorrect_variants_raises_error": "test_a_variant_that_is_not_there",
    "test_pipeline_call_signature": "test_call_signature",
    "test_components_function": "test_components_build_the_same_pipeline",
    "test_inference_batch_consistent": "test_batches",
    "test_inference_batch_single_identical": "test_batches",
    "test_dict_tuple_outputs_equivalent": "test_dict_and_tuple",
    "test_num_images_per_prompt": "test_num_images_per_prompt",
    "test_to_dtype": "test_to_dtype_and_device",
    "test_to_device": "test_to_dtype_and_device",
    "test_float16_inference": "test_half_precision_inference",
    "test_torch_dtype_dict": "test_a_dtype_for_each_part",
    "test_attention_slicing_forward_pass": "test_attention_slicing",
    "test_cfg": "test_cfg",
    "test_callback_inputs": "test_callback_inputs",
    "test_callback_cfg": "test_callback_cfg",
    "test_StableDiffusionMixin_component": "test_stable_diffusion_mixin",
    "test_sequential_cpu_offload_forward_pass": "test_sequential_offload",
    "test_sequential_offload_forward_pass_twice": "test_sequential_offload",
    "test_model_cpu_offload_forward_pass": "test_model_offload",
    "test_cpu_offload_forward_pass_twice": "test_model_offload",
    "test_group_offloading_inference": "test_group_offload",
    "test_pipeline_level_group_offloading_inference": "test_group_offload",
    "test_pipeline_level_group_offloading_sanity_checks": "test_group_offload",
    "test_layerwise_casting_inference": "test_layerwise_casting",
    "test_from_pipe_consistent_config": "test_from_pipe",
    "test_from_pipe_consistent_forward_pass": "test_from_pipe",
    "test_pt_np_pil_outputs_equivalent": "test_types_of_pictures",
    "test_pt_np_pil_inputs_equivalent": "test_types_of_pictures",
    "test_karras_schedulers_shape": "tests/pipeline/test_schedulers.py",
    "test_vae_slicing": "test_vae_slicing_and_tiling",
    "test_vae_tiling": "test_vae_slicing_and_tiling",
    "test_freeu": "test_freeu",
    "test_fused_qkv_projections": "test_fused_projections",
}
NOT_OURS = {
    "test_encode_prompt_works_in_isolation": "asks pipelines with `encode_prompt`; an instruction needs its picture",
    "test_xformers_attention_forwardGenerator_pass": "needs xformers and CUDA",
    "test_latents_input": "asks for latents as `image`; ours takes pictures",
    "test_pipeline_with_accelerator_device_map": "needs an accelerator",
}
PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
WORDS = "make the dog red"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def originals(tiny_pipeline):
    editor = build_editor(load_config("mige", 3, ["tiny"]))
    torch.manual_seed(0)
    with torch.no_grad():
        editor.bridge.fusion.out.weight.normal_(std=0.5)
        editor.transformer.pos_embed.proj.weight[:, 4:].normal_(std=0.2)
    interleaved = pipeline_from_editor(editor, load_config("mige", 3, ["tiny"]))
    return {"edit": tiny_pipeline, "interleaved": interleaved}


def parts_of(pipeline):
    return {name: copy.deepcopy(part) for name, part in pipeline.components.items()}


@pytest.fixture(params=["edit", "interleaved"])
def pipe(request, originals):
    """A pipeline of parts of its own, which a test may change."""
    pipeline = originals[request.param]
    made = type(pipeline)(**parts_of(pipeline))
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def edit_pipe(originals):
    made = InsightEditPipeline(**parts_of(originals["edit"]))
    made.set_progress_bar_config(disable=True)
    return made


def run(pipeline, **changes):
    arguments = {
        "image": PICTURE,
        "prompt": WORDS,
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "generator": torch.Generator().manual_seed(0),
        "background_lock": False,
        "output_type": "np",
        **changes,
    }
    return pipeline(**arguments)[0]


def same(first, second, atol=1e-4):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=atol)


def modules(pipeline):
    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def test_the_table_names_tests_that_exist():
    own = {name for name in globals() if name.startswith("test_")}
    assert {name for name in CONTRACT.values() if not name.startswith("tests/")} <= own
    assert not set(CONTRACT) & set(NOT_OURS)


def test_save_load_local(pipe, tmp_path):
    for part in modules(pipe).values():
        if hasattr(part, "set_default_attn_processor"):
            part.set_default_attn_processor()
    expected = run(pipe)
    pipe.save_pretrained(tmp_path)
    loaded = type(pipe).from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    same(run(loaded), expected)
    assert {name: loaded.config[name] for name in pipe._settings} == {
        name: pipe.config[name] for name in pipe._settings
    }


def test_save_load_optional_components(edit_pipe, tmp_path):
    for name in edit_pipe._optional_components:
        setattr(edit_pipe, name, None)
    expected = run(edit_pipe)
    edit_pipe.save_pretrained(tmp_path)
    loaded = InsightEditPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert all(getattr(loaded, name) is None for name in edit_pipe._optional_components)
    same(run(loaded), expected)


def test_save_load_float16(pipe, tmp_path):
    for part in modules(pipe).values():
        part.half()
    pipe.save_pretrained(tmp_path)
    loaded = type(pipe).from_pretrained(tmp_path, dtype=torch.float16)
    for name, part in modules(loaded).items():  # of BLIP-2, transformers keeps the Q-Former in float32
        assert torch.float16 in {parameter.dtype for parameter in part.parameters()}, name
    loaded.set_progress_bar_config(disable=True)
    same(run(loaded), run(pipe), atol=0.05)


def test_variants(pipe, tmp_path):
    pipe.save_pretrained(tmp_path, variant="fp16")
    weights = [file.name for file in tmp_path.rglob("*.safetensors")]
    assert len(weights) == len(modules(pipe)) and all(".fp16." in name for name in weights)
    loaded = type(pipe).from_pretrained(tmp_path, variant="fp16")
    loaded.set_progress_bar_config(disable=True)
    same(run(loaded), run(pipe))


def test_a_variant_that_is_not_there(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    with pytest.raises((OSError, ValueError), match="fp16"):
        type(pipe).from_pretrained(tmp_path, variant="fp16")


def test_call_signature(pipe):
    parameters = inspect.signature(type(pipe).__call__).parameters
    asked = {"prompt", "image", "guidance_scale", "negative_prompt", "num_inference_steps", "generator"}
    asked |= {"num_images_per_prompt", "latents", "output_type", "return_dict", "callback_on_step_end"}
    assert asked <= set(parameters)
    assert all(parameters[name].default is not inspect.Parameter.empty for name in asked - {"image"})


def test_components_build_the_same_pipeline(pipe):
    assert set(pipe.components) == set(type(pipe)._get_signature_keys(type(pipe))[0])
    again = type(pipe)(**pipe.components)
    again.set_progress_bar_config(disable=True)
    assert dict(again.config) == dict(pipe.config)
    assert again.config.resolution == 32 != type(pipe)._settings["resolution"]
    same(run(again), run(pipe), atol=0)
    other = type(pipe)(**pipe.components, default_guidance_scale=2.0)
    assert other.config.default_guidance_scale == 2.0
    assert other.config.resolution == 32


def test_batches(pipe):
    words = [WORDS, "make the dog", "very long " * 3]
    seeds = [torch.Generator().manual_seed(index) for index in range(3)]
    together = run(pipe, image=[PICTURE] * 3, prompt=words, generator=seeds)
    assert len(together) == 3
    same(together[:1], run(pipe, generator=torch.Generator().manual_seed(0)), atol=0)
    shared = run(
        pipe,
        image=[PICTURE] * 2,
        prompt=words[:2],
        generator=[torch.Generator().manual_seed(index) for index in range(2)],
        batch_size=2,
    )
    same(shared, together[:2], atol=1.5 / 255)


def test_dict_and_tuple(pipe):
    given = {"image": PICTURE, "prompt": WORDS, "seed": 1, "num_inference_steps": 1}
    whole, parts = pipe(**given), pipe(**given, return_dict=False)
    assert isinstance(parts, tuple)
    same(whole.images, parts[0], atol=0)
    same(whole[0], parts[0], atol=0)


def test_num_images_per_prompt(pipe):
    for count in (1, 2):
        for each in (1, 2):
            images = run(pipe, image=[PICTURE] * count, num_images_per_prompt=each, num_inference_steps=1)
            assert len(images) == count * each
    several = pipe(PICTURE, WORDS, seed=[5], num_images_per_prompt=2, num_inference_steps=1)
    assert several.seeds == [5, 6]
    alone = pipe(PICTURE, WORDS, seed=6, num_inference_steps=1)
    same(several.images[1:], alone.images, atol=0)
    with pytest.raises(ValueError, match="`num_images_per_prompt` is 0: at least 1 image"):
        run(pipe, num_images_per_prompt=0)


def test_to_dtype_and_device(pipe):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe.to(device)
    assert {part.device.type for part in modules(pipe).values()} == {device}
    assert np.isfinite(run(pipe)[0]).all()
    pipe.to(dtype=torch.float16)
    assert {part.dtype for part in modules(pipe).values()} == {torch.float16}


def test_half_precision_inference(pipe):
    expected = run(pipe, num_inference_steps=1)
    pipe.to(dtype=torch.bfloat16)
    same(run(pipe, num_inference_steps=1), expected, atol=0.1)


def test_a_dtype_for_each_part(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = type(pipe).from_pretrained(
        tmp_path, dtype={"vae": torch.float16, "bridge": torch.bfloat16, "default": torch.float32}
    )
    found = {name: part.dtype for name, part in modules(loaded).items()}
    assert (found.pop("vae"), found.pop("bridge")) == (torch.float16, torch.bfloat16)
    assert set(found.values()) == {torch.float32}


def test_attention_slicing(pipe):
    expected = run(pipe)
    for size in (1, 2, "auto", "max"):
        pipe.enable_attention_slicing(size)
        same(run(pipe), expected, atol=1e-3)
    pipe.disable_attention_slicing()
    same(run(pipe), expected, atol=1e-3)


def test_cfg(pipe):
    shapes = []
    for scale in (1.0, 7.5):
        (image,) = run(pipe, guidance_scale=scale, image_guidance_scale=1.0)
        shapes.append(image.shape)
        assert pipe.guidance_scale == scale
        assert pipe.do_classifier_free_guidance == (scale > 1)
    assert shapes[0] == shapes[1]


def test_callback_inputs(pipe):
    def some(pipeline, step, timestep, tensors):
        assert set(tensors) == {"latents"}
        return tensors

    def everything(pipeline, step, timestep, tensors):
        assert set(tensors) == set(pipeline._callback_tensor_inputs)
        return tensors

    def wipe(pipeline, step, timestep, tensors):
        if step == pipeline.num_timesteps - 1:
            tensors["latents"] = torch.zeros_like(tensors["latents"])
        return tensors

    names = pipe._callback_tensor_inputs
    plain = run(pipe, output_type="latent")
    for callback, wanted in ((some, ["latents"]), (everything, names)):
        options = {"callback_on_step_end": callback, "callback_on_step_end_tensor_inputs": wanted}
        assert torch.equal(run(pipe, output_type="latent", **options), plain)
    assert not run(pipe, output_type="latent", callback_on_step_end=wipe).any()


def test_callback_cfg(pipe):
    def more(pipeline, step, timestep, tensors):
        pipeline._guidance_scale += 1.0
        return tensors

    changed = run(pipe, guidance_scale=2.0, callback_on_step_end=more, output_type="latent")
    assert pipe.guidance_scale == 2.0 + pipe.num_timesteps
    assert not torch.equal(changed, run(pipe, guidance_scale=2.0, output_type="latent"))


def test_stable_diffusion_mixin(edit_pipe):
    assert isinstance(edit_pipe, StableDiffusionMixin)
    assert isinstance(edit_pipe.vae, AutoencoderKL)
    assert isinstance(edit_pipe.unet, UNet2DConditionModel)


def test_model_offload(pipe):
    """`enable_model_cpu_offload` asks for an accelerator; its hooks do not."""
    expected = run(pipe)
    for _ in range(2):
        pipe.remove_all_hooks()
        before = None
        for name in pipe.model_cpu_offload_seq.split("->"):
            part = getattr(pipe, name)
            _, before = accelerate.cpu_offload_with_hook(part, CPU, prev_module_hook=before)
        same(run(pipe), expected, atol=0)


def test_sequential_offload(pipe):
    """As `enable_sequential_cpu_offload`: every weight is on `meta` until its layer runs."""
    expected = run(pipe)
    for part in modules(pipe).values():
        accelerate.cpu_offload(part, CPU, offload_buffers=len(part._parameters) > 0)
    assert {part.device.type for part in modules(pipe).values()} == {"meta"}
    same(run(pipe), expected, atol=0)
    same(run(pipe), expected, atol=0)


@pytest.mark.parametrize("place", ["cpu", "disk"])
@pytest.mark.parametrize("kind", ["leaf_level", "block_level"])
def test_group_offload(pipe, tmp_path, kind, place):
    expected = run(pipe)
    disk = {"offload_to_disk_path": str(tmp_path)} if place == "disk" else {}
    blocks = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    pipe.enable_group_offload(onload_device=CPU, offload_device=CPU, offload_type=kind, **blocks, **disk)
    same(run(pipe), expected, atol=0)
    same(run(pipe), expected, atol=0)


def test_layerwise_casting(pipe):
    expected = run(pipe, num_inference_steps=1)
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    for part in (denoiser, pipe.bridge):
        part.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
        assert torch.float8_e4m3fn in {p.dtype for p in part.parameters()}
        assert part.dtype == torch.float32
    (image,) = run(pipe, num_inference_steps=1)
    assert 0 < np.abs(image - expected[0]).mean() < 0.03


def test_from_pipe(pipe):
    expected = run(pipe)
    again = type(pipe).from_pipe(pipe)
    again.set_progress_bar_config(disable=True)
    assert dict(again.config) == dict(pipe.config)
    same(run(again), expected, atol=0)
    same(run(pipe), expected, atol=0)


def test_types_of_pictures(pipe):
    expected = run(pipe)
    tensor = torch.from_numpy(PICTURE).permute(2, 0, 1)
    floats = PICTURE.astype(np.float32) / 255
    for given in (Image.fromarray(PICTURE), tensor, floats, tensor.float() / 255, tensor[None]):
        same(run(pipe, image=given), expected, atol=0.5 / 255 + 1e-6)  # 8-bit pictures come back in 8 bits
        (pil,) = run(pipe, image=given, output_type="pil")
        assert pil.mode == "RGB"
        same([np.asarray(pil)], [np.rint(expected[0] * 255)], atol=1)
    (values,) = run(pipe, output_type="pt")
    same([values.permute(1, 2, 0)], expected, atol=0)


def test_vae_slicing_and_tiling(edit_pipe):
    expected = run(edit_pipe, image=[PICTURE] * 2, batch_size=2)
    edit_pipe.vae.enable_slicing()
    same(run(edit_pipe, image=[PICTURE] * 2, batch_size=2), expected, atol=1e-3)
    edit_pipe.vae.enable_tiling()
    assert len(run(edit_pipe)) == 1


def test_freeu(edit_pipe):
    expected = run(edit_pipe)
    edit_pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    assert not np.array_equal(run(edit_pipe)[0], expected[0])
    edit_pipe.disable_freeu()
    same(run(edit_pipe), expected, atol=0)


def test_fused_projections(edit_pipe, tmp_path):
    expected = run(edit_pipe)
    edit_pipe.fuse_qkv_projections()
    same(run(edit_pipe), expected, atol=1e-3)
    with pytest.raises(ValueError, match="is extra. Take LoRA layers out .*, unfuse projections"):
        edit_pipe.unet.save_pretrained(tmp_path)
    edit_pipe.unfuse_qkv_projections()
    same(run(edit_pipe), expected, atol=1e-3)
    edit_pipe.unet.save_pretrained(tmp_path / "unet")
