"""The folders load by the stock classes and are the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoModel, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import (
    AutoProcessor,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from insightedit.miniatures.builders import build
from insightedit.miniatures.sizes import MINI, MINI128, TINY, Size, get_size
from insightedit.miniatures.tokenizer import small_corpus

PICTURE = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3).astype(np.uint8)


@pytest.fixture(scope="module")
def pipeline(tiny_root: Path) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_root / "sd", safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_stock_pipeline_draws(pipeline: StableDiffusionPipeline) -> None:
    images = pipeline("A dog on the left.", num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 32, 32, 3)
    assert np.isfinite(images).all()


def test_scheduler_ends_in_pure_noise(tiny_root: Path) -> None:
    scheduler = DDIMScheduler.from_pretrained(tiny_root / "sd", subfolder="scheduler")
    assert scheduler.alphas_cumprod[-1] < 1e-6
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.timestep_spacing == "trailing"


def test_unet_and_autoencoder_load_from_their_subfolders(tiny_root: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(tiny_root / "sd", subfolder="unet")
    vae = AutoencoderKL.from_pretrained(tiny_root / "sd", subfolder="vae")
    assert unet.config.in_channels == unet.config.out_channels == vae.config.latent_channels == 4
    editing = UNet2DConditionModel.from_pretrained(tiny_root / "ip2p", subfolder="unet")
    assert (editing.config.in_channels, editing.config.out_channels) == (8, 4)
    latents = vae.encode(torch.zeros(1, 3, 32, 32)).latent_dist.mode()
    assert latents.shape == (1, 4, 8, 8)


def test_text_encoder_is_clips_text_tower(tiny_root: Path, pipeline: StableDiffusionPipeline) -> None:
    clip = CLIPTextModel.from_pretrained(tiny_root / "clip")
    for ours, theirs in zip(pipeline.text_encoder.parameters(), clip.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_llavas_tower_is_clips_vision_tower(tiny_root: Path) -> None:
    llava = LlavaForConditionalGeneration.from_pretrained(tiny_root / "llava")
    clip = CLIPVisionModelWithProjection.from_pretrained(tiny_root / "clip")
    ours, theirs = llava.model.vision_tower.state_dict(), clip.vision_model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_clip_pools_at_its_own_end_token(tiny_root: Path) -> None:
    clip, tokenizer = (
        CLIPModel.from_pretrained(tiny_root / "clip"),
        CLIPTokenizer.from_pretrained(tiny_root / "clip"),
    )
    assert clip.config.text_config.eos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id
    ids = tokenizer(["a dog", "the red ball is left"], padding="max_length", return_tensors="pt").input_ids
    output = clip.text_model(ids)
    ends = (ids == tokenizer.eos_token_id).int().argmax(dim=1)
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state[torch.arange(2), ends])


@pytest.mark.parametrize("loader", [AutoProcessor, LlavaProcessor])
def test_processor_gives_one_placeholder_per_patch(tiny_root: Path, loader: type) -> None:
    processor = loader.from_pretrained(tiny_root / "llava")
    model = LlavaForConditionalGeneration.from_pretrained(tiny_root / "llava")
    inputs = processor(images=PICTURE, text="USER: <image>\nRemove the dog. ASSISTANT:", return_tensors="pt")
    assert int((inputs.input_ids == model.config.image_token_id).sum()) == TINY.num_patches
    assert inputs.input_ids[0, 0] == processor.tokenizer.bos_token_id
    logits = model(**inputs).logits
    assert logits.shape[-1] == len(processor.tokenizer)
    assert model.generate(**inputs, max_new_tokens=3).shape[0] == 1


def test_image_processor_keeps_the_size(tiny_root: Path) -> None:
    processor = CLIPImageProcessor.from_pretrained(tiny_root / "clip")
    assert processor(PICTURE, return_tensors="pt").pixel_values.shape == (1, 3, 32, 32)


def _bytes(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.safetensors"))}


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (_bytes(build("tiny", tmp_path / str(i), seed)) for i, seed in enumerate((3, 3, 4)))
    assert len(first) == 9
    assert first == again
    assert all(first[name] != other[name] for name in first)
    assert torch.equal(state, torch.random.get_rng_state()), "building moved the caller's random state"


@pytest.mark.parametrize(("size", "patches"), [(MINI, 64), (MINI128, 256)])
def test_trained_sizes_stay_within_the_embedded_defaults_budget(tmp_path: Path, size: Size, patches: int) -> None:
    root = build(size, tmp_path, corpus=small_corpus(), parts=("clip", "llava", "sd", "ip2p"))
    models = (
        UNet2DConditionModel.from_pretrained(root / "sd", subfolder="unet"),
        AutoModel.from_pretrained(str(root / "sd"), subfolder="vae"),
        LlavaForConditionalGeneration.from_pretrained(root / "llava"),
    )
    assert sum(p.numel() for model in models for p in model.parameters()) < 20_500_000
    assert size.num_patches == patches
    assert size.latent_factor == 4


def test_unknown_size_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown miniature size 'huge': choose one of mini, mini128, tiny"):
        get_size("huge")
