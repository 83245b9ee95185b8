"""InstructPix2Pix' and MagicBrush's UNets -> an `EditUNet` folder to train from.

SRC is a diffusers pipeline or its `unet/` folder (safetensors, or .bin), or a single file in CompVis' names
(`model.diffusion_model.*`), of which diffusers' own converter renames the UNet.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from insightedit.export.card import shown
from insightedit.export.importers.bases import build_unet, card_of, open_base
from insightedit.export.importers.mapping import Checkpoint, Imported, ImportReport, read_checkpoint

NAME = "instructpix2pix"
BASES: dict[str, str | None] = {"unet": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
LICENCE = (
    "InstructPix2Pix: MIT-style terms plus those of Stable Diffusion (CreativeML OpenRAIL-M); MagicBrush: see its "
    "authors' page, its data is CC-BY-4.0"
)
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)
COMPVIS = "model.diffusion_model."
REST = "not the UNet: autoencoder, text encoder, schedule or running average"


def convert(source: Path, bases: dict[str, str], report: ImportReport) -> Imported:
    """A UNet to train from; `bases` has the one whose config describes a single file, a folder has its own."""
    from diffusers import UNet2DConditionModel

    if source.is_dir():
        path, config = _in_folder(source)
        checkpoint = read_checkpoint(path)
    else:
        checkpoint = read_checkpoint(source)
        with open_base("a Stable Diffusion 1.x model in diffusers' format", bases["unet"]) as folder:
            config = dict(UNet2DConditionModel.load_config(folder, subfolder="unet"))
        checkpoint = Checkpoint(source, _from_compvis(checkpoint, config, report))
    latents = int(config["out_channels"])
    first = checkpoint.tensors.get("conv_in.weight")
    reads = 2 * latents if first is None else first.shape[1]  # a missing one is found below
    if reads != 2 * latents:
        raise ValueError(
            f"{checkpoint.path}: this UNet reads {reads} channels and writes {latents}; one that edits reads "
            f"{2 * latents}, the noisy picture and its source. Name an InstructPix2Pix or MagicBrush UNet."
        )
    unet = build_unet(checkpoint, config, report)
    report.facts["config"] = "the folder's own" if source.is_dir() else f"of {shown(bases['unet'])}"
    title = f"UNet of {source.name or 'InstructPix2Pix'}"
    used = {} if source.is_dir() else bases
    return Imported(card_of(NAME, title, "InstructPix2Pix or MagicBrush UNet", LICENCE, used), unet=unet)


def _in_folder(source: Path) -> tuple[Path, dict[str, Any]]:
    """Weights and config of the UNet in a pipeline folder or in its `unet/`."""
    for folder in (source / "unet", source):
        config = folder / "config.json"
        weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
        if config.is_file() and weights is not None:
            try:
                held = json.loads(config.read_text(encoding="utf-8"))
                return weights, {**held, "out_channels": int(held["out_channels"])}
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{config} is not the config of a UNet: fetch the folder again, config.json included."
                ) from error
    raise FileNotFoundError(
        f"{source} holds no UNet: config.json and {WEIGHTS[0]} (or .bin) are looked for in it and in its unet/."
    )


def _from_compvis(checkpoint: Checkpoint, config: dict[str, Any], report: ImportReport) -> dict[str, Tensor]:
    """A single file's UNet by diffusers' names; the rest is named as dropped."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    theirs = {name: t for name, t in checkpoint.tensors.items() if name.startswith(COMPVIS)}
    if not theirs:
        raise ValueError(
            f"{checkpoint.path} holds no tensor named {COMPVIS}...: it is no CompVis checkpoint. Give a diffusers "
            "folder, or the original single file."
        )
    for name in sorted(set(checkpoint.tensors) - set(theirs)):
        report.note(checkpoint.path, name, [], REST)
    try:
        ours = convert_ldm_unet_checkpoint(dict(theirs), config)
    except (KeyError, IndexError) as error:
        raise ValueError(
            f"{checkpoint.path} lacks {error}, or has other layers than the base's UNet: name the Stable Diffusion "
            "version that it comes from with --base unet=."
        ) from error
    placed = {tensor.data_ptr() for tensor in ours.values()}
    if lost := sorted(name for name, tensor in theirs.items() if tensor.data_ptr() not in placed):
        raise ValueError(
            f"{checkpoint.path} holds {len(lost)} tensors of the UNet that diffusers' converter does not place, e.g. "
            f"{lost[0]}: name the Stable Diffusion version that it comes from with --base unet=."
        )
    return ours
