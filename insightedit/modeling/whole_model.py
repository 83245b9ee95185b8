"""A diffusers model that is loaded whole or not at all, and saved so that it can be.

diffusers only warns where a folder lacks tensors, and draws with whatever stood in memory.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any

import torch
from diffusers import ModelMixin

ALIGNMENT = 64  # bytes of torch's own allocation; the last bits depend on it, and files have odd offsets
_SHAPE = re.compile(r"because (?P<name>\S+) expected shape|size mismatch for (?P<other>\S+):")


class WholeModel(ModelMixin):
    """Base of this package's own parts: folders hold every tensor that their config builds, and no other."""

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> Any:
        """As in diffusers; a ValueError names the first tensor that is missing, has no place or another shape."""
        wants_info = kwargs.pop("output_loading_info", False)
        place = os.path.join(pretrained_model_name_or_path, kwargs.get("subfolder") or "")
        try:
            loaded: Any = super().from_pretrained(pretrained_model_name_or_path, output_loading_info=True, **kwargs)
        except (ValueError, RuntimeError) as error:
            found = _SHAPE.search(str(error))
            if found is None:
                raise
            name = found["name"] or found["other"]
            raise ValueError(
                f"{place} does not fit its config.json: {name} has another shape than {cls.__name__} builds from it. "
                "Get the folder again; config and weights belong together."
            ) from error
        model, info = loaded
        missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
        if missing or unexpected:
            what = f"lacks {missing[0]}" if missing else f"holds {unexpected[0]}, which has no place in it"
            raise ValueError(
                f"{place} is no whole {cls.__name__}: it {what} ({len(missing)} tensors missing, {len(unexpected)} "
                "unexpected). Get the folder again; config and weights belong together."
            )
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
                tensor.data = tensor.data.clone()
        return (model, info) if wants_info else model

    @functools.wraps(ModelMixin.save_pretrained)  # a pipeline reads from the signature what it may ask for
    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in diffusers; a ValueError if a tensor was lost, or something put in (LoRA layers, fused projections)."""
        wanted = held = {name: tensor.shape for name, tensor in self.state_dict().items()}
        if getattr(self, "hf_quantizer", None) is None:
            with torch.device("meta"):
                wanted = {name: t.shape for name, t in type(self).from_config(self.config).state_dict().items()}
        if differing := sorted(set(wanted.items()) ^ set(held.items())):
            name = differing[0][0]
            how = "differs in shape" if name in wanted and name in held else "is extra"
            raise ValueError(
                f"this {type(self).__name__} is not what its config builds, so a folder of it would not load: {name} "
                f"{'is missing' if name not in held else how}. Take LoRA layers out (fuse_lora, then "
                "unload_lora_weights), unfuse projections, set the trained processors again, and save then."
            )
        super().save_pretrained(save_directory, *args, **kwargs)
