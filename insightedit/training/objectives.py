"""Three objectives, one signature: (editor, batch, config, generator) -> named scalar losses.

`align` teaches the Q-Former to speak CLIP text (stage 1); `understand` and `edit` teach the whole system to draw
(stages 2 and 3; they differ in what is trained and in BIM, not in the maths).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from insightedit.bridging.qformer import spread
from insightedit.generation.autoencoder import encode_source, encode_target
from insightedit.generation.guidance import drop_conditions
from insightedit.generation.noise import (
    changed_area_weights,
    draw_timesteps,
    noise_loss,
    noise_target,
    snr_weights,
)
from insightedit.types import Comprehension, EditBatch, EditCondition

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.editor import Editor

Losses = dict[str, Tensor]
Objective = Callable[["Editor", EditBatch, "Config", torch.Generator], Losses]


def align(editor: Editor, batch: EditBatch, config: Config, generator: torch.Generator) -> Losses:
    """Stage 1: cross-entropy on the edit tokens and MSE between Q-Former output and CLIP text states.

    The papers align on captions alone, no picture is opened. Records with a picture (source kind `resolved`, ours)
    align on what the instruction means in that picture.

    Source: SmartEdit, section 3.2 (stage 1).
    """
    understood = editor.comprehension(batch.tokens)
    text_states = editor.bridge.qformer(understood.edit_hidden_states)
    with torch.no_grad():
        wanted = editor.text_encoder(batch.text_target_ids).last_hidden_state
    return {
        "lm": _language_loss(understood),
        "align": F.mse_loss(text_states.float(), wanted.float()),
        "metric/qformer_spread": spread(text_states.detach()),
    }


def edit(editor: Editor, batch: EditBatch, config: Config, generator: torch.Generator) -> Losses:
    """Stages 2 and 3: cross-entropy, diffusion loss, and IAA's distance to the target's CLIP image embedding.

    Source: InsightEdit, equations 5 to 8; condition dropout as InstructPix2Pix, section 3.2.1.
    """
    target_latents, source_latents = _encode_pictures(editor, batch, generator)
    latent_size = (target_latents.shape[-2], target_latents.shape[-1])
    understood, condition = editor.understand(batch.tokens, latent_size)
    losses = {"lm": _language_loss(understood)}
    if condition.image_embeds is not None and batch.clip_target_pixels is not None:
        losses["iaa"] = _image_alignment(editor, batch, condition.image_embeds)

    condition, source_latents = drop_conditions(
        condition,
        source_latents,
        editor.bridge.null_text_states,
        generator=generator,
        drop_text=config.guidance.drop_text,
        drop_image=config.guidance.drop_image,
        drop_both=config.guidance.drop_both,
    )
    losses["noise"] = _noise_loss(editor, batch, config, generator, target_latents, source_latents, condition)
    losses["metric/qformer_spread"] = spread(condition.encoder_hidden_states.detach())
    return losses


OBJECTIVES: dict[str, Objective] = {"align": align, "understand": edit, "edit": edit}


def _language_loss(understood: Comprehension) -> Tensor:
    assert understood.lm_loss is not None, "training batches carry labels"
    return understood.lm_loss


@torch.no_grad()
def _encode_pictures(editor: Editor, batch: EditBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Target latents (sampled, scaled) and source latents (mode), each (B, C, h, w)."""
    target = encode_target(editor.vae, batch.target_pixels, generator)
    source = encode_source(editor.vae, batch.source_pixels, scaled=editor.scale_source_latents)
    return target.float(), source.float()


def _image_alignment(editor: Editor, batch: EditBatch, image_embeds: Tensor) -> Tensor:
    """Squared distance to the target's CLIP image embedding, averaged over its width (InsightEdit eq. 5)."""
    with torch.no_grad():
        wanted = editor.image_encoder(batch.clip_target_pixels).image_embeds
    distance = F.mse_loss(image_embeds.float(), wanted.float(), reduction="none").mean(dim=1)
    return _sample_mean(distance, batch.is_edit)


def _noise_loss(
    editor: Editor,
    batch: EditBatch,
    config: Config,
    generator: torch.Generator,
    target_latents: Tensor,
    source_latents: Tensor,
    condition: EditCondition,
) -> Tensor:
    """Weighted squared error of the UNet's prediction at one random timestep per sample."""
    scheduler = editor.noise_scheduler
    noise = torch.randn(target_latents.shape, generator=generator).to(target_latents)
    timesteps = draw_timesteps(
        len(target_latents),
        scheduler.config.num_train_timesteps,
        generator,
        begin=config.loss.min_timestep,
    )
    timesteps = timesteps.to(target_latents.device)
    noisy_latents = scheduler.add_noise(target_latents, noise, timesteps)
    prediction = editor.predict_noise(noisy_latents, timesteps, source_latents, condition)
    weights = changed_area_weights(
        batch.changed_mask, latent_size=target_latents.shape[-2:], weight=config.loss.changed_area_weight
    )
    if config.loss.min_snr_gamma is not None:
        weights = weights * snr_weights(scheduler, timesteps, config.loss.min_snr_gamma)[:, None, None, None]
    return noise_loss(
        prediction, noise_target(scheduler, target_latents, noise, timesteps), weights, batch.is_edit
    )


def _sample_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the samples that count; 0 where none does."""
    if mask is None:
        return values.mean()
    return (values * mask).sum() / mask.sum().clamp(min=1)
