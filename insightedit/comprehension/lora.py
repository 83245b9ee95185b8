"""Adapters of the language model: attach, list, save, load, merge. All of them are peft's.

What trains inside the MLLM is two things only: low-rank adapters on the language model's attention, and the rows of
the edit tokens in `embed_tokens` and `lm_head`, or these two tables whole (MGIE). The vision tower, whose layers carry
the same names, is left alone.
"""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from peft import LoraConfig as PeftLoraConfig
from peft import (
    PeftConfig,
    PeftModel,
    TrainableTokensConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from torch import nn

from insightedit.comprehension.edit_tokens import edit_token_parameters, vocabulary_tables

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from insightedit.config.schema import LoraConfig

ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_NAME = "default"  # peft's name for the first adapter
VOCABULARY_LAYERS = ("embed_tokens", "lm_head")


def attach(
    mllm: PreTrainedModel, edit_token_ids: list[int], lora: LoraConfig | None, *, train_embeddings: bool = False
) -> PeftModel | PreTrainedModel:
    """Freeze the model; add LoRA (unless None) and trainable rows for the edit tokens.

    Args:
        mllm: stock model that knows the edit tokens; its layers are wrapped in place.
        edit_token_ids: rows to train.
        lora: rank, alpha, dropout and names of the language model's layers; None trains the rows alone.
        train_embeddings: train `embed_tokens` and `lm_head` whole, in place, instead of the edit tokens' rows.

    Returns:
        The model behind peft, or the stock model where peft has nothing to do (all rows and no LoRA). Trainable:
        `*lora_*` and `*trainable_tokens_delta*`, or `*embed_tokens.weight` and `*lm_head.weight`; all float32.

    Raises:
        ValueError: if no layer of the language model has one of `lora.target_modules`' names.
    """
    if train_embeddings:
        mllm.requires_grad_(False)
        for table in vocabulary_tables(mllm):
            table.data = table.data.float()
        model = mllm if lora is None else wrap(mllm, _lora_config(mllm, lora, rows=None))
        for table in vocabulary_tables(mllm):  # again, since peft freezes what it wraps
            table.requires_grad_(True)
        return model
    model = wrap(mllm, peft_config(mllm, edit_token_ids, lora))
    # a step of 1e-5 is below bfloat16's resolution, so trained rows are kept in float32; the layer casts them on use
    for rows in edit_token_parameters(model).values():
        rows.data = rows.data.float()
    return model


def peft_config(mllm: PreTrainedModel, edit_token_ids: list[int], lora: LoraConfig | None) -> PeftConfig:
    """peft's description of what `attach` adds."""
    # where the tables are tied, peft ties the rows of `lm_head` to those of `embed_tokens` by itself
    layers = VOCABULARY_LAYERS[: len(vocabulary_tables(mllm))]
    if lora is None:
        return TrainableTokensConfig(target_modules=list(layers), token_indices=list(edit_token_ids))
    return _lora_config(mllm, lora, rows={layer: list(edit_token_ids) for layer in layers})


def _lora_config(mllm: nn.Module, lora: LoraConfig, *, rows: dict[str, list[int]] | None) -> PeftLoraConfig:
    return PeftLoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=language_model_layers(mllm, lora.target_modules),
        trainable_token_indices=rows,
        bias="none",
    )


def language_model_layers(mllm: nn.Module, names: list[str]) -> str:
    """Pattern for the language model's layers with these names, not the vision tower's.

    Raises:
        ValueError: if it matches nothing.
    """
    pattern = rf".*\blanguage_model\.layers\.\d+\..*\b({'|'.join(re.escape(name) for name in names)})"
    if not any(re.fullmatch(pattern, name) for name, _ in mllm.named_modules()):
        linear = {name.rsplit(".", 1)[-1] for name, module in mllm.named_modules() if isinstance(module, nn.Linear)}
        raise ValueError(
            f"lora.target_modules is {names}, none of which is a layer of this language model; the whole model has "
            f"{sorted(linear)}: set comprehension.lora.target_modules to some of them, e.g. [q_proj, v_proj]."
        )
    return pattern


def save_adapter(model: PeftModel, folder: str | Path) -> Path:
    """Write LoRA and token rows alone, a few MB, as a folder that peft reads.

    Returns:
        The folder.

    Raises:
        ValueError: if the model trains its vocabulary tables whole, which an adapter does not hold.
    """
    tables = tuple(f"{layer}.weight" for layer in VOCABULARY_LAYERS)  # behind token rows they have other names
    if any(p.requires_grad for name, p in model.named_parameters() if name.endswith(tables)):
        raise ValueError(
            "this model trains embed_tokens and lm_head whole (comprehension.train_embeddings), and an adapter holds "
            "the edit tokens' rows only: save the merged model instead."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in get_peft_model_state_dict(model).items()}
    save_file(state, folder / ADAPTER_FILE, metadata={"format": "pt"})
    model.peft_config[ADAPTER_NAME].save_pretrained(str(folder))
    return folder


def load_adapter(model: PeftModel, folder: str | Path) -> None:
    """Read what `save_adapter` wrote into a model that has the same adapters attached.

    Raises:
        FileNotFoundError: if the folder holds no adapter.
        ValueError: if the file's tensors are not exactly the model's.
    """
    path = Path(folder) / ADAPTER_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {ADAPTER_FILE}: write one with `save_adapter(model, folder)`.")
    state, wanted = load_file(path), get_peft_model_state_dict(model)
    if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in wanted.items()}:
        differing = sorted(set(state) ^ set(wanted)) or [n for n in state if state[n].shape != wanted[n].shape]
        raise ValueError(
            f"{path} does not fit this model: {len(differing)} tensors differ, first {differing[0]}. "
            "Use the num_edit_tokens and lora settings that the adapter was trained with."
        )
    set_peft_model_state_dict(model, state)


def merge(model: PeftModel | PreTrainedModel) -> PreTrainedModel:
    """A stock model that computes the same, LoRA and token rows folded into its weights.

    The given model is left as it is. A 4-bit or 8-bit model is merged in floating point, because folding LoRA into
    rounded weights would round it away.

    Args:
        model: what `attach` returned, or a stock model, which is only copied.
    """
    merged = copy.deepcopy(model)
    if isinstance(merged, PeftModel):
        if getattr(merged.get_base_model(), "is_quantized", False):  # the same adapters on weights in floating point
            config, state = merged.peft_config[ADAPTER_NAME], get_peft_model_state_dict(merged)
            merged = wrap(merged.unload().dequantize(), config)
            set_peft_model_state_dict(merged, state)
        merged = merged.merge_and_unload()
    elif getattr(merged, "is_quantized", False):
        merged = merged.dequantize()
    return merged.requires_grad_(False).eval()


def wrap(mllm: PreTrainedModel, config: PeftConfig) -> PeftModel:
    """`peft.get_peft_model` without the warnings that do not apply here."""
    with warnings.catch_warnings():
        # peft 0.21 reads a property that transformers 5 has renamed ...
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        # ... and warns about tied tables before it ties the trained rows, as it does
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`", category=UserWarning)
        return get_peft_model(mllm, config)  # type: ignore[return-value]
