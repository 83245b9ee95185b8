"""The data flow where instructions carry pictures, in one class; the sibling of `insightedit.model.editor`.

    pictures -+- vision tower, Q-Former ---> what they mean
              +- autoencoder, patches -----> what they look like
                            |
                            v
                     feature fusion ---> picture tokens -+
    words -----------------------------------------------+- text encoder ---> text states
                                                                                  |
                                                                                  v
    source picture, or a blank canvas ---------------------------------> transformer([z_t, z_src] ; text states)

Source: MIGE, figure 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from insightedit.generation.autoencoder import encode_source
from insightedit.types import Comprehension, EditCondition, NoisePrediction, TokenBatch

if TYPE_CHECKING:
    from diffusers import AutoencoderDC, AutoencoderKL, SchedulerMixin

    from insightedit.bridging.fusion import FusionBridge
    from insightedit.comprehension.interleaved import InterleavedReader
    from insightedit.generation.transformer import EditTransformer


def read_instruction(
    reader: InterleavedReader,
    bridge: FusionBridge,
    transformer: EditTransformer,
    vae: AutoencoderKL | AutoencoderDC,
    tokens: TokenBatch,
) -> EditCondition:
    """Pictures and words -> what the transformer is conditioned on.

    Args:
        reader: vision tower, Q-Former and text encoder.
        bridge: feature fusion.
        transformer: gives the patch embedder that the fusion looks through.
        vae: gives the pictures' latents, unscaled.
        tokens: from the reader's `tokenize`, on the parts' device.

    Returns:
        Text states and their mask.
    """
    picture_tokens = None
    if tokens.pixel_values is not None and tokens.reference_pixels is not None:
        semantic_tokens = reader.see(tokens.pixel_values)
        latents = encode_source(vae, tokens.reference_pixels, scaled=False)
        visual_features = transformer.patch_features(latents)
        picture_tokens = bridge(semantic_tokens.to(bridge.dtype), visual_features.to(bridge.dtype))
    states = reader.read(tokens, picture_tokens)
    return EditCondition(states, encoder_attention_mask=tokens.attention_mask)


class InterleavedEditor(nn.Module):
    """Reader, bridge and transformer together.

    Args:
        comprehension: vision tower, Q-Former and text encoder.
        bridge: feature fusion, and the states of "no text".
        transformer: denoiser.
        vae: frozen autoencoder.
        noise_scheduler: diffusers scheduler whose betas and prediction type training uses.
        scale_source_latents: whether source latents are multiplied by the autoencoder's scaling factor.
    """

    def __init__(
        self,
        *,
        comprehension: InterleavedReader,
        bridge: FusionBridge,
        transformer: EditTransformer,
        vae: AutoencoderKL | AutoencoderDC,
        noise_scheduler: SchedulerMixin,
        scale_source_latents: bool = True,
    ) -> None:
        super().__init__()
        self.comprehension = comprehension
        self.bridge = bridge
        self.transformer = transformer
        self.vae = vae
        self.noise_scheduler = noise_scheduler
        self.scale_source_latents = scale_source_latents
        vae.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where the bridge's weights live; every trained part lives there too."""
        return next(self.bridge.parameters()).device

    @property
    def denoiser(self) -> EditTransformer:
        """What draws."""
        return self.transformer

    def understand(self, tokens: TokenBatch, latent_size: tuple[int, int]) -> tuple[Comprehension, EditCondition]:
        """Read an instruction and its pictures.

        Args:
            tokens: from the reader's `tokenize`.
            latent_size: (h, w) of the latent grid; text states do not depend on it.

        Returns:
            The text encoder's states, without language loss, and the condition for the transformer.
        """
        condition = read_instruction(self.comprehension, self.bridge, self.transformer, self.vae, tokens)
        return Comprehension(condition.encoder_hidden_states), condition

    def predict_noise(
        self, noisy_latents: Tensor, timesteps: Tensor, source_latents: Tensor, condition: EditCondition
    ) -> NoisePrediction:
        """One transformer call; arguments and result as `EditTransformer.predict_and_mark`."""
        return self.transformer.predict_and_mark(noisy_latents, timesteps, source_latents, condition)
