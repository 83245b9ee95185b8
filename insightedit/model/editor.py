"""The whole data flow in one class, its parts built by `insightedit.model.build`.

    source image -+- comprehension --> states at the edit tokens, vision patches
    instruction --+         |
                            v
                        bridging ----> text states, v' (spatial residual), predicted CLIP image embedding
                            |
                            v
                       generation ---> UNet([z_t, z_src, v'] ; text states ; lambda * image tokens)

Where instructions hold pictures (MIGE, figure 4), feature fusion stands between seeing and reading:

    pictures -+- comprehension.encode_images --> what they mean
              +- denoiser.patch_features ------> what they look like
                            |
                     bridge.fuse
                            v
    words ------------ comprehension ----------> text states -> bridge -> denoiser([z_t, z_src] ; text states)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from insightedit.generation.autoencoder import encode_source, latent_scale
from insightedit.modeling.offloading import execution_device
from insightedit.types import ComprehensionStates, EditCondition, FrozenOutputs, NoisePrediction, TokenBatch

if TYPE_CHECKING:
    from diffusers import SchedulerMixin
    from transformers import CLIPVisionModelWithProjection, PreTrainedModel, PreTrainedTokenizerBase

    from insightedit.bridging.bridge import EditBridge
    from insightedit.bridging.fusion import FusionBridge
    from insightedit.comprehension.base import Comprehension
    from insightedit.generation.autoencoder import Autoencoder
    from insightedit.generation.denoiser import Denoiser

NOTHING = FrozenOutputs()


def understand(
    comprehension: Comprehension,
    bridge: Any,
    denoiser: Denoiser | None,
    vae: Autoencoder | None,
    tokens: TokenBatch,
    latent_size: tuple[int, int],
) -> tuple[ComprehensionStates, EditCondition]:
    """Read instructions and pictures, and turn what was understood into the denoiser's condition.

    Denoiser and autoencoder are used where instructions hold pictures: for their patch features. `latent_size` is the
    latent grid's (h, w), which v' has to fit.
    """
    states = _read(comprehension, bridge, denoiser, vae, tokens)
    return states, bridge(states.to(execution_device(bridge)), latent_size)


def _read(
    comprehension: Comprehension, bridge: Any, denoiser: Denoiser | None, vae: Autoencoder | None, tokens: TokenBatch
) -> ComprehensionStates:
    image_tokens = None
    latents = tokens.reference_latents
    if latents is None and tokens.reference_pixels is not None:
        assert vae is not None, "where instructions hold pictures, every stage draws"
        latents = encode_source(vae, tokens.reference_pixels, scaled=False)
    if latents is not None:
        assert denoiser is not None, "where instructions hold pictures, every stage draws"
        semantic_tokens = tokens.image_states
        if semantic_tokens is None:
            assert tokens.pixel_values is not None, "the same pictures, for the language model"
            semantic_tokens = comprehension.encode_images(tokens.pixel_values)
        image_tokens = bridge.fuse(semantic_tokens, denoiser.patch_features(latents))
    return comprehension(tokens, image_tokens)


class Editor(nn.Module):
    """Comprehension, bridge and denoiser together, with the frozen teachers that training needs.

    The denoiser stands under its `part`, as diffusers calls it: weights are `unet.*` or `transformer.*`. Stage 1
    does not draw: it has neither denoiser nor autoencoder nor schedule.
    """

    scale_source_latents = False  # whether source latents are multiplied by the autoencoder's scaling factor
    absent: frozenset[str] = frozenset()  # parameters of a part that is not loaded, because a cache stands for it

    def __init__(
        self,
        *,
        comprehension: Comprehension,
        bridge: EditBridge | FusionBridge,
        denoiser: Denoiser | None = None,
        vae: Autoencoder | None = None,  # frozen
        noise_scheduler: SchedulerMixin | None = None,  # whose noise and prediction type training uses
        # frozen, of the denoiser: stage 1's teacher, the null text's source; None where comprehension gives text states
        text_encoder: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,  # the text encoder's
        image_encoder: CLIPVisionModelWithProjection | None = None,  # frozen, with projection: IAA's teacher
    ) -> None:
        super().__init__()
        self.comprehension = comprehension
        self.bridge: Any = bridge
        self.denoiser_part = None if denoiser is None else denoiser.part
        if self.denoiser_part:
            self.add_module(self.denoiser_part, denoiser)  # type: ignore[arg-type]
        self.vae: Any = vae
        self.latent_scale = 1.0 if vae is None else latent_scale(vae)
        self.text_encoder: Any = text_encoder
        self.image_encoder = image_encoder
        self.noise_scheduler: Any = noise_scheduler
        self.tokenizer = tokenizer
        for frozen in (vae, text_encoder, image_encoder):
            if frozen is not None:
                frozen.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where the bridge's weights live; every trained part lives there too."""
        return next(self.bridge.parameters()).device

    @property
    def denoiser(self) -> Any:
        """What draws; None in stage 1."""
        return self.denoiser_part and getattr(self, self.denoiser_part)

    def understand(
        self, tokens: TokenBatch, latent_size: tuple[int, int], frozen: FrozenOutputs = NOTHING
    ) -> tuple[ComprehensionStates, EditCondition]:
        """See `understand` of this module; what `frozen` knows is not computed."""
        states = frozen.states or self.read(tokens)
        return states, frozen.condition or self.bridge(states.to(self.device), latent_size)

    def read(self, tokens: TokenBatch) -> ComprehensionStates:
        """What comprehension understands, pictures within the words fused: `understand` without the bridge."""
        return _read(self.comprehension, self.bridge, self.denoiser, self.vae, tokens)

    def predict_noise(
        self, noisy_latents: Tensor, timesteps: Tensor, source_latents: Tensor, condition: EditCondition
    ) -> NoisePrediction:
        """One call of the denoiser, as `Denoiser.predict`, places marked.

        Raises:
            RuntimeError: if the editor was built without a denoiser (stage 1).
        """
        if self.denoiser is None:
            raise RuntimeError(
                "this editor has no UNet: it was built for the `align` objective (stage 1), which does not draw. "
                "Build it with a stage 2 or 3 config."
            )
        return self.denoiser.predict(noisy_latents, timesteps, source_latents, condition, mark_places=True)
