"""What the parts hand to each other: frozen dataclasses, one per arrow of the figure.

Shape legend used in every docstring of the package:
B batch, T text tokens, R edit tokens, Q queries, P vision patches, D width, C channels,
H W pixels, h w latent grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Movable:
    """A dataclass of tensors, and of others of its kind."""

    def to(self, device: torch.device | str) -> Self:
        """The same with every tensor on `device`."""
        value: Any = self
        return replace(value, **{name: part.to(device) for name, part in vars(self).items() if hasattr(part, "to")})


@dataclass(frozen=True)
class TokenBatch(Movable):
    """What comprehension reads."""

    input_ids: Tensor  # (B, T) int64, image placeholders expanded, the R edit tokens last among the valid ones
    attention_mask: Tensor  # (B, T) int64, 1 for a valid token
    labels: Tensor | None = None  # (B, T) int64 or None, -100 where no language loss is wanted
    # (B, 3, H, W) float32 as the MLLM's own image processor makes them, or None for text only. An interleaved
    # instruction has any number of pictures: (N, 3, H, W), row after row, in reading order
    pixel_values: Tensor | None = None
    # (B, T) bool, the positions that an interleaved instruction's pictures take; else None
    image_positions: Tensor | None = None
    # (N, 3, H, W) float32 in [-1, 1], the same N pictures for the autoencoder; else None
    reference_pixels: Tensor | None = None
    # what `Comprehension.encode_images` made of `pixel_values`, and the autoencoder of `reference_pixels` (its mode,
    # not scaled), where these are kept in their place (`insightedit cache`)
    image_states: Tensor | None = None
    reference_latents: Tensor | None = None


@dataclass(frozen=True)
class ComprehensionStates(Movable):
    """What comprehension understood."""

    # (B, R, D_llm) last-layer states at the edit tokens, in order, or one position before each; of a text encoder its
    # (B, T, D_text) states
    edit_hidden_states: Tensor
    # (B, P, D_vis) patch features before the projector, without the class token; None for text only
    image_features: Tensor | None = None
    lm_loss: Tensor | None = None  # scalar language-model loss, or None where no labels were given
    # (R, D_llm) input embeddings of the edit tokens; None where there are no such tokens
    edit_embeddings: Tensor | None = None
    attention_mask: Tensor | None = None  # (B, T) int64, 1 for a state that counts; None where all of them do


@dataclass(frozen=True)
class Answer:
    """What a language model wrote, greedily."""

    text: str  # stripped
    # natural logarithms of its tokens' probabilities, the token that ends it among them, among those that it may write
    log_probs: tuple[float, ...]


@dataclass(frozen=True)
class EditCondition(Movable):
    """What bridging gives to generation."""

    encoder_hidden_states: Tensor  # (B, Q, D_text) text states after BIM (or after the Q-Former where BIM is off)
    # (B, C_res, h, w) v', added after the UNet's `conv_in`; None where BIM is off
    spatial_residual: Tensor | None = None
    # (B, D_img) predicted CLIP image embedding of the edited picture; None without image branch
    image_embeds: Tensor | None = None
    # (B, Q) int64, 1 for a text state that counts; None where all of them do
    encoder_attention_mask: Tensor | None = None


@dataclass(frozen=True)
class NoisePrediction:
    """What one call of the denoiser gives in training."""

    noise: Tensor  # (B, C, h, w) prediction in the scheduler's prediction type
    place_logits: Tensor | None = None  # (B, 1, h', w') which patches change, from a denoiser with a place head (ours)


@dataclass(frozen=True)
class FrozenOutputs(Movable):
    """What parts that do not train gave for a batch, bit for bit; None: to be computed."""

    source_latents: Tensor | None = None  # (B, C, h, w) the posterior's mode, not scaled
    target_moments: Tensor | None = (
        None  # (B, 2 C, h, w), or (B, C, h, w): see `generation.autoencoder.encode_moments`
    )
    target_embeds: Tensor | None = None  # (B, D_img) CLIP image embedding of the target, which IAA learns
    text_states: Tensor | None = None  # (B, Q, D_text) the text encoder's states, which stage 1 aligns with
    states: ComprehensionStates | None = None  # beside a condition without what only the bridge reads
    condition: EditCondition | None = None


@dataclass(frozen=True)
class EditBatch(Movable):
    """One training batch."""

    tokens: TokenBatch  # what comprehension reads; without rows where its states are kept in `frozen`
    source_pixels: Tensor | None = None  # (B, 3, H, W) float32 in [-1, 1]; None for text-only batches
    target_pixels: Tensor | None = None  # (B, 3, H, W) float32 in [-1, 1]; None for text-only batches
    changed_mask: Tensor | None = None  # (B, 1, H, W) float32, 1 where source and target differ; None if unknown
    # (B, 3, S, S) float32, the target as CLIP's image processor makes it; None without image branch
    clip_target_pixels: Tensor | None = None
    # (B, Q) int64 CLIP token ids of the caption to align with (stage 1), or None
    text_target_ids: Tensor | None = None
    is_edit: Tensor | None = None  # (B,) float32, 0 for chat samples, whose diffusion term is masked out
    # (B,) float32, 0 for samples drawn on a blank canvas, whose source latents are zeros; None where every sample has
    # a source
    has_source: Tensor | None = None
    frozen: FrozenOutputs = FrozenOutputs()  # from a cache (`data.cache`); the pictures that gave them are None then


Task = Literal["editing", "subject", "subject_editing"]
TASKS: tuple[Task, ...] = ("editing", "subject", "subject_editing")
REFERENCE_PLACEHOLDER = "<imagehere>"


@dataclass(frozen=True)
class EditRecord:
    """One training sample.

    Raises:
        ValueError: if placeholders and reference images differ in number, or the pictures are not the task's.
    """

    key: str  # name of the sample within its source, for messages
    # what the user asks for; for a caption record, the caption itself. With reference images it holds one
    # `<imagehere>` for each of them, in order
    instruction: str
    # (H, W, 3) uint8 RGB, None for text-only records and for the task `subject`, which draws on a blank canvas
    source_image: np.ndarray | None = None
    target_image: np.ndarray | None = None  # (H, W, 3) uint8 RGB of the same size, None for text-only and chat records
    # the assistant's words where the record is a conversation, else None (a template is used)
    reply: str | None = None
    caption: str | None = None  # text whose CLIP states stage 1 aligns with; None elsewhere
    # pictures (H, W, 3) uint8 RGB of any size that stand in the instruction's placeholders
    reference_images: tuple[np.ndarray, ...] = ()
    # `editing` of the source by words, `subject` (draw the referenced subjects from blank) or `subject_editing` (put a
    # referenced subject into the source)
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
