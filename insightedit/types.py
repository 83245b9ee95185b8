"""What the parts hand to each other: frozen dataclasses, one per arrow of the figure.

Shape legend used in every docstring of the package:
B batch, T text tokens, R edit tokens, Q queries, P vision patches, D width, C channels,
H W pixels, h w latent grid.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class TokenBatch:
    """What comprehension reads.

    Attributes:
        input_ids: (B, T) int64, image placeholders expanded, the R edit tokens last among the valid ones.
        attention_mask: (B, T) int64, 1 for a valid token.
        labels: (B, T) int64 or None, -100 where no language loss is wanted.
        pixel_values: (B, 3, H, W) float32 as the MLLM's own image processor makes them, or None for text only.
            An interleaved instruction has any number of pictures: (N, 3, H, W), row after row, in reading order.
        image_positions: (B, T) bool, the positions that an interleaved instruction's pictures take; else None.
        reference_pixels: (N, 3, H, W) float32 in [-1, 1], the same N pictures for the autoencoder; else None.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor | None = None
    pixel_values: Tensor | None = None
    image_positions: Tensor | None = None
    reference_pixels: Tensor | None = None

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same tokens with every tensor on `device`."""
        return _to(self, device)


@dataclass(frozen=True)
class ComprehensionStates:
    """What comprehension understood.

    Attributes:
        edit_hidden_states: (B, R, D_llm) last-layer states at the edit tokens, in order, or one position before each;
            of a text encoder its (B, T, D_text) states.
        image_features: (B, P, D_vis) patch features before the projector, without the class token; None for text only.
        lm_loss: scalar language-model loss, or None where no labels were given.
        edit_embeddings: (R, D_llm) input embeddings of the edit tokens; None where there are no such tokens.
        attention_mask: (B, T) int64, 1 for a state that counts; None where all of them do.
    """

    edit_hidden_states: Tensor
    image_features: Tensor | None = None
    lm_loss: Tensor | None = None
    edit_embeddings: Tensor | None = None
    attention_mask: Tensor | None = None

    def to(self, device: torch.device | str) -> ComprehensionStates:
        """The same states with every tensor on `device`."""
        return _to(self, device)


@dataclass(frozen=True)
class EditCondition:
    """What bridging gives to generation.

    Attributes:
        encoder_hidden_states: (B, Q, D_text) text states after BIM (or after the Q-Former where BIM is off).
        spatial_residual: (B, C_res, h, w) v', added after the UNet's `conv_in`; None where BIM is off.
        image_embeds: (B, D_img) predicted CLIP image embedding of the edited picture; None without image branch.
        encoder_attention_mask: (B, Q) int64, 1 for a text state that counts; None where all of them do.
    """

    encoder_hidden_states: Tensor
    spatial_residual: Tensor | None = None
    image_embeds: Tensor | None = None
    encoder_attention_mask: Tensor | None = None


@dataclass(frozen=True)
class NoisePrediction:
    """What one call of the denoiser gives in training.

    Attributes:
        noise: (B, C, h, w) prediction in the scheduler's prediction type.
        place_logits: (B, 1, h', w') which patches change, from a denoiser with a place head (ours).
    """

    noise: Tensor
    place_logits: Tensor | None = None


@dataclass(frozen=True)
class EditBatch:
    """One training batch.

    Attributes:
        tokens: what comprehension reads.
        source_pixels: (B, 3, H, W) float32 in [-1, 1]; None for text-only batches.
        target_pixels: (B, 3, H, W) float32 in [-1, 1]; None for text-only batches.
        changed_mask: (B, 1, H, W) float32, 1 where source and target differ; None if unknown.
        clip_target_pixels: (B, 3, S, S) float32, the target as CLIP's image processor makes it; None
            without image branch.
        text_target_ids: (B, Q) int64 CLIP token ids of the caption to align with (stage 1), or None.
        is_edit: (B,) float32, 0 for chat samples, whose diffusion term is masked out.
        has_source: (B,) float32, 0 for samples drawn on a blank canvas, whose source latents are zeros; None where
            every sample has a source.
    """

    tokens: TokenBatch
    source_pixels: Tensor | None = None
    target_pixels: Tensor | None = None
    changed_mask: Tensor | None = None
    clip_target_pixels: Tensor | None = None
    text_target_ids: Tensor | None = None
    is_edit: Tensor | None = None
    has_source: Tensor | None = None

    def to(self, device: torch.device | str) -> EditBatch:
        """The same batch with every tensor on `device`."""
        return _to(self, device)


def _to(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, TokenBatch | EditBatch | ComprehensionStates):
        return replace(value, **{f.name: _to(getattr(value, f.name), device) for f in fields(value)})
    return value.to(device) if hasattr(value, "to") else value  # a tensor; data recipes read records without torch


Task = Literal["editing", "subject", "subject_editing"]


TASKS: tuple[Task, ...] = ("editing", "subject", "subject_editing")


REFERENCE_PLACEHOLDER = "<imagehere>"


@dataclass(frozen=True)
class EditRecord:
    """One training sample.

    Attributes:
        key: name of the sample within its source, for messages.
        instruction: what the user asks for; for a caption record, the caption itself. With reference images it
            holds one `<imagehere>` for each of them, in order.
        source_image: (H, W, 3) uint8 RGB, None for text-only records and for the task `subject`, which draws on a
            blank canvas.
        target_image: (H, W, 3) uint8 RGB of the same size, None for text-only and chat records.
        reply: the assistant's words where the record is a conversation, else None (a template is used).
        caption: text whose CLIP states stage 1 aligns with; None elsewhere.
        reference_images: pictures (H, W, 3) uint8 RGB of any size that stand in the instruction's placeholders.
        task: `editing` of the source by words, `subject` (draw the referenced subjects from blank) or
            `subject_editing` (put a referenced subject into the source).

    Raises:
        ValueError: if placeholders and reference images differ in number, or the pictures are not the task's.
    """

    key: str
    instruction: str
    source_image: np.ndarray | None = None
    target_image: np.ndarray | None = None
    reply: str | None = None
    caption: str | None = None
    reference_images: tuple[np.ndarray, ...] = ()
    task: Task = "editing"

    def __post_init__(self) -> None:
        placeholders = self.instruction.count(REFERENCE_PLACEHOLDER)
        if placeholders != len(self.reference_images):
            raise ValueError(
                f"record {self.key} has {placeholders} {REFERENCE_PLACEHOLDER} in its instruction and "
                f"{len(self.reference_images)} reference images: there has to be one for each."
            )
        has = (self.source_image is not None, bool(self.reference_images))
        if (self.task == "subject" and has[0]) or (self.task == "subject_editing" and has != (True, True)):
            raise ValueError(
                f"record {self.key} is of the task {self.task} with{'' if has[0] else 'out'} a source and "
                f"with{'' if has[1] else 'out'} reference images: `subject` has no source, `subject_editing` has both."
            )

    @property
    def is_edit(self) -> bool:
        """Whether the record has a picture to draw."""
        return self.target_image is not None


def task_of(has_source: bool, has_references: bool) -> Task:
    """The task that follows from what is given, where instructions may carry pictures."""
    if not has_source:
        return "subject"
    return "subject_editing" if has_references else "editing"
