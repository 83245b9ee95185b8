"""Base models: what a published checkpoint leaves out, in the stock formats of transformers and diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from insightedit.export.card import base_facts, shown
from insightedit.export.importers.mapping import Checkpoint, ImportReport, Rule, fill, translate
from insightedit.modeling.pretrained import load_pretrained, resolve_model_id

ROLE_KEYS = {
    "llava": "comprehension.model",
    "weights": "comprehension.model",
    "sd": "generation.model",
    "unet": "generation.denoiser.model",
    "blip2": "comprehension.vision",
    "t5": "comprehension.text_encoder",
    "pixart": "generation.denoiser.model",
}


def parse_bases(system: str, given: Sequence[str], known: Mapping[str, str | None]) -> dict[str, str]:
    """`PART=MODEL` texts -> the base model of every part; a text without `=` names the first part of `known`.

    One that nobody named is that of `known`, or left out where that is None.
    """
    bases: dict[str, str] = {}
    for text in given:
        name, equals, model = text.partition("=")
        if not equals:
            name, model = next(iter(known)), text
        if name not in known or not model:
            raise ValueError(
                f"--base {text}: {system} takes {', '.join(f'{part}=MODEL' for part in known)}, MODEL a folder or hub "
                "id."
            )
        if name in bases:
            raise ValueError(f"--base {name}= is given twice: {bases[name]} and {model}. Leave one out.")
        bases[name] = model
    defaults = {part: model for part, model in known.items() if model is not None}
    return {**defaults, **bases}


@contextmanager
def open_base(what: str, model: str) -> Iterator[str]:
    """Load a base model inside this block, from the folder or hub id that it yields; a failure names the option."""
    try:
        yield resolve_model_id(model)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"--base {model} is not {what}: {first[:200]}") from error


@dataclass(frozen=True)
class Drawing:
    """What Stable Diffusion gives."""

    vae: Any
    scheduler: Any  # prediction type epsilon
    null_text: Tensor  # (Q, D_text) states of the empty text
    unet_config: dict[str, Any]
    text: dict[str, Any]  # `text_encoder` and `tokenizer`, which editing does not use and training on does


def open_stable_diffusion(model: str, report: ImportReport) -> Drawing:
    """Autoencoder, schedule, states of the empty text and UNet config of a Stable Diffusion 1.x folder."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    from insightedit.model.build import null_text_states

    what = "Stable Diffusion 1.x in diffusers' format (vae/, unet/, scheduler/, text_encoder/, tokenizer/)"
    schedule = {"prediction_type": "epsilon", "rescale_betas_zero_snr": False, "timestep_spacing": "trailing"}
    with open_base(what, model) as folder:
        encoder = load_pretrained(CLIPTextModel, folder, subfolder="text_encoder", dtype=torch.float32).eval()
        tokenizer = load_pretrained(CLIPTokenizer, folder, subfolder="tokenizer")
        drawing = Drawing(
            load_pretrained(AutoencoderKL, folder, subfolder="vae").eval(),
            load_pretrained(DDIMScheduler, folder, subfolder="scheduler", clip_sample=False, **schedule),
            null_text_states(encoder, tokenizer, tokenizer.model_max_length),
            dict(UNet2DConditionModel.load_config(folder, subfolder="unet")),
            {"text_encoder": encoder, "tokenizer": tokenizer},
        )
    report.taken(shown(model), "vae", "scheduler", *drawing.text)
    return drawing


def known_settings(kind: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config a model class of diffusers takes."""
    known = set(inspect.signature(kind.__init__).parameters) - {"self"}
    return {key: value for key, value in config.items() if key in known}


def empty_unet(unet_config: Mapping[str, Any], **branches: Any) -> Any:
    """An `EditUNet` without memory for weights, from the config of a UNet that reads z_t alone or [z_t, z_src]."""
    from diffusers import UNet2DConditionModel

    from insightedit.generation.unet import EditUNet

    config = known_settings(UNet2DConditionModel, unet_config)
    latents = int(config["out_channels"])
    config |= {"in_channels": latents, "encoder_hid_dim_type": None, "source_channels": latents}
    none = {"residual_channels": 0, "image_tokens": 0, "image_embed_dim": 0}
    with torch.device("meta"):
        return EditUNet(**config, **(none | branches))


def build_unet(
    checkpoint: Checkpoint, unet_config: Mapping[str, Any], report: ImportReport, residual_channels: int = 0
) -> Any:
    """An `EditUNet` of eight input channels with exactly the tensors of a file in diffusers' names."""
    unet = empty_unet(unet_config, residual_channels=residual_channels)
    given = translate(checkpoint, [Rule(r"(?:unet\.)?(.+)", r"\1")], report)
    fill("unet", unet, given, report, source=str(checkpoint.path))
    return unet


def card_of(system: str, title: str, source: str, licence: str, bases: dict[str, str]) -> dict[str, Any]:
    """Fields of the model card of an imported model; the imported weights' licence stands first."""
    facts = base_facts({ROLE_KEYS.get(part, part): model for part, model in bases.items()})
    imported = {"role": "imported weights", "model": source, "license": licence}
    return {
        **facts,
        "title": title,
        "recipe": system,
        "license": "other",
        "bases": [imported, *facts["bases"]],
        "steps": [f"trained by its authors, not by this package: {source}"],
        "data": ["what its authors name in their paper; nothing was added here"],
        "weights": f"checkpoint as published ({source}), converted by `insightedit import {system}`",
        "limits": [
            "Converted from the published files by their names and shapes. That it draws what the original draws was "
            "not checked: the prompt's wording is this package's own."
        ],
    }
