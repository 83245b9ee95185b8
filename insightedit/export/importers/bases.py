"""Base models: what a published checkpoint leaves out, in the stock formats of transformers and diffusers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from insightedit.export.card import base_facts, shown
from insightedit.modeling.model_ids import resolve_model_id
from insightedit.modeling.pretrained import load_pretrained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from insightedit.export.importers.report import ImportReport

Loaded = TypeVar("Loaded")
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
    """`PART=MODEL` texts -> the base model of every part.

    Args:
        system: name for messages.
        given: texts of the command line; a text without `=` names the first part.
        known: part -> model where none is named; None where one has to be.

    Returns:
        Part -> folder or hub id; a part that nobody named and that has no default is left out.

    Raises:
        ValueError: for an unknown part, or one named twice.
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


def load_base(what: str, model: str, load: Callable[[str], Loaded]) -> Loaded:
    """Load a base model's part; a failure names the option to change.

    Args:
        what: what is needed, e.g. "llava, a LLaVA model in transformers' format".
        model: folder, hub id or miniature's id.
        load: from a resolved folder or hub id.

    Raises:
        ValueError: if it cannot be loaded.
    """
    try:
        return load(resolve_model_id(model))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"--base {model} is not {what}: {first[:200]}") from error


@dataclass(frozen=True)
class Drawing:
    """What Stable Diffusion gives.

    Attributes:
        vae: autoencoder.
        scheduler: noise schedule, prediction type epsilon.
        null_text: (Q, D_text) states of the empty text.
        unet_config: config of its UNet.
        text: its `text_encoder` and `tokenizer`, which editing does not use and training on does.
    """

    vae: Any
    scheduler: Any
    null_text: Tensor
    unet_config: dict[str, Any]
    text: dict[str, Any]


def open_stable_diffusion(model: str, report: ImportReport) -> Drawing:
    """Autoencoder, schedule, states of the empty text and UNet config of a Stable Diffusion 1.x folder.

    Raises:
        ValueError: if the model has no such parts.
    """
    what = "Stable Diffusion 1.x in diffusers' format (vae/, unet/, scheduler/, text_encoder/, tokenizer/)"
    drawing = load_base(what, model, _load_drawing)
    for part in ("vae", "scheduler", *drawing.text):
        report.taken(part, shown(model))
    return drawing


def _load_drawing(folder: str) -> Drawing:
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    from insightedit.model.build import null_text_states

    text_encoder = load_pretrained(CLIPTextModel, folder, subfolder="text_encoder", dtype=torch.float32).eval()
    tokenizer = load_pretrained(CLIPTokenizer, folder, subfolder="tokenizer")
    scheduler = load_pretrained(
        DDIMScheduler,
        folder,
        subfolder="scheduler",
        prediction_type="epsilon",
        rescale_betas_zero_snr=False,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    return Drawing(
        vae=load_pretrained(AutoencoderKL, folder, subfolder="vae").eval(),
        scheduler=scheduler,
        null_text=null_text_states(text_encoder, tokenizer, tokenizer.model_max_length),
        unet_config=stock_config(UNet2DConditionModel, folder, "unet"),
        text={"text_encoder": text_encoder, "tokenizer": tokenizer},
    )


def stock_config(kind: Any, folder: str, subfolder: str) -> dict[str, Any]:
    """Config of a diffusers model, by its class."""
    return dict(kind.load_config(folder, subfolder=subfolder))


def empty_unet(unet_config: Mapping[str, Any], **branches: Any) -> Any:
    """An `EditUNet` without memory for weights, from a stock or an own UNet's config.

    Args:
        unet_config: config of a UNet that reads z_t alone or [z_t, z_src].
        **branches: source_channels, residual_channels, image_tokens, image_embed_dim.
    """
    import inspect

    import torch
    from diffusers import UNet2DConditionModel

    from insightedit.generation.unet import EditUNet

    known = set(inspect.signature(UNet2DConditionModel.__init__).parameters) - {"self"}
    config = {key: value for key, value in unet_config.items() if key in known}
    config |= {"in_channels": config["out_channels"], "encoder_hid_dim_type": None}
    with torch.device("meta"):
        return EditUNet(**branches, **config)


def card_of(system: str, title: str, source: str, licence: str, bases: dict[str, str]) -> dict[str, Any]:
    """Fields of the model card of an imported model; the imported weights' licence stands first.

    Args:
        system: recipe name.
        title: headline.
        source: what was imported.
        licence: what its authors say.
        bases: part -> model.
    """
    named = {ROLE_KEYS.get(part, part): model for part, model in bases.items()}
    facts = base_facts(named)
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


def source_files(source: Path) -> list[Path]:
    """All files below a source that a checkpoint may be in.

    Raises:
        FileNotFoundError: if there is no such folder, or nothing in it.
    """
    from insightedit.export.importers.files import ENDINGS

    if not source.exists():
        raise FileNotFoundError(f"No checkpoint at {source}: give the folder or file that was published.")
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.suffix in ENDINGS)
    if not files:
        raise FileNotFoundError(
            f"{source} holds no file ending in {', '.join(ENDINGS)}: give the folder that was published."
        )
    return files
