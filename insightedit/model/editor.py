"""The whole data flow in one class: comprehension -> bridging -> generation.

    source image -+- comprehension --> states at the edit tokens, vision patches
    instruction --+         |
                            v
                        bridging ----> text states, v' (spatial residual), predicted CLIP image embedding
                            |
                            v
                       generation ---> UNet([z_t, z_src, v'] ; text states ; lambda * image tokens)

Parts are built by `insightedit.model.build` and handed in finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from insightedit.generation.unet_input import image_prompt, unet_input
from insightedit.types import Comprehension, EditCondition, NoisePrediction, TokenBatch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, SchedulerMixin
    from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

    from insightedit.bridging.bridge import EditBridge
    from insightedit.comprehension.llava import LlavaComprehension
    from insightedit.generation.unet import EditUNet


class Editor(nn.Module):
    """Comprehension, bridge and generator together, with the frozen teachers that training needs.

    Args:
        comprehension: MLLM adapter; its LoRA and edit-token rows are trainable.
        bridge: Q-Former, BIM and IAA.
        unet: denoiser; None in stage 1, which does not draw.
        vae: frozen autoencoder; None in stage 1.
        noise_scheduler: diffusers scheduler whose betas and prediction type training uses; None in stage 1.
        text_encoder: frozen CLIP text tower, the teacher of stage 1 and the source of the null text states.
        tokenizer: the text tower's tokenizer.
        image_encoder: frozen CLIP vision tower with projection, the teacher of IAA; None without image branch.
        scale_source_latents: whether source latents are multiplied by the autoencoder's scaling factor.
    """

    def __init__(
        self,
        *,
        comprehension: LlavaComprehension,
        bridge: EditBridge,
        unet: EditUNet | None = None,
        vae: AutoencoderKL | None = None,
        noise_scheduler: SchedulerMixin | None = None,
        text_encoder: CLIPTextModel | None = None,
        tokenizer: CLIPTokenizer | None = None,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        scale_source_latents: bool = False,
    ) -> None:
        super().__init__()
        self.comprehension = comprehension
        self.bridge = bridge
        self.unet = unet
        self.vae = vae
        self.text_encoder = text_encoder
        self.image_encoder = image_encoder
        self.noise_scheduler = noise_scheduler
        self.tokenizer = tokenizer
        self.scale_source_latents = scale_source_latents
        for frozen in (vae, text_encoder, image_encoder):
            if frozen is not None:
                frozen.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where the bridge's weights live; every trained part lives there too."""
        return next(self.bridge.parameters()).device

    @property
    def denoiser(self) -> EditUNet | None:
        """What draws; None in stage 1."""
        return self.unet

    def understand(self, tokens: TokenBatch, latent_size: tuple[int, int]) -> tuple[Comprehension, EditCondition]:
        """Read picture and instruction, and turn what was understood into the generator's condition.

        Args:
            tokens: prompt, picture and edit tokens; see `TokenBatch`.
            latent_size: (h, w) of the latent grid that v' has to fit.

        Returns:
            The MLLM's states and the condition for the UNet.
        """
        understood = self.comprehension(tokens)
        condition = self.bridge(
            understood.edit_hidden_states, understood.image_features, latent_size, understood.edit_embeddings
        )
        return understood, condition

    def predict_noise(
        self, noisy_latents: Tensor, timesteps: Tensor, source_latents: Tensor, condition: EditCondition
    ) -> NoisePrediction:
        """One UNet call.

        Args:
            noisy_latents: (B, C, h, w) z_t.
            timesteps: (B,) int64.
            source_latents: (B, C, h, w) z_src, zeros where the image condition is dropped.
            condition: what bridging made.

        Returns:
            The prediction; a UNet marks no places.

        Raises:
            RuntimeError: if the editor was built without a generator (stage 1).
        """
        if self.unet is None:
            raise RuntimeError(
                "this editor has no UNet: it was built for the `align` objective (stage 1), which does not draw. "
                "Build it with a stage 2 or 3 config."
            )
        noise = self.unet(
            unet_input(noisy_latents, source_latents, condition.spatial_residual, self.unet.config.residual_channels),
            timesteps,
            encoder_hidden_states=condition.encoder_hidden_states,
            added_cond_kwargs=image_prompt(condition),
        ).sample
        return NoisePrediction(noise)
