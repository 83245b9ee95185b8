"""A whole tiny pipeline out of real classes, and pictures of every mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from insightedit.bridging import EditBridge
from insightedit.comprehension import LlavaComprehension
from insightedit.config.schema import Config, LoraConfig
from insightedit.generation.unet import EditUNet
from insightedit.model.editor import Editor
from insightedit.pipelines.edit import InsightEditPipeline

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 32  # of the tiny CLIP towers and of the UNet's first block


def tiny_config(root: Path) -> Config:
    """What the tiny editor's parts were built from, as far as a pipeline wants to know."""
    config = Config()
    config.comprehension.num_edit_tokens = 4
    config.generation.resolution = 32
    config.generation.image_encoder = str(root / "clip")
    config.guidance.num_inference_steps = 2
    return config


def build_editor(root: Path) -> Editor:
    """Random weights, but nothing that starts at zero left there: every part takes part in the result."""
    torch.manual_seed(0)
    comprehension = LlavaComprehension.from_pretrained(
        str(root / "llava"), num_edit_tokens=4, vision_feature_layer=-1, lora=LoraConfig(rank=2)
    )
    unet = EditUNet.from_unet(
        str(root / "sd"),
        subfolder="unet",
        source_channels=4,
        residual_channels=WIDTH,
        image_tokens=4,
        image_embed_dim=WIDTH,
    )
    bridge = EditBridge(
        num_queries=16,
        text_width=WIDTH,
        llm_width=comprehension.hidden_size,
        qformer_config={"num_layers": 2, "num_heads": 2, "ffn_dim": 64},
        bim_config={
            "vision_width": comprehension.vision_hidden_size,
            "width": 32,
            "depth": 1,
            "num_heads": 2,
            "mlp_dim": 32,
            "residual_channels": WIDTH,
        },
        iaa_config={"hidden_dim": 32, "image_embed_dim": WIDTH},
    )
    with torch.no_grad():
        lora = [p for name, p in comprehension.named_parameters() if "lora_" in name]
        for parameter in [*bridge.parameters(), *unet.conv_in.parameters(), *lora]:
            if not parameter.any():
                parameter.normal_(std=0.02)
        unet.conv_in.weight[:, 4:8].normal_(std=0.05)
    return Editor(
        comprehension=comprehension,
        bridge=bridge,
        denoiser=unet,
        vae=AutoencoderKL.from_pretrained(root / "sd", subfolder="vae"),
        noise_scheduler=DDIMScheduler.from_pretrained(root / "sd", subfolder="scheduler"),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(root / "clip"),
    )


def build_pipeline(root: Path) -> InsightEditPipeline:
    """The tiny editor's parts as a pipeline, LoRA merged."""
    editor = build_editor(root)
    mllm, processor = editor.comprehension.merge().values()
    return InsightEditPipeline(
        mllm=mllm,
        processor=processor,
        bridge=editor.bridge,
        vae=editor.vae,
        unet=editor.unet,
        scheduler=editor.noise_scheduler,
        image_encoder=editor.image_encoder,
        feature_extractor=CLIPImageProcessor.from_pretrained(root / "clip"),
        resolution=32,
        num_edit_tokens=4,
        default_num_inference_steps=2,
    )


@pytest.fixture
def tiny_editor(tiny_root: Path) -> tuple[Editor, Config]:
    """A tiny editor with live LoRA, and its config."""
    return build_editor(tiny_root), tiny_config(tiny_root)


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_root: Path) -> InsightEditPipeline:
    """One tiny pipeline for all tests; leave it as it is."""
    pipeline = build_pipeline(tiny_root)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def tiny_folder(tiny_pipeline: InsightEditPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline as an exported model folder."""
    from insightedit.export.folder import export_pipeline

    return export_pipeline(tiny_pipeline, tmp_path_factory.mktemp("models") / "tiny")


def make_picture(mode: str, size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Noise over a gradient in any Pillow mode."""
    width, height = size
    rng = np.random.default_rng(seed)
    if mode in ("I;16", "I"):
        values = rng.integers(0, 65536, (height, width))
        return Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32))
    if mode == "F":
        return Image.fromarray(rng.random((height, width), np.float32))
    if mode in ("L", "1", "LA", "RGB", "RGBA", "CMYK"):
        bands = {"L": 1, "1": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
        planes = [Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8)) for _ in range(bands)]
        return planes[0].convert(mode) if bands == 1 else Image.merge(mode, planes)
    return make_picture("RGB", size, seed).convert(mode)


@pytest.fixture(scope="session")
def picture_of() -> object:
    """`make_picture`."""
    return make_picture


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders `stage1` to `stage3` of the tiny insightedit recipe, finished; leave them as they are."""
    from tests.runs import train_chain

    return train_chain(tmp_path_factory.mktemp("chain"), "insightedit")
