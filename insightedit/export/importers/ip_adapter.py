"""IP-Adapter files for Stable Diffusion 1.5 -> the image branch of a model.

SRC holds `image_proj.proj.*`, `image_proj.norm.*` and, for every cross-attention, `ip_adapter.<odd number>.to_k_ip` and
`to_v_ip`. The numbers count all attentions of the UNet in the order of its `attn_processors`, even ones being
self-attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from insightedit.export.card import shown
from insightedit.export.importers.bases import card_of, empty_unet, open_base
from insightedit.export.importers.mapping import Imported, ImportReport, Rule, fill, read_checkpoint, translate
from insightedit.modeling.model_files import read_json
from insightedit.modeling.pretrained import load_pretrained, resolve_model_id

NAME = "ip-adapter"
BASES: dict[str, str | None] = {"model": None, "image_encoder": None}
LICENCE = "apache-2.0 (IP-Adapter's repository)"
PROJECTION = "encoder_hid_proj.image_projection_layers.0."
IMAGE_BRANCH = re.compile(r"encoder_hid_proj\..*|.*\.processor\.to_[kv]_ip\..*")


def convert(source: Path, bases: dict[str, str], report: ImportReport) -> Imported:
    """The base model with its image branch filled: a pipeline where it was one, else a UNet.

    `bases` names the `model` (a pipeline folder of this package, a folder with `unet/`, or a UNet's folder) and, for a
    pipeline that has none, the `image_encoder`: the CLIP model whose embeddings the adapter reads.
    """
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    if "model" not in bases:
        raise ValueError(
            "ip-adapter fills the image branch of a model: name it with --base MODEL, a model folder of this package "
            "or a UNet that edits (`insightedit import instructpix2pix` makes one)."
        )
    index = Path(resolve_model_id(bases["model"])) / "model_index.json"
    is_pipeline = index.is_file() and read_json(index).get("_class_name") == "InsightEditPipeline"
    checkpoint = read_checkpoint(source)  # before the base, which takes longer to load
    pipeline, unet = _open_model(bases["model"], is_pipeline)
    given = translate(checkpoint, _rules(unet, _numbers(checkpoint.tensors, source)), report)
    weight, text_width = given.get(f"{PROJECTION}image_embeds.weight"), int(unet.config.cross_attention_dim)
    if weight is None or weight.ndim != 2 or weight.shape[0] % text_width:
        shape = None if weight is None else tuple(weight.shape)
        raise ValueError(
            f"{source}: image_proj.proj.weight has shape {shape}; for this base its rows are a multiple of "
            f"{text_width}, the width of the text states. Name a base of the adapter's Stable Diffusion version."
        )
    tokens, width = weight.shape[0] // text_width, weight.shape[1]
    report.facts |= {"image_tokens": tokens, "image_embed_dim": width}
    base = shown(bases["model"])
    new = _with_branch(unet, given, tokens, width, report, str(source), base)
    card = card_of(NAME, f"{source.stem} in {base}", source.name, LICENCE, bases)
    if pipeline is None:
        return Imported(card, unet=new)
    pipeline = _rebuilt(pipeline, new, width, bases, report, source)
    folder = Path(resolve_model_id(bases["model"]))
    if not all((folder / part).is_dir() for part in ("text_encoder", "tokenizer")):
        return Imported(card, pipeline)
    report.taken(base, "text_encoder", "tokenizer")
    encoder = load_pretrained(CLIPTextModel, folder, subfolder="text_encoder", dtype=torch.float32)
    tokenizer = load_pretrained(CLIPTokenizer, folder, subfolder="tokenizer")
    return Imported(card, pipeline, for_training={"text_encoder": encoder, "tokenizer": tokenizer})


def _open_model(model: str, is_pipeline: bool) -> tuple[Any, Any]:
    """A pipeline of this package and its UNet, or None and a UNet."""
    from diffusers import UNet2DConditionModel

    from insightedit.generation.unet import EditUNet
    from insightedit.pipelines.edit import InsightEditPipeline

    if is_pipeline:
        with open_base("a model folder of this package", model) as folder:
            pipeline = InsightEditPipeline.from_pretrained(folder)
        return pipeline, pipeline.unet
    with open_base("a UNet", model) as folder:
        subfolder = None if (Path(folder) / "config.json").is_file() else "unet"
        kind = EditUNet.load_config(folder, subfolder=subfolder).get("_class_name")
        loader = EditUNet if kind == EditUNet.__name__ else UNet2DConditionModel
        return None, load_pretrained(loader, folder, subfolder=subfolder)


def _numbers(tensors: Mapping[str, Tensor], source: Path) -> list[int]:
    """The numbers of the cross-attentions."""
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
    own = {k: config[k] for k in ("residual_channels", "source_prior", "position_embedding") if k in config}
    new = empty_unet(config, **own, image_tokens=tokens, image_embed_dim=width)
    fill("unet", new, given, report, source=source, base=kept, base_name=base)
    return new


def _rebuilt(pipeline: Any, unet: Any, width: int, bases: dict[str, str], report: ImportReport, source: Path) -> Any:
    """The pipeline with the new UNet and, where one is named, its image encoder."""
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    predicted = None if pipeline.bridge.iaa is None else pipeline.bridge.iaa.out.out_features
    if predicted not in (None, width):
        raise ValueError(
            f"{source} reads image embeddings {width} wide (1024: OpenCLIP ViT-H), the base predicts them {predicted} "
            "wide: its predictions would not fit. Take a base without image branch, where the adapter serves reference "
            "pictures, or an adapter of that width."
        )
    encoder, extractor = pipeline.image_encoder, pipeline.feature_extractor
    if "image_encoder" in bases:
        what = "a CLIP image encoder with projection and its image processor"
        with open_base(what, bases["image_encoder"]) as folder:
            config = read_json(Path(folder) / "config.json") if Path(folder).is_dir() else {}
            if config and "clip" not in str(config.get("model_type")):
                raise ValueError(f"its config.json says {config.get('model_type')}")
            encoder = load_pretrained(CLIPVisionModelWithProjection, folder).eval()
            extractor = load_pretrained(CLIPImageProcessor, folder)
        report.taken(shown(bases["image_encoder"]), "image_encoder")
    if encoder is not None and encoder.config.projection_dim != width:
        raise ValueError(
            f"{source} reads image embeddings {width} wide, the image encoder of the model gives "
            f"{encoder.config.projection_dim}: name the adapter's own with --base image_encoder= (1024: "
            "laion/CLIP-ViT-H-14-laion2B-s32B-b79K)."
        )
    report.taken(shown(bases["model"]), "mllm", "bridge", "vae", "scheduler")
    arguments = {k: v for k, v in pipeline.config.items() if k not in pipeline.components and k[0] != "_"}
    parts = {**pipeline.components, "unet": unet, "image_encoder": encoder, "feature_extractor": extractor}
    return type(pipeline)(**parts, **arguments)
