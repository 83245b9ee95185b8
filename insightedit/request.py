"""What a call asks for: pictures and instructions paired up, masks read, seeds chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from insightedit.editing import DrawSettings
from insightedit.imaging import Picture, PictureInput, read_mask, read_picture
from insightedit.words import clean_instruction

MAX_SEED = 2**32
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


def pair_up(
    pictures: list[Picture],
    instruction: str | Sequence[str] | None,
    prompt: str | Sequence[str] | None = None,
    lowercase: bool = False,
) -> tuple[list[Picture], list[str]]:
    """As many pictures as instructions; a single one of either goes with all of the other.

    Args:
        pictures: at least one.
        instruction: one or several.
        prompt: the same under its other name.
        lowercase: see `insightedit.words.clean_instruction`.

    Raises:
        ValueError: if numbers do not fit, an instruction is empty or no text, or it was given under both names.
    """
    if prompt is not None and instruction is not None:
        raise ValueError(
            "both `instruction` and `prompt` were given: they are two names of one thing, choose one."
        )
    instruction = prompt if instruction is None else instruction
    if instruction is None:
        raise ValueError('`instruction` is missing: say what to change, e.g. "make the car red".')
    instructions = [instruction] if isinstance(instruction, str) else list(instruction)
    if not instructions:
        raise ValueError('`instruction` is empty: say what to change, e.g. "make the car red".')
    instructions = [clean_instruction(text, lowercase) for text in instructions]
    count = max(len(pictures), len(instructions))
    pictures = pictures * count if len(pictures) == 1 else pictures
    instructions = instructions * count if len(instructions) == 1 else instructions
    if len(pictures) != len(instructions):
        raise ValueError(
            f"got {len(pictures)} pictures and {len(instructions)} instructions: one for all, or one each."
        )
    return pictures, instructions


def pair_references(
    references: PictureInput | Sequence[PictureInput] | Sequence[Sequence[PictureInput]] | None, count: int
) -> list[list[Picture]]:
    """One list of reference pictures per instruction.

    Args:
        references: one picture or a list of them for every instruction, a list of lists for one each, or None.
        count: number of instructions.

    Raises:
        ValueError: if a list of lists has another length.
    """
    if references is None:
        return [[] for _ in range(count)]
    several: list = list(references) if isinstance(references, list | tuple) else [references]
    if not several:
        return [[] for _ in range(count)]
    if not all(isinstance(one, list | tuple) for one in several):
        same = [read_picture(one) for one in several]
        return [same for _ in range(count)]
    if len(several) != count:
        raise ValueError(
            f"`reference_images` holds {len(several)} lists and there are {count} instructions: give one list for "
            "each, or one plain list for all."
        )
    return [[read_picture(one) for one in own] for own in several]


def check_settings(settings: DrawSettings, batch_size: int, output_type: str) -> None:
    """Refuse numbers that cannot work.

    Raises:
        ValueError: names the argument, its value and what holds.
    """
    if settings.num_inference_steps < 1:
        raise ValueError(
            f"`num_inference_steps` is {settings.num_inference_steps}: at least 1 step is needed."
        )
    for name in ("guidance_scale", "image_guidance_scale", "image_prompt_scale"):
        value = getattr(settings, name)
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"`{name}` is {value}: take a number from 0 upwards.")
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}: at least 1 picture goes through at a time.")
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` is {output_type!r}: choose one of {', '.join(OUTPUT_TYPES)}.")


def read_masks(
    mask: PictureInput | Sequence[PictureInput] | None, pictures: Sequence[Picture], background_lock: bool
) -> list[np.ndarray | None]:
    """The user's masks, one per picture; None where the model's estimate is to be used.

    Args:
        mask: one for all pictures, one each, or None.
        pictures: whose sizes the masks have to have.
        background_lock: a mask without the lock would be ignored, so it is refused.

    Raises:
        ValueError: if numbers or sizes do not fit.
    """
    if mask is None:
        return [None] * len(pictures)
    if not background_lock:
        raise ValueError(
            "`mask` says what to keep, but background_lock=False keeps nothing: drop one of the two."
        )
    masks: list = list(mask) if isinstance(mask, list | tuple) else [mask] * len(pictures)
    _check_count("mask", len(masks), len(pictures))
    return [read_mask(m, picture.size) for m, picture in zip(masks, pictures, strict=True)]


def choose_seeds(
    count: int,
    seed: int | Sequence[int] | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> list[int]:
    """One seed per picture.

    Args:
        count: number of pictures.
        seed: one for all (each picture then comes out as it would alone with that seed), one each, or None.
        generator: draws the seeds: one for all, or one each. Without either, they are drawn at random.

    Returns:
        `count` seeds in [0, 2**32).

    Raises:
        ValueError: if both are given, numbers do not fit, or a seed is out of range.
    """
    if seed is not None and generator is not None:
        raise ValueError("both `seed` and `generator` were given: choose one.")
    if generator is not None:
        generators = [generator] * count if isinstance(generator, torch.Generator) else list(generator)
        _check_count("generator", len(generators), count)
        return [int(torch.randint(MAX_SEED, (1,), generator=g, device=g.device)) for g in generators]
    if seed is None:
        fresh = torch.Generator()
        fresh.seed()
        return [int(torch.randint(MAX_SEED, (1,), generator=fresh)) for _ in range(count)]
    seeds = [seed] * count if isinstance(seed, int) else [int(s) for s in seed]
    _check_count("seed", len(seeds), count)
    for value in seeds:
        if not 0 <= value < MAX_SEED:
            raise ValueError(f"`seed` {value} is out of range: take a whole number from 0 to {MAX_SEED - 1}.")
    return seeds


def _check_count(name: str, given: int, count: int) -> None:
    if given != count:
        raise ValueError(
            f"got {given} values for `{name}` and {count} pictures: give one for all, or one each."
        )
