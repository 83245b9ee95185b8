"""Three objectives, one signature: (editor, batch, config, generator) -> named scalar losses; and their weighted sum.

`align` teaches the Q-Former to speak CLIP text (stage 1); `understand` and `edit` teach the whole system to draw
(stages 2 and 3; they differ in what is trained and in BIM, not in the maths).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from insightedit.bridging.qformer import spread
from insightedit.generation.autoencoder import draw_latents, encode_moments, encode_source
from insightedit.generation.guidance import drop_conditions
from insightedit.generation.noise import (
    changed_area_weights,
    diffuse,
    draw_timesteps,
    noise_loss,
    relative_weights,
    snr_weights,
)
from insightedit.training.logging import METRIC
from insightedit.training.trainable import set_train_mode
from insightedit.types import EditBatch

if TYPE_CHECKING:
    from insightedit.config.schema import Config, LossConfig
    from insightedit.model.editor import Editor

TOKEN_SCALE = 4.0  # of logits against unit embeddings, so that they can be sure at once
IGNORE = -100  # torch's label for "no loss here"
Losses = dict[str, Tensor]
Objective = Callable[["Editor", EditBatch, "Config", torch.Generator], Losses]


def align(editor: Editor, batch: EditBatch, config: Config, generator: torch.Generator) -> Losses:
    """Stage 1: cross-entropy on the edit tokens and MSE between Q-Former output and CLIP text states.

    The papers align on captions alone, no picture is opened. Records with a picture (source kind `resolved`, ours)
    align on what the instruction means in that picture; with `stage.use_bim` and a place head, BIM learns to mark
    where it is (ours).

    Source: SmartEdit, section 3.2 (stage 1).
    """
    understood = batch.frozen.states or editor.comprehension(batch.tokens)
    text_states = editor.bridge.text_states(understood.edit_hidden_states, understood.edit_embeddings)
    wanted = batch.frozen.text_states
    if wanted is None:
        with torch.no_grad():
            wanted = editor.text_encoder(batch.text_target_ids).last_hidden_state
    assert understood.lm_loss is not None, "training batches carry labels"
    losses = {
        "lm": understood.lm_loss,
        "align": F.mse_loss(text_states.float(), wanted.float()),
        "metric/qformer_spread": spread(text_states.detach()),
    }
    if editor.bridge.token_out is not None:
        losses["token"] = _token_loss(editor, batch, text_states)
    patches = understood.image_features
    if patches is not None and batch.changed_mask is not None and editor.bridge.use_bim:
        side = math.isqrt(patches.shape[1])
        _, spatial_residual = editor.bridge.bim(text_states, patches, (side, side))
        losses |= _place_loss(editor.bridge.bim.place(spatial_residual), batch)
    return losses


def edit(editor: Editor, batch: EditBatch, config: Config, generator: torch.Generator) -> Losses:
    """Stages 2 and 3: cross-entropy, diffusion loss, and IAA's distance to the target's CLIP image embedding.

    Source: InsightEdit, equations 5 to 8; condition dropout as InstructPix2Pix, section 3.2.1.
    """
    target_latents, source_latents = _encode_pictures(editor, batch, generator)
    latent_size = (target_latents.shape[-2], target_latents.shape[-1])
    understood, condition = editor.understand(batch.tokens, latent_size, batch.frozen)
    losses = {} if understood.lm_loss is None else {"lm": understood.lm_loss}
    wanted = batch.frozen.target_embeds
    if condition.image_embeds is not None and (wanted is not None or batch.clip_target_pixels is not None):
        if wanted is None:
            with torch.no_grad():
                wanted = editor.image_encoder(batch.clip_target_pixels).image_embeds
        # squared distance, averaged over the embedding's width (InsightEdit eq. 5)
        distance = F.mse_loss(condition.image_embeds.float(), wanted.float(), reduction="none").mean(dim=1)
        losses["iaa"] = _sample_mean(distance, batch.is_edit)
    if condition.spatial_residual is not None and batch.changed_mask is not None:
        losses |= _place_loss(editor.bridge.bim.place(condition.spatial_residual), batch)
    # changed cells count more and, with `loss.change_floor`, small edits as much as large ones
    weights = changed_area_weights(batch.changed_mask, latent_size=latent_size, weight=config.loss.changed_area_weight)
    if config.loss.change_floor is not None:
        scale = 1.0 if editor.scale_source_latents else editor.latent_scale
        weights = relative_weights(source_latents * scale, target_latents, weights, floor=config.loss.change_floor)
    # after the weights: a dropped source is zeros, to which every edit would be a large one
    condition, source_latents = drop_conditions(
        condition,
        source_latents,
        editor.bridge.null_states(understood.edit_embeddings),
        generator=generator,
        drop_text=config.guidance.drop_text,
        drop_image=config.guidance.drop_image,
        drop_both=config.guidance.drop_both,
    )
    # one random timestep a sample; drawn where the generator is, on the CPU, and moved: a GPU would draw other numbers,
    # and its state would not be saved
    scheduler = editor.noise_scheduler
    noise = torch.randn(target_latents.shape, generator=generator).to(target_latents)
    last, begin = scheduler.config.num_train_timesteps, config.loss.min_timestep
    timesteps = draw_timesteps(len(noise), last, generator, begin=begin).to(target_latents.device)
    noisy_latents, wanted = diffuse(scheduler, target_latents, noise, timesteps)
    prediction = editor.predict_noise(noisy_latents, timesteps, source_latents, condition)
    if config.loss.min_snr_gamma is not None:
        weights = weights * snr_weights(scheduler, timesteps, config.loss.min_snr_gamma)[:, None, None, None]
    losses["noise"] = noise_loss(prediction.noise, wanted, weights, batch.is_edit)
    losses |= _place_loss(prediction.place_logits, batch)
    if condition.encoder_attention_mask is None:  # the states are a Q-Former's; padding would blur the number
        losses["metric/qformer_spread"] = spread(condition.encoder_hidden_states.detach())
    return losses


OBJECTIVES: dict[str, Objective] = {"align": align, "understand": edit, "edit": edit}


class TrainingStep(nn.Module):
    """Objective and editor (frozen parts already frozen) as one module, because DeepSpeed wants to call a module.

    Autocast is opened here, so weights, gradients and optimiser states stay in float32 under both engines (a module
    cast to bfloat16 as a whole would round the rotary frequencies of the language model too).
    """

    def __init__(self, editor: nn.Module, objective: Callable[..., Losses], config: Config) -> None:
        super().__init__()
        self.editor = editor
        self.objective = objective
        self.config = config

    def forward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted total (float32 scalar) and the named losses (detached float32 scalars)."""
        with self.precision():
            losses = self.objective(self.editor, batch, self.config, generator)
        # summed in float32: a bfloat16 sum would lose a small loss beside a large one
        losses = {name: value.float() for name, value in losses.items() if value is not None}
        return total_loss(losses, self.config.loss), {name: value.detach() for name, value in losses.items()}

    def precision(self) -> torch.autocast:
        """The context that a step computes in, a new one each time."""
        device = next(self.editor.parameters()).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.config.train.precision == "bf16")

    def train(self, mode: bool = True) -> TrainingStep:
        """Train mode for what is being trained only; frozen parts stay in eval mode."""
        super().train(mode)
        if mode:
            set_train_mode(self.editor)
        return self


