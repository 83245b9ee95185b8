"""IP-Adapter files for Stable Diffusion 1.5 -> the image branch of a model.

SRC holds `image_proj.proj.*`, `image_proj.norm.*` and, for every cross-attention, `ip_adapter.<odd number>.to_k_ip` and
`to_v_ip`. The numbers count all attentions of the UNet in the order of its `attn_processors`, even ones being
self-attention.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insightedit.export.card import shown
from insightedit.export.importers.bases import card_of, empty_unet, load_base
from insightedit.export.importers.files import read_checkpoint
from insightedit.export.importers.mapping import Rule, fill, translate
from insightedit.export.importers.report import ImportReport
from insightedit.export.importers.write import Imported
from insightedit.modeling.model_files import read_json
from insightedit.modeling.pretrained import load_pretrained

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

NAME = "ip-adapter"
BASES: dict[str, str | None] = {"model": None, "image_encoder": None}
LICENCE = "apache-2.0 (IP-Adapter's repository)"
PROJECTION = "encoder_hid_proj.image_projection_layers.0."
IMAGE_BRANCH = re.compile(r"encoder_hid_proj\..*|.*\.processor\.to_[kv]_ip\..*")


def import_ip_adapter(source: Path, bases: dict[str, str], report: ImportReport) -> Imported:
    """Read, check, place.

    Args:
        source: the file.
        bases: `model`, a pipeline folder of this package, a folder with `unet/`, or a UNet's folder; `image_encoder`,
            the CLIP model whose embeddings the adapter reads, for a pipeline that has none.
        report: filled.

    Returns:
        The base with its image branch filled: a pipeline where it was one, else a UNet.

    Raises:
        ValueError: if the adapter is of another kind, or does not fit the base.
    """
    if "model" not in bases:
        raise ValueError(
            "ip-adapter fills the image branch of a model: name it with --base MODEL, a model folder of this package "
            "or a UNet that edits (`insightedit import instructpix2pix` makes one)."
        )
    is_pipeline = _is_pipeline(bases["model"])
    checkpoint = read_checkpoint(source)
    pipeline = _open_pipeline(bases["model"]) if is_pipeline else None
    unet = pipeline.unet if pipeline is not None else load_base("a UNet", bases["model"], _open_unet)
    rules = _rules(unet, _numbers(checkpoint.tensors, source))
    given = translate(checkpoint, rules, report)
    tokens, width = _sizes(given, int(unet.config.cross_attention_dim), source)
    report.facts |= {"image_tokens": tokens, "image_embed_dim": width}
    new = _with_branch(unet, given, tokens, width, report, str(source), shown(bases["model"]))
    card = card_of(NAME, f"{source.stem} in {shown(bases['model'])}", source.name, LICENCE, bases)
    if pipeline is None:
        return Imported(unet=new, card=card)
    _check_prediction(pipeline, width, source)
    return Imported(
        pipeline=_rebuilt(pipeline, new, width, bases, report, source),
        card=card,
        for_training=_text_parts(bases["model"], report),
    )


def _is_pipeline(model: str) -> bool:
    """Whether a folder or hub id holds a pipeline of this package; else it is a UNet.

    Raises:
        ValueError: if its index is damaged.
    """
    from insightedit.modeling.model_ids import resolve_model_id

    index = Path(resolve_model_id(model)) / "model_index.json"
    return index.is_file() and read_json(index).get("_class_name") == "InsightEditPipeline"


def _open_pipeline(model: str) -> Any:
    from insightedit.pipelines.edit import InsightEditPipeline

    return load_base("a model folder of this package", model, lambda f: InsightEditPipeline.from_pretrained(f))


def _text_parts(model: str, report: ImportReport) -> dict[str, Any]:
    """Text encoder and tokenizer of a model folder; none where it was written without them."""
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    from insightedit.modeling.model_ids import resolve_model_id

    folder = Path(resolve_model_id(model))
    if not all((folder / part).is_dir() for part in ("text_encoder", "tokenizer")):
        return {}
    for part in ("text_encoder", "tokenizer"):
        report.taken(part, shown(model))
    encoder = load_pretrained(CLIPTextModel, folder, subfolder="text_encoder", dtype=torch.float32)
    return {"text_encoder": encoder, "tokenizer": load_pretrained(CLIPTokenizer, folder, subfolder="tokenizer")}


def _open_unet(folder: str) -> Any:
    from diffusers import UNet2DConditionModel

    from insightedit.generation.unet import EditUNet

    subfolder = None if (Path(folder) / "config.json").is_file() else "unet"
    kind = EditUNet.load_config(folder, subfolder=subfolder).get("_class_name")
    loader = EditUNet if kind == EditUNet.__name__ else UNet2DConditionModel
    return load_pretrained(loader, folder, subfolder=subfolder)


def _numbers(tensors: Mapping[str, Tensor], source: Path) -> list[int]:
    """The numbers of the cross-attentions.

    Raises:
        ValueError: if this is another kind of adapter.
    """
    if any(name.startswith(("image_proj.latents", "image_proj.layers", "image_proj.proj.0")) for name in tensors):
        raise ValueError(
            f"{source} is a Plus, full-face or FaceID adapter, which reads many states of a picture through a network "
            "of its own: the image branch here reads one embedding. Take ip-adapter_sd15 or ip-adapter_sd15_light."
        )
    found = (re.fullmatch(r"ip_adapter\.(\d+)\.to_[kv]_ip\.weight", name) for name in tensors)
    numbers = sorted({int(match[1]) for match in found if match})
    if not numbers or not any(name.startswith("image_proj.") for name in tensors):
        raise ValueError(
            f"{source} holds no image_proj.* and ip_adapter.<number>.to_k_ip.weight: it is no IP-Adapter file."
        )
    return numbers


def _rules(unet: Any, numbers: list[int]) -> list[Rule]:
    names = [n.removesuffix(".processor") for n in unet.attn_processors if "attn2" in n]
    wanted = [2 * index + 1 for index in range(len(names))]
    if numbers != wanted:
        raise ValueError(
            f"the adapter has {len(numbers)} cross-attentions (numbers {numbers[0]} to {numbers[-1]}), the UNet of the "
            f"base has {len(names)} (1 to {wanted[-1]}): an SD-1.5 adapter fits SD-1.5 UNets only, whole."
        )
    rules = [
        Rule(r"image_proj\.proj\.(weight|bias)", rf"{PROJECTION}image_embeds.\1"),
        Rule(r"image_proj\.norm\.(weight|bias)", rf"{PROJECTION}norm.\1"),
    ]
    for number, name in zip(wanted, names, strict=True):
        old = rf"ip_adapter\.{number}\.to_([kv])_ip\.weight"
        rules.append(Rule(old, rf"{name}.processor.to_\1_ip.0.weight"))
    return rules


def _sizes(given: Mapping[str, Tensor], text_width: int, source: Path) -> tuple[int, int]:
    """N and D_img, from the projection's shape."""
    weight = given.get(f"{PROJECTION}image_embeds.weight")
    if weight is None or weight.ndim != 2 or weight.shape[0] % text_width:
        shape = None if weight is None else tuple(weight.shape)
        raise ValueError(
            f"{source}: image_proj.proj.weight has shape {shape}; for this base its rows are a multiple of "
            f"{text_width}, the width of the text states. Name a base of the adapter's Stable Diffusion version."
        )
    return weight.shape[0] // text_width, weight.shape[1]


