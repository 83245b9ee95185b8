"""A language model as a base model and an adapter: a few MB in place of gigabytes.

    mllm/adapter_config.json        peft's; names the base model
    mllm/adapter_model.safetensors  peft's: LoRA and the edit tokens' rows, float32
    mllm/base.json                  what peft has no place for, see `BaseModel`

`AdaptedMllm.from_pretrained` loads the base model, checks that it is the one the adapter was trained on, and merges
in float32. What comes out is a stock model with the weights that a merged export holds, bit for bit.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from peft import LoraConfig, PeftConfig, PeftModel, TrainableTokensConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from insightedit.comprehension.edit_tokens import edit_token_parameters, vocabulary_tables
from insightedit.comprehension.lora import ADAPTER_NAME, load_adapter, save_adapter, wrap
from insightedit.modeling.model_files import check_settings, read_json
from insightedit.modeling.pretrained import load_pretrained, resolve_model_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BASE_FILE = "base.json"
DTYPES = ("float32", "float16", "bfloat16")
PEFT_KINDS: dict[str, Any] = {"LORA": LoraConfig, "TRAINABLE_TOKENS": TrainableTokensConfig}
OWN_SETTINGS = {
    "peft_type", "peft_version", "base_model_name_or_path", "inference_mode", "r", "lora_alpha", "lora_dropout",
    "target_modules", "trainable_token_indices", "token_indices", "revision", "auto_mapping",
}  # fmt: skip
# what `lora.language_model_layers` writes; another pattern could take for ever to match
LAYERS = re.compile(r"\.\*\\blanguage_model\\\.layers\\\.\\d\+\\\.\.\*\\b\([\w|]+\)")
SAMPLED = 64  # values of each tensor that the fingerprint reads
_WRAPPERS = re.compile(r"\.(base_layer|token_adapter|original_module)(?=\.)")
_ADAPTER_PARTS = re.compile(r"lora_|trainable_tokens_|modules_to_save")


@dataclass(frozen=True)
class BaseModel:
    """The base model of an adapter."""

    model: str  # folder, hub id, or `miniature:SIZE/PART`
    vocabulary: int  # rows of its tables after the edit tokens were added
    vision_feature_layer: int  # hidden state of the vision tower that is read
    dtype: str  # float32, float16 or bfloat16; what the merged weights are rounded to
    fingerprint: str


class AdaptedMllm(ModelMixin):
    """The part `mllm` of a pipeline folder whose language model was exported as an adapter.

    It only saves and loads: `from_pretrained` gives back a stock model, never an instance of this class.

    Args:
        mllm: model behind peft, as `lora.attach` returns it; left as it is.
        base: id of the model below the adapter.
        dtype: what merged weights are to be rounded to.
        tokenizer: knows the edit tokens; saved beside the adapter, so that `peft.AutoPeftModel` can load the folder.

    Raises:
        ValueError: if there is no adapter, or it sits on rounded (4-bit, 8-bit) weights.
    """

    def __init__(self, mllm: nn.Module, *, base: str, dtype: torch.dtype, tokenizer: Any = None) -> None:
        super().__init__()
        if not isinstance(mllm, PeftModel):
            raise ValueError("this model's language model has no adapter: export it with its weights (--merge-lora).")
        stock: Any = mllm.get_base_model()
        if getattr(stock, "is_quantized", False):
            raise ValueError(
                f"the adapter was trained on rounded (4-bit or 8-bit) weights of {base}, and would mean something "
                "else on the full ones: export with --merge-lora."
            )
        self.mllm = mllm
        self.tokenizer = tokenizer
        self.base = BaseModel(
            model=base,
            vocabulary=vocabulary_tables(stock)[0].shape[0],
            vision_feature_layer=int(stock.config.vision_feature_layer),
            dtype=str(dtype).removeprefix("torch."),
            fingerprint=fingerprint(mllm),
        )

    def save_pretrained(self, save_directory: str | os.PathLike, **_: Any) -> None:  # type: ignore[override]
        """Write the three files; diffusers' options on shards and formats do not matter here."""
        folder = save_adapter(self.mllm, Path(save_directory))
        config = copy.deepcopy(self.mllm.peft_config[ADAPTER_NAME])
        config.base_model_name_or_path, config.inference_mode = self.base.model, True
        stock: Any = self.mllm.get_base_model()
        config.auto_mapping = {"base_model_class": type(stock).__name__, "parent_library": "transformers"}
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        config.save_pretrained(str(folder))
        (folder / BASE_FILE).write_text(json.dumps(asdict(self.base), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, folder: str | os.PathLike, *, torch_dtype: torch.dtype | None = None, **_: Any
    ) -> PreTrainedModel:
        """Base model and adapter as one stock model.

        Args:
            folder: `mllm` of a pipeline folder.
            torch_dtype: of the result; None keeps the export's.

        Returns:
            The merged model in eval mode, frozen.

        Raises:
            ValueError: if the base model is not to be had, or is another one than the adapter was trained on.
        """
        folder = Path(folder)
        base, config = read_adapter(folder)
        config.base_model_name_or_path = None  # peft would warn that our names for miniatures are not its own
        model = wrap(_load_base(base, folder), config)
        if fingerprint(model) != base.fingerprint:
            raise ValueError(
                f"the adapter in {folder} was trained on {base.model}, but other weights lie under that name here: "
                "get the base model it was trained on, or export the run again."
            )
        for rows in edit_token_parameters(model).values():
            rows.data = rows.data.float()
        load_adapter(model, folder)
        for layer in model.modules():
            if isinstance(layer, BaseTunerLayer):  # as in training, the sum is taken in float32 and rounded once
                layer.float()
        merged = model.merge_and_unload().requires_grad_(False).eval()
        for weight in merged.parameters():  # not the buffers: rotary frequencies stay float32, as in every loading
            weight.data = weight.data.to(getattr(torch, base.dtype)).to(torch_dtype or getattr(torch, base.dtype))
        return merged


def read_adapter(folder: Path) -> tuple[BaseModel, PeftConfig]:
    """What an adapter's folder says about itself, checked; nothing is loaded.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if it is no adapter that this package wrote.
    """
    place, config_file = folder / BASE_FILE, folder / "adapter_config.json"
    held = read_json(place)
    check_settings(place, held)
    types = {"vocabulary": int, "vision_feature_layer": int}
    wrong = [one.name for one in fields(BaseModel) if type(held.get(one.name)) is not types.get(one.name, str)]
    wrong += sorted(held.keys() - {one.name for one in fields(BaseModel)})
    if wrong or held["dtype"] not in DTYPES or held["vocabulary"] < 1:
        raise ValueError(
            f"{place} is not as this package writes it ({(wrong or ['a value'])[0]}): export the run again."
        )
    written = read_json(config_file)
    check_settings(config_file, written)
    kind = PEFT_KINDS.get(str(written.get("peft_type")))
    usual = json.loads(json.dumps(kind().to_dict(), default=list)) if kind else {}
    # peft's other settings import modules by name, copy layers, or compute for hours
    other = sorted(
        name for name, value in written.items() if value and name not in OWN_SETTINGS and value != usual.get(name)
    )
    layers = written.get("target_modules")
    if isinstance(layers, str) and not LAYERS.fullmatch(layers):
        other.append("target_modules")
    if kind is None or other:
        raise ValueError(
            f"{config_file} describes an adapter that this package does not write "
            f"({other[0] if other else written.get('peft_type')!s:.100}): export the run again."
        )
    return BaseModel(**held), PeftConfig.from_pretrained(str(folder))


def _load_base(base: BaseModel, folder: Path) -> PreTrainedModel:
    from transformers import AutoModelForImageTextToText

    try:
        model = load_pretrained(AutoModelForImageTextToText, resolve_model_id(base.model), dtype="auto")
    except OSError as error:
        first_line = str(error).strip().splitlines()[0]
        raise ValueError(
            f"the adapter in {folder} needs its base model {base.model}, which cannot be loaded ({first_line}): "
            "get it, or use an export with merged weights."
        ) from error
    if vocabulary_tables(model)[0].shape[0] < base.vocabulary:
        model.resize_token_embeddings(base.vocabulary, mean_resizing=False)
    model.config.vision_feature_layer = base.vision_feature_layer
    return model


@torch.no_grad()
def fingerprint(mllm: nn.Module) -> str:
    """16 hex digits over names and first values of a base model's weights.

    The same whatever adapters wrap it, whatever float it is stored in, with new tokens or without.
    """
    values: dict[str, bytes] = {}
    model = mllm.get_base_model() if isinstance(mllm, PeftModel) else mllm
    for name, weight in model.named_parameters(remove_duplicate=False):
        if not _ADAPTER_PARTS.search(name):
            first = weight.detach().flatten()[:SAMPLED].float().cpu()
            values[_WRAPPERS.sub("", name)] = first.numpy().tobytes()
    digest = hashlib.sha256()
    for name in sorted(values):
        digest.update(name.encode() + b"\0" + values[name])
    return digest.hexdigest()[:16]
