"""What a call asks for: pictures and instructions paired up, masks read, seeds chosen."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from insightedit.generation.guidance import branch_weights
from insightedit.generation.sampling import sample_seeds
from insightedit.images.reading import Picture, PictureInput, read_mask, read_picture
from insightedit.pipelines.warnings import clean_instruction

MAX_SEED = 2**32
OUTPUT_TYPES = ("pil", "np", "pt", "latent")
MAX_PATTERN = 2000  # characters of a sentence with a slot


def check_slots(name: str, text: str, slot: str) -> None:
    """Refuse a sentence, the setting `name`, that `str.format` cannot fill, or fills with more than one text."""
    try:
        slots = {one[1:] for one in string.Formatter().parse(text) if one[1] is not None}
    except ValueError:  # a single brace
        slots = {None}
    if len(text) > MAX_PATTERN or slots - {(slot, "", None)}:
        raise ValueError(
            f"{name} is {text[:60]!r}: it may have {MAX_PATTERN} characters, and no other slot than {{{slot}}}."
        )


@dataclass(frozen=True)
class DrawSettings:
    """How to draw."""

    guidance_scale: float  # how strongly the instruction is followed
    image_guidance_scale: float  # how strongly the source picture is kept
    num_inference_steps: int
    image_prompt_scale: float  # lambda, weight of the image branch
    scale_source_latents: bool  # whether the denoiser gets source latents times the autoencoder's scaling factor


@dataclass(frozen=True)
class EditRequest:
    """Everything that is to be drawn; each list has one entry per image."""

    pictures: list[Any]  # to edit; None for a blank canvas
    instructions: list[str]
    seeds: list[int]
    masks: list[np.ndarray | None]  # the user's
    negatives: list[str] | None = None  # what to keep away from
    latents: Tensor | None = None  # (B, C, h, w) to start from
    references: list[list[Picture]] | None = None  # that the instruction names; None for a model that reads none

    def part(self, where: Sequence[int]) -> EditRequest:
        """Some of the images, by number."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        values: dict[str, Any] = {name: v and [v[i] for i in where] for name, v in given.items() if name != "latents"}
        latents = None if self.latents is None else self.latents[list(where)]
        return EditRequest(**values, latents=latents)

    def times(self, each: int) -> EditRequest:
        """Every image `each` times, one after the other; of seeds and latents there are that many already."""
        repeated = {
            field.name: [value for value in getattr(self, field.name) for _ in range(each)]
            for field in fields(self)
            if field.name not in ("seeds", "latents") and getattr(self, field.name) is not None
        }
        return replace(self, **repeated)


def pair_up(
    pictures: list[Picture],
    instruction: str | Sequence[str] | None,
    prompt: str | Sequence[str] | None = None,
    lowercase: bool = False,
) -> tuple[list[Picture], list[str]]:
    """As many pictures as instructions; a single one of either goes with all of the other."""
    if prompt is not None and instruction is not None:
        raise ValueError("both `instruction` and `prompt` were given: they are two names of one thing, choose one.")
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
    """Reference pictures of each of `count` instructions, given as one or a list for all, or as a list of lists."""
    given: Any = [] if references is None else references
    several: list = list(given) if isinstance(given, list | tuple) else [given]
    if not several or not all(isinstance(one, list | tuple) for one in several):
        same = [read_picture(one) for one in several]
        return [same for _ in range(count)]
    if len(several) != count:
        raise ValueError(
            f"`reference_images` holds {len(several)} lists and there are {count} instructions: give one list for "
            "each, or one plain list for all."
        )
    return [[read_picture(one) for one in own] for own in several]


def pair_negatives(
    negative: str | Sequence[str] | None, count: int, settings: DrawSettings, lowercase: bool = False
) -> list[str] | None:
    """What is to be avoided, one text per picture; None where nothing is named."""
    if negative is None:
        return None
    scales = (settings.guidance_scale, settings.image_guidance_scale)
    if len(branch_weights(*scales)) == 1:
        raise ValueError(
            "`negative_prompt` was given, but with `guidance_scale` and `image_guidance_scale` 1 nothing is compared "
            "with it: leave it out, or take a guidance_scale above 1, with a model that was trained for one."
        )
    negatives = [negative] * count if isinstance(negative, str) else list(negative)
    _check_count("negative_prompt", len(negatives), count)
    return [clean_instruction(text, lowercase) for text in negatives]


def read_masks(
    mask: PictureInput | Sequence[PictureInput] | None, pictures: Sequence[Picture], background_lock: bool
) -> list[np.ndarray | None]:
    """The user's masks, one per picture; None where the model's estimate is to be used."""
    if mask is None:
        return [None] * len(pictures)
    if not background_lock:
        raise ValueError("`mask` says what to keep, but background_lock=False keeps nothing: drop one of the two.")
    masks: list = list(mask) if isinstance(mask, list | tuple) else [mask] * len(pictures)
    _check_count("mask", len(masks), len(pictures))
    return [read_mask(m, picture.size) for m, picture in zip(masks, pictures, strict=True)]


def choose_seeds(
    count: int,
    seed: int | Sequence[int] | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    each: int = 1,
) -> list[int]:
    """Seeds in [0, 2**32) for `each` images of `count` pictures, picture by picture.

    A `seed` is one for all (each picture then comes out as it would alone with it) or one each, and further images of
    a picture take the next ones; a `generator`, one for all or one each, draws them. Without either they are random.
    """
    if each < 1:
        raise ValueError(f"`num_images_per_prompt` is {each}: at least 1 image is drawn.")
    if seed is not None and generator is not None:
        raise ValueError("both `seed` and `generator` were given: choose one.")
    if seed is None:
        if generator is None:
            generator = torch.Generator()
            generator.seed()
        one_for_all = isinstance(generator, torch.Generator)
        several = [generator] * (count * each) if one_for_all else list(generator)
        if len(several) != count * each:
            _check_count("generator", len(several), count)
            several = [one for one in several for _ in range(each)]
        return [int(torch.randint(MAX_SEED, (1,), generator=g, device=g.device)) for g in several]
    seeds = [seed] * count if isinstance(seed, int) else [int(s) for s in seed]
    _check_count("seed", len(seeds), count)
    for value in seeds:
        if not 0 <= value < MAX_SEED:
            raise ValueError(f"`seed` {value} is out of range: take a whole number from 0 to {MAX_SEED - 1}.")
    return [one for value in seeds for one in sample_seeds(value, each)]


def _check_count(name: str, given: int, count: int) -> None:
    if given != count:
        raise ValueError(f"got {given} values for `{name}` and {count} pictures: give one for all, or one each.")