def _with_branch(
    unet: Any, given: dict[str, Tensor], tokens: int, width: int, report: ImportReport, source: str, base: str
) -> Any:
    """The same UNet with another image branch."""
    config = dict(unet.config)
    latents = int(config["out_channels"])
    if unet.conv_in.weight.shape[1] != 2 * latents:
        raise ValueError(
            f"{base}: its UNet reads {unet.conv_in.weight.shape[1]} channels, one that edits reads {2 * latents}: name "
            "a model folder of this package, or the outcome of `insightedit import instructpix2pix`."
        )
    kept = {n: t for n, t in unet.state_dict().items() if not IMAGE_BRANCH.fullmatch(n)}
    own = ("residual_channels", "source_prior", "position_embedding")
    branches = {"source_channels": latents, "residual_channels": 0, **{k: config[k] for k in own if k in config}}
    new = empty_unet(config, **branches, image_tokens=tokens, image_embed_dim=width)
    fill("unet", new, given, report, source=source, base=kept, base_name=base)
    return new


def _check_prediction(pipeline: Any, width: int, source: Path) -> None:
    """Refuse an adapter that could not read what the model predicts."""
    predicted = None if pipeline.bridge.iaa is None else pipeline.bridge.iaa.out.out_features
    if predicted not in (None, width):
        raise ValueError(
            f"{source} reads image embeddings {width} wide (1024: OpenCLIP ViT-H), the base predicts them {predicted} "
            "wide: its predictions would not fit. Take a base without image branch, where the adapter serves reference "
            "pictures, or an adapter of that width."
        )


def _rebuilt(pipeline: Any, unet: Any, width: int, bases: dict[str, str], report: ImportReport, source: Path) -> Any:
    """The pipeline with the new UNet and, where one is named, its image encoder."""
    encoder, extractor = pipeline.image_encoder, pipeline.feature_extractor
    if "image_encoder" in bases:
        what = "a CLIP image encoder with projection and its image processor"
        encoder, extractor = load_base(what, bases["image_encoder"], _open_encoder)
        report.taken("image_encoder", shown(bases["image_encoder"]))
    if encoder is not None and encoder.config.projection_dim != width:
        raise ValueError(
            f"{source} reads image embeddings {width} wide, the image encoder of the model gives "
            f"{encoder.config.projection_dim}: name the adapter's own with --base image_encoder= (1024: "
            "laion/CLIP-ViT-H-14-laion2B-s32B-b79K)."
        )
    for name in ("mllm", "bridge", "vae", "scheduler"):
        report.taken(name, shown(bases["model"]))
    arguments = {k: v for k, v in pipeline.config.items() if k not in pipeline.components and k[0] != "_"}
    parts = {**pipeline.components, "unet": unet, "image_encoder": encoder, "feature_extractor": extractor}
    return type(pipeline)(**parts, **arguments)


def _open_encoder(folder: str) -> tuple[Any, Any]:
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    config = json.loads((Path(folder) / "config.json").read_text("utf-8")) if Path(folder).is_dir() else {}
    if config and "clip" not in str(config.get("model_type")):
        raise ValueError(f"its config.json says {config.get('model_type')}")
    encoder = load_pretrained(CLIPVisionModelWithProjection, folder)
    return encoder.eval(), load_pretrained(CLIPImageProcessor, folder)
