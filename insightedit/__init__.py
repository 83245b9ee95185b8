"""Edit pictures by instruction: InsightEdit, trained, run and measured on stock libraries.

The folders follow the paper's figure: `comprehension` (a multimodal language model reads picture and instruction),
`bridging` (Q-Former, BIM, IAA turn its states into conditions), `generation` (the denoiser draws).

Shape letters in docstrings: B batch, T text tokens, R edit tokens, Q queries, P vision patches, D width,
C channels, H W pixels, h w latent grid.

Public names are imported on first use, so that `import insightedit` itself loads nothing heavy:

    from insightedit import InsightEditPipeline, load_pipeline
"""

from __future__ import annotations

import importlib
import logging
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from insightedit.bridging.bim import BIM
    from insightedit.bridging.bridge import EditBridge
    from insightedit.bridging.edit_head import EditHead
    from insightedit.bridging.iaa import IAA
    from insightedit.bridging.qformer import QFormer
    from insightedit.comprehension.llava import LlavaComprehension
    from insightedit.config.load import ConfigError, load_config
    from insightedit.config.schema import Config
    from insightedit.generation.unet import EditUNet
    from insightedit.model.editor import Editor
    from insightedit.pipelines.base import InsightEditOutput
    from insightedit.pipelines.edit import InsightEditPipeline
    from insightedit.pipelines.interleaved import InterleavedEditPipeline
    from insightedit.pipelines.loading import load_pipeline

__version__ = "0.2.0"

_HOMES = {
    "BIM": "insightedit.bridging.bim",
    "Config": "insightedit.config.schema",
    "ConfigError": "insightedit.config.load",
    "EditBridge": "insightedit.bridging.bridge",
    "EditHead": "insightedit.bridging.edit_head",
    "EditUNet": "insightedit.generation.unet",
    "Editor": "insightedit.model.editor",
    "IAA": "insightedit.bridging.iaa",
    "InsightEditOutput": "insightedit.pipelines.base",
    "InsightEditPipeline": "insightedit.pipelines.edit",
    "InterleavedEditPipeline": "insightedit.pipelines.interleaved",
    "LlavaComprehension": "insightedit.comprehension.llava",
    "QFormer": "insightedit.bridging.qformer",
    "load_config": "insightedit.config.load",
    "load_pipeline": "insightedit.pipelines.loading",
}

# What model folders name and few people import; diffusers' loader looks here for its own base classes, too
_HOMES |= {
    "AdaptedMllm": "insightedit.comprehension.adapter_checkpoint",
    "ComposedEditPipeline": "insightedit.pipelines.edit",
    "Blip2PictureEncoder": "insightedit.comprehension.blip2_t5",
    "EditTransformer": "insightedit.generation.transformer",
    "FusionBridge": "insightedit.bridging.fusion",
    "ModelMixin": "diffusers",
    "PreTrainedModel": "transformers",
}
OLD_HOMES = ("insightedit.pipeline", "insightedit.interleaved_pipeline")  # of classes, in folders that 0.1.0 wrote

__all__ = [
    "BIM",
    "Config",
    "ConfigError",
    "EditBridge",
    "EditHead",
    "EditUNet",
    "Editor",
    "IAA",
    "InsightEditOutput",
    "InsightEditPipeline",
    "InterleavedEditPipeline",
    "LlavaComprehension",
    "QFormer",
    "__version__",
    "load_config",
    "load_pipeline",
]

# diffusers imports bitsandbytes, which misses a GPU there and says so to everybody
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module `insightedit` has no `{name}`; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


class _OldHome(ModuleType):
    """A module that is no more: its names are the package's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules[__name__], name)


for _name in OLD_HOMES:
    sys.modules[_name] = _OldHome(_name)


def __dir__() -> list[str]:
    """Public names, imported or not."""
    return sorted({*globals(), *__all__})
