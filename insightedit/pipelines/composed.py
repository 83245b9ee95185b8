"""ComposedEditPipeline: any comprehension and any denoiser by their kinds, LLaVA with PixArt or parts of one's own."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, ModelMixin, SchedulerMixin
from transformers import (
    CLIPImageProcessor,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from insightedit.bridging.bridge import EditBridge
from insightedit.config.kinds import KINDS, part_class
from insightedit.generation.denoiser import Denoiser
from insightedit.pipelines.edit import InsightEditPipeline


class ComposedEditPipeline(InsightEditPipeline):
    """Edits as `InsightEditPipeline` does, with whatever reads and draws.

    Args:
        mllm: what `comprehension` reads with.
        bridge: Q-Former or edit head, BIM, IAA.
        vae: autoencoder.
        scheduler: any diffusers scheduler of the denoiser's prediction type.
        processor: the mllm's processor or tokenizer, where it has one.
        unet: denoiser; or
        transformer: denoiser.
        image_encoder: CLIP tower for `reference_image`; optional.
        feature_extractor: its image processor; optional.
        comprehension_settings: as in a config's `comprehension`, its `kind` among them.
        resolution: side in pixels of the square the model draws.
        scale_source_latents: as trained.
        default_guidance_scale: s_T where a call names none.
        default_image_guidance_scale: s_I where a call names none.
        default_num_inference_steps: steps where a call names none.
        image_prompt_scale: lambda where a call names none.
        describe_prompt: as of `InsightEditPipeline`, as what follows.
        expressive: see there.
        max_new_tokens: see there.
        no_repeat_ngram_size: see there.
        known_words: see there.
        lowercase_instructions: see there.

    Raises:
        ValueError: if `resolution` does not fit the latent grid, there is not one denoiser, or the kind is of a
            module that was not imported: a model folder makes this package import nothing.
    """

    model_cpu_offload_seq = "mllm->bridge->image_encoder->unet->transformer->vae"
    _optional_components = ["processor", "unet", "transformer", "image_encoder", "feature_extractor"]  # noqa: RUF012
    _settings: ClassVar[dict[str, Any]] = {
        "comprehension_settings": {"kind": "llava"},
        **{
            name: default
            for name, default in InsightEditPipeline._settings.items()
            if name not in ("num_edit_tokens", "edit_token", "states_before_tokens")
        },
    }

    def __init__(
        self,
        mllm: PreTrainedModel | ModelMixin,
        bridge: EditBridge,
        vae: AutoencoderKL | AutoencoderDC | AutoencoderTiny,
        scheduler: SchedulerMixin,
        processor: ProcessorMixin | PreTrainedTokenizerBase | None = None,
        unet: Denoiser | None = None,
        transformer: Denoiser | None = None,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        comprehension_settings: dict[str, Any] | None = None,
        resolution: int | None = None,
        scale_source_latents: bool | None = None,
        default_guidance_scale: float | None = None,
        default_image_guidance_scale: float | None = None,
        default_num_inference_steps: int | None = None,
        image_prompt_scale: float | None = None,
        describe_prompt: str | None = None,
        expressive: bool | None = None,
        max_new_tokens: int | None = None,
        no_repeat_ngram_size: int | None = None,
        known_words: str | None = None,
        lowercase_instructions: bool | None = None,
    ) -> None:
        given = dict(locals())
        super(InsightEditPipeline, self).__init__()
        denoisers = [one for one in (unet, transformer) if one is not None]
        if len(denoisers) != 1:
            raise ValueError(f"{len(denoisers)} denoisers were given: `unet` or `transformer`, one of them, draws.")
        self._register(given, denoisers[0].grid, "denoiser")
        kind = str(self.config["comprehension_settings"].get("kind"))
        module = kind.partition(":")[0]
        if kind not in KINDS["comprehension"] and module not in sys.modules:
            raise ValueError(
                f"this model reads with {kind[:100]}, and a model folder makes this package import nothing: write "
                f"`import {module[:100]}` first if you know whose it is."
            )
        self._comprehension: Any = None

    @property
    def denoiser(self) -> Any:
        """The part that predicts noise."""
        return self.transformer if self.unet is None else self.unet

    @property
    def comprehension(self) -> Any:
        """What reads, built of `mllm` and `processor` when first needed."""
        if self._comprehension is None or self._comprehension.parts()["mllm"] is not self.mllm:
            settings = self.config["comprehension_settings"]
            parts = {"mllm": self.mllm, "processor": self.processor}
            self._comprehension = part_class("comprehension", settings["kind"]).from_parts(parts, settings)
        return self._comprehension
