"""What "no text" and "no picture" mean: condition dropout in training and two-scale guidance, side by side.

No text: the text encoder's states of "" and a zero image embedding. No picture: zero source latents.
v' is never dropped (SmartEdit).

Source: InstructPix2Pix, section 3.2.1; the order of the dropped shares is SmartEdit's.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Literal

import torch
from torch import Tensor

from insightedit.types import EditCondition

Branch = Literal["text_image", "image", "null"]
BRANCHES: tuple[Branch, ...] = ("text_image", "image", "null")


def drop_conditions(
    condition: EditCondition,
    source_latents: Tensor,
    null_text_states: Tensor,
    *,
    generator: torch.Generator,
    drop_text: float,
    drop_image: float,
    drop_both: float,
) -> tuple[EditCondition, Tensor]:
    """Hide text, picture or both from some samples, so that the UNet learns all the branches of guidance.

    One uniform draw u per sample decides: u < drop_text hides the text, the next `drop_both` both, the next
    `drop_image` the picture.

    Args:
        condition: what bridging made.
        source_latents: (B, C, h, w) z_src.
        null_text_states: (Q, D_text) text states of "".
        generator: where the draw comes from, on the CPU.
        drop_text: share of samples that lose the text alone, 0-1.
        drop_image: share that lose the picture alone, 0-1.
        drop_both: share that lose both, 0-1.

    Returns:
        The condition and the source latents with nulls in place of what is hidden.

    Raises:
        ValueError: if a share is negative or they sum to more than 1.
    """
    if min(drop_text, drop_image, drop_both) < 0 or drop_text + drop_image + drop_both > 1:
        raise ValueError(
            f"drop_text={drop_text}, drop_image={drop_image}, drop_both={drop_both} are shares of "
            "the samples: each at least 0, at most 1 in all."
        )
    # one draw for both decisions: the shares are exact, and a run repeats whatever is switched on
    draw = torch.rand(len(source_latents), generator=generator).to(source_latents.device)
    hides_text = draw < drop_text + drop_both
    # the next intervals: both, then the picture alone
    hides_image = (draw >= drop_text) & (draw < drop_text + drop_both + drop_image)
    return _hide_text(condition, null_text_states, hides_text), _hide(source_latents, hides_image)


def branch_weights(guidance_scale: float, image_guidance_scale: float) -> dict[Branch, float]:
    """Weight of each branch in the guided prediction, without those that count nothing.

    guided = s_T * text_image + (s_I - s_T) * image + (1 - s_I) * null. With both scales 1, one is enough.

    Branch name -> non-zero weight, in the order of `BRANCHES`; they sum to 1.
    """
    # equation 3, sorted by branch; the factors of each prediction come to 1 in all
    weights = (guidance_scale, image_guidance_scale - guidance_scale, 1.0 - image_guidance_scale)
    return {branch: weight for branch, weight in zip(BRANCHES, weights, strict=True) if weight != 0}


def null_branches(
    condition: EditCondition,
    source_latents: Tensor,
    null_text_states: Tensor,
    branches: tuple[Branch, ...] = BRANCHES,
    negative: EditCondition | None = None,
) -> tuple[EditCondition, Tensor]:
    """The same samples once per branch, concatenated along the batch.

    Args:
        condition: what bridging made for B samples.
        source_latents: (B, C, h, w) z_src.
        null_text_states: (Q, D_text) text states of "".
        branches: which branches, in this order.
        negative: what is to be avoided, in B samples; its text stands where there would be none.

    Returns:
        Condition and source latents of len(branches) * B samples, branch after branch.
    """
    # v' stays in every branch: it was never dropped in training, so the UNet knows no prediction without it
    everywhere = torch.ones(len(source_latents), dtype=torch.bool, device=source_latents.device)
    without_text = _hide_text(condition, null_text_states, everywhere)
    if negative is not None:
        without_text = replace(
            without_text,
            encoder_hidden_states=negative.encoder_hidden_states,
            encoder_attention_mask=negative.encoder_attention_mask,
        )
    parts: dict[Branch, tuple[EditCondition, Tensor]] = {
        "text_image": (condition, source_latents),
        "image": (without_text, source_latents),
        "null": (without_text, torch.zeros_like(source_latents)),
    }
    conditions = [parts[branch][0] for branch in branches]
    joined: dict[str, Tensor | None] = {}
    for name in (one.name for one in fields(EditCondition)):
        given = [value for value in (getattr(one, name) for one in conditions) if value is not None]
        joined[name] = torch.cat(given) if given else None
    return EditCondition(**joined), torch.cat([parts[branch][1] for branch in branches])  # type: ignore[arg-type]


def guide(
    noise_text_image: Tensor | None,
    noise_image: Tensor | None,
    noise_null: Tensor | None,
    guidance_scale: float,
    image_guidance_scale: float,
) -> Tensor:
    """Combine the branches: null + s_T * (text_image - image) + s_I * (image - null).

    All (B, C, h, w); s_T is `guidance_scale`, s_I `image_guidance_scale`. A prediction whose branch has no weight (see
    `branch_weights`) may be None.

    Raises:
        ValueError: if a branch that counts is None.

    Source: InstructPix2Pix, equation 3.
    """
    given = dict(zip(BRANCHES, (noise_text_image, noise_image, noise_null), strict=True))
    needed = branch_weights(guidance_scale, image_guidance_scale)
    lacking = [branch for branch in needed if given[branch] is None]
    if lacking:
        raise ValueError(
            f"guidance_scale={guidance_scale} and image_guidance_scale={image_guidance_scale} need the "
            f"branches {list(needed)}; {lacking} is None. Run the UNet on what `branch_weights` names."
        )
    # What counts nothing cancels, whatever stands in its place.
    counting = [prediction for prediction in (noise_image, noise_null, noise_text_image) if prediction is not None]
    text_image, image, null = (counting[0] if p is None else p for p in given.values())
    return null + guidance_scale * (text_image - image) + image_guidance_scale * (image - null)


def _hide_text(condition: EditCondition, null_text_states: Tensor, hides: Tensor) -> EditCondition:
    states = condition.encoder_hidden_states
    hidden = torch.where(hides[:, None, None], null_text_states.to(states), states)
    embeds, mask = condition.image_embeds, condition.encoder_attention_mask
    return replace(
        condition,
        encoder_hidden_states=hidden,
        image_embeds=None if embeds is None else _hide(embeds, hides),
        encoder_attention_mask=None if mask is None else mask.masked_fill(hides[:, None], 1),  # all of the null
    )


def _hide(values: Tensor, hides: Tensor) -> Tensor:
    """Zeros where `hides` (B,) is true."""
    return values.masked_fill(hides.view(-1, *[1] * (values.ndim - 1)), 0.0)