def total_loss(losses: Mapping[str, Tensor], weights: LossConfig) -> Tensor:
    """Sum of the losses times the weights of their names; `metric/...` entries do not count."""
    counted = {name: value for name, value in losses.items() if not name.startswith(METRIC)}
    for name in counted:
        if not isinstance(getattr(weights, name, None), float | int):
            raise ValueError(
                f"the objective returned the loss `{name}`, for which the config has no weight `loss.{name}`: "
                f"add the field, or call it `{METRIC}{name}` if it is only to be logged."
            )
    if not counted:
        raise ValueError(f"the objective returned no loss, only {sorted(losses)}: nothing can be trained.")
    return torch.stack([value * getattr(weights, name) for name, value in counted.items()]).sum()


@torch.no_grad()
def _encode_pictures(editor: Editor, batch: EditBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Target latents (sampled, scaled) and source latents (mode; zeros for a blank canvas), each (B, C, h, w)."""
    moments, source = batch.frozen.target_moments, batch.frozen.source_latents
    moments = encode_moments(editor.vae, batch.target_pixels) if moments is None else moments
    source = encode_source(editor.vae, batch.source_pixels, scaled=False) if source is None else source
    target = draw_latents(moments, source.shape[1], generator) * editor.latent_scale
    source = source * editor.latent_scale if editor.scale_source_latents else source
    if batch.has_source is not None:
        source = source * batch.has_source.to(source)[:, None, None, None]
    return target.float(), source.float()


def _token_loss(editor: Editor, batch: EditBatch, text_states: Tensor) -> Tensor:
    """Cross-entropy of the words that the Q-Former's states stand for (ours).

    To the squared error a wrong place is a detail of three states in forty; here it costs as much as a wrong task.
    """
    embeddings = F.normalize(editor.text_encoder.get_input_embeddings().weight.detach(), dim=-1)
    logits = TOKEN_SCALE * editor.bridge.token_out(text_states) @ embeddings.T  # (B, Q, V)
    ids = batch.text_target_ids
    # up to the first end token, which counts; CLIP pads with the same token, and padding does not
    is_end = (ids == editor.tokenizer.eos_token_id).long()
    labels = ids.masked_fill(is_end.cumsum(dim=1) - is_end > 0, IGNORE)
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORE)


def _place_loss(marks: Tensor | None, batch: EditBatch) -> Losses:
    """Cross-entropy of the marked cells against those that change; nothing without a place head (ours).

    Samples on a blank canvas do not count: there all is new.
    """
    if marks is None or batch.changed_mask is None:
        return {}
    changed = F.adaptive_max_pool2d(batch.changed_mask, marks.shape[-2:]).to(marks.device)
    errors = F.binary_cross_entropy_with_logits(marks.float(), changed, reduction="none")
    counts = batch.is_edit if batch.has_source is None else batch.has_source
    return {"place": _sample_mean(errors.mean(dim=(1, 2, 3)), counts)}


def _sample_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the samples that count; 0 where none does."""
    if mask is None:
        return values.mean()
    return (values * mask).sum() / mask.sum().clamp(min=1)
