"""Inpainting and harmonising with any pipeline of diffusers; harmonising by colour statistics, too.

    inpainter: {kind: diffusers, model: stable-diffusion-v1-5/stable-diffusion-inpainting}

A pipeline that names its arguments differently is described, not subclassed. PowerPaint, with its repository installed
and a function of yours that puts its parts together (called with the model's id and `dtype`; an old diffusers says
`torch_dtype`):

    inpainter:
      kind: diffusers
      model: checkpoints/powerpaint-v2-1
      pipeline_class: my_package.powerpaint:load
      names: {mask: mask}
      removal: {promptA: empty scene blur P_ctxt, promptB: empty scene blur P_ctxt, negative_promptA: P_obj}
      painting: {promptA: "{prompt} P_obj", promptB: "{prompt} P_obj", negative_promptA: "{negative_prompt}"}
      options: {tradoff: 1.0, brushnet_conditioning_scale: 1.0}
      blank: true

BrushNet, from its fork of diffusers, with its weights as a component:

      pipeline_class: StableDiffusionBrushNetPipeline
      components: {brushnet: {class: "diffusers:BrushNetModel", model: checkpoints/brushnet}}
      names: {mask: mask}
      blank: true
"""

from __future__ import annotations

import inspect
import logging
import typing
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from data_recipes.backends.base import CompositeRequest, CountedBackend, InpaintRequest, LocalModel, class_named
from data_recipes.backends.windows import box_of, put_back, resized, window_around, working_size
from insightedit.console import did_you_mean

REMOVAL = {"prompt": "empty background, nothing there", "negative_prompt": "object, person, animal, text, artifact"}
PAINTING = {"prompt": "{prompt}", "negative_prompt": "{negative_prompt}"}
SHARED = ("options", "steps", "guidance_scale", "strength", "size", "multiple", "margin", "dtype")
SPREAD = (0.5, 2.0)  # how much the contrast may change
FAINT = 1e-3  # a standard deviation in Lab below which a channel counts as flat
logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _DiffusersPipeline(LocalModel):
    """A pipeline of diffusers that draws within masks; `model` may be miniature:SIZE/sd, too.

    `pipeline_class` is a class of diffusers, or `package.module:Class` or `:function` of an installed package; None
    lets diffusers choose by the model.
    """

    _: KW_ONLY
    variant: str | None = None  # of the weights' files, e.g. "fp16"
    pipeline_class: str | None = None
    options: Mapping[str, Any] | None = None  # further arguments of each call
    steps: int = 50  # of the sampler
    guidance_scale: float = 7.5  # of the text
    strength: float = 1.0  # share of the noise that is put in, above 0 to 1; 1 forgets what was there
    size: int = 640  # longer side in pixels of what the model sees, AdvancedEdit's
    multiple: int = 8  # of both sides, as the model's latents need it
    margin: float = 0.5  # shown around the mask on each side at least, in shares of its box's longer side; ours

    half = "float16"
    positive = ("steps", "multiple")
    auto: ClassVar[str]  # class of diffusers that chooses the pipeline

    def __post_init__(self) -> None:
        self.options = dict(self.options or {})
        super().__post_init__()
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength is {self.strength}: give a number above 0, up to 1.")
        if self.size < self.multiple:
            raise ValueError(
                f"size is {self.size} px: the model needs at least {self.multiple} px, a good size is 512 or 640."
            )
        if self.margin < 0:
            raise ValueError(f"margin is {self.margin}: give 0 or more.")
        made = self.pipeline_class or self._versions.get("custom_pipeline") or "auto"
        self.settings = {"pipeline_class": made, **self.settings}

    @property
    def _versions(self) -> dict[str, Any]:
        """Arguments of `from_pretrained`; those that are None are left out."""
        named = ("revision", "variant", "custom_pipeline")
        return {name: value for name in named if (value := getattr(self, name, None)) is not None}

    def redraw(
        self, request: InpaintRequest | CompositeRequest, shown: Mapping[str, np.ndarray], words: Mapping[str, Any]
    ) -> np.ndarray:
        """The picture (H, W, 3) uint8 with its mask's pixels drawn anew; as it was where the safety checker blocks it.

        `shown` are arguments (H, W, 3) uint8 or (H, W) bool, of which the pipeline sees a window, `words` all others.
        An empty mask, one of another size, and arguments that the pipeline does not know are refused.
        """
        import torch

        picture, mask = request.picture, request.mask
        if mask.shape != picture.shape[:2]:
            raise ValueError(
                f"a mask of {mask.shape[1]} x {mask.shape[0]} px was given for a picture of {picture.shape[1]} x "
                f"{picture.shape[0]} px: both have to be of one size."
            )
        if not mask.any():
            raise ValueError("an empty mask was given: there is nothing to paint, reject the record before.")
        window = window_around(mask, self.size, self.margin)
        width, height = working_size(window, self.size, self.multiple)
        seen = {name: resized(whole[window.slices], width, height) for name, whole in shown.items()}
        arguments = {**seen, **words, **(self.options or {})}
        known = inspect.signature(self.pipeline.__call__).parameters
        for name in arguments:
            if name not in known:
                told = did_you_mean(name, known, f"it takes {', '.join(known)}.")
                raise ValueError(
                    f"{type(self.pipeline).__name__} takes no argument {name}: {told} `names`, `removal`, `painting` "
                    "and `options` say what it is called with."
                )
        usual = {"num_inference_steps": self.steps, "guidance_scale": self.guidance_scale, "strength": self.strength}
        usual |= {"width": width, "height": height}  # left out where a pipeline does not know them
        generator = torch.Generator("cpu").manual_seed(request.seed)  # the same noise on every device
        out = self.pipeline(
            **{**{name: value for name, value in usual.items() if name in known}, **arguments}, generator=generator
        )
        self.count(asked=1)
        if any(getattr(out, "nsfw_content_detected", None) or []):
            logger.warning("the safety checker of %s blocked a picture: it stays as it was", self.model)
            return picture
        return put_back(picture, out.images[0], mask, window)

    @cached_property
    def pipeline(self) -> Any:
        """The pipeline, loaded when it is first asked for; nothing that makes none is called with the model's name."""
        import diffusers

        from insightedit.modeling.pretrained import load_pretrained, never_asked, resolve_model_id

        device, dtype = self.place()
        chosen = self.pipeline_class or ("DiffusionPipeline" if "custom_pipeline" in self._versions else self.auto)
        made = class_named(chosen, "diffusers")
        has_new_name = hasattr(diffusers.utils.deprecation_utils, "_resolve_dtype")
        precision = {"dtype" if has_new_name else "torch_dtype": dtype}
        parts = {
            name: load_pretrained(class_named(part["class"], "diffusers"), part["model"], **precision)
            for name, part in (getattr(self, "components", None) or {}).items()
        }
        said = typing.get_type_hints(made).get("return") if inspect.isfunction(made) else None
        is_maker = isinstance(said, type) and issubclass(said, diffusers.DiffusionPipeline)
        load = made if is_maker else getattr(made, "from_pretrained", None)
        if load is None:
            raise ValueError(
                f"pipeline_class is {chosen}, which makes no pipeline: name a class with `from_pretrained`, or a "
                "function whose return annotation is a pipeline of diffusers."
            )
        with never_asked():
            pipeline: Any = load(resolve_model_id(self.model), **precision, **self._versions, **parts)
        pipeline.to(device)
        pipeline.set_progress_bar_config(disable=True)
        diffusers.utils.logging.disable_progress_bar()
        return pipeline


@dataclass(eq=False)
class DiffusersInpainter(_DiffusersPipeline):
    """Paints within masks, at the model's resolution, and puts the mask's pixels back into the picture.

    A picture no larger than `size` is painted as a whole; of a larger one the surroundings of the mask. What the model
    sees is scaled so that its longer side is `size`; both sides are multiples of `multiple`. Requests go through one
    by one: a diffusion model gains little from batches, and so each comes out the same whatever is painted with it.

    `model` is an inpainting pipeline, or a text-to-image one that diffusers can inpaint with.
    """

    _: KW_ONLY
    custom_pipeline: str | None = None  # folder or hub id with the pipeline's code, for `DiffusionPipeline`
    components: Mapping[str, Mapping[str, str]] | None = None  # name -> {class, model}: parts that are loaded alone
    names: Mapping[str, str] | None = None  # what the pipeline calls our `image` and `mask` (`image`, `mask_image`)
    removal: Mapping[str, Any] | None = None  # arguments where a request has no prompt; ours: words for nothing
    painting: Mapping[str, Any] | None = None  # where it has one; "{prompt}" and "{negative_prompt}" are filled in
    blank: bool = False  # show the model the picture with the mask blacked out (BrushNet's way)

    deciding = ("removal", "painting", "names", "blank", *SHARED)
    auto = "AutoPipelineForInpainting"

    def __post_init__(self) -> None:
        self.names = {"image": "image", "mask": "mask_image", **(self.names or {})}
        self.removal = dict(REMOVAL if self.removal is None else self.removal)
        self.painting = dict(PAINTING if self.painting is None else self.painting)
        super().__post_init__()

    def paint(self, paintings: Sequence[InpaintRequest]) -> list[np.ndarray]:
        """See `backends.base`. What the model's safety checker blocks comes back as it was; raises as `redraw`."""
        painted, names = [], self.settings["names"]
        with self.timed(len(paintings)):
            for request in paintings:
                picture = request.picture
                if self.blank and request.mask.shape == picture.shape[:2]:
                    picture = np.where(request.mask[..., None], 0, picture).astype(np.uint8)
                words = dict(self.settings["painting" if request.prompt else "removal"])
                for name, value in words.items():
                    if isinstance(value, str):  # not str.format: a caption may hold braces
                        value = value.replace("{prompt}", request.prompt)
                        words[name] = value.replace("{negative_prompt}", request.negative_prompt)
                painted.append(self.redraw(request, {names["image"]: picture, names["mask"]: request.mask}, words))
        return painted


@dataclass(eq=False)
class DiffusersHarmoniser(_DiffusersPipeline):
    """Draws what was pasted a little anew, with an image-to-image pipeline at low strength; the rest stays as it is.

    SmartEdit used PIH, a network that predicts colour curves; it is in no library. This one may change shapes a
    little too: keep `strength` low, or take the kind `statistics`.

    `model` is a text-to-image or image-to-image pipeline.
    """

    _: KW_ONLY
    prompt: str = "a photograph, natural light, consistent colours"  # what the picture is said to be
    steps: int = 40  # about `steps * strength` of them are done
    guidance_scale: float = 3.0
    strength: float = 0.25
    margin: float = 1.0  # wide, since the surroundings' light is what it is about

    deciding = ("prompt", *SHARED)
    auto = "AutoPipelineForImage2Image"

    def __post_init__(self) -> None:
        super().__post_init__()
        if int(self.steps * self.strength) < 1:
            raise ValueError(
                f"steps {self.steps} at strength {self.strength} leave no step to be done: raise one of them."
            )

    def harmonise(self, pastings: Sequence[CompositeRequest]) -> list[np.ndarray]:
        """See `backends.base`; raises as `redraw`."""
        with self.timed(len(pastings)):
            words = {"prompt": self.prompt}
            return [self.redraw(request, {"image": request.picture}, words) for request in pastings]


class StatisticsHarmoniser(CountedBackend):
    """Moves mean and spread of the thing's CIE Lab channels part of the way, `strength`, to those around it.

    SmartEdit used PIH, a network whose output is colour curves as well; it is in no library, and this is the classic
    in its place: no shading, no shadow, and a thing that stands in surroundings of another colour than its own takes
    some of it, so `strength` is below 1.

    The surroundings reach as far as `margin`, in shares of the longer side of the thing's box; both are ours.

    Source: Reinhard et al., Color Transfer between Images (2001), in CIE Lab.
    """

    def __init__(self, strength: float = 0.4, *, margin: float = 0.5) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}: give a number from 0 to 1.")
        if not margin > 0:
            raise ValueError(f"margin is {margin}: give a number above 0.")
        super().__init__("statistics", {"strength": strength, "margin": margin})

    def harmonise(self, pastings: Sequence[CompositeRequest]) -> list[np.ndarray]:
        """See `backends.base`; a picture without surroundings or without a thing stays as it is."""
        with self.timed(len(pastings)):
            self.count(asked=len(pastings))
            return [self._one(pasting) for pasting in pastings]

    def _one(self, pasting: CompositeRequest) -> np.ndarray:
        from skimage.color import lab2rgb, rgb2lab

        strength = self.settings["strength"]
        if not strength or not pasting.mask.any():
            return pasting.picture.copy()
        box = box_of(pasting.mask)
        reach = max(1, round(self.settings["margin"] * max(box.height, box.width)))
        top, left = max(0, box.top - reach), max(0, box.left - reach)
        part = slice(top, box.top + box.height + reach), slice(left, box.left + box.width + reach)
        inside = pasting.mask[part]
        if inside.all():
            return pasting.picture.copy()
        thing = rgb2lab(pasting.picture[part])[inside]
        around = rgb2lab(pasting.background[part])[~inside]
        mean, spread = thing.mean(axis=0), thing.std(axis=0)
        scale = np.where(spread > FAINT, around.std(axis=0) / np.maximum(spread, FAINT), 1.0)
        moved = (thing - mean) * np.clip(scale, *SPREAD) + around.mean(axis=0)
        mixed = thing + strength * (moved - thing)
        out = pasting.picture.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # skimage tells of negative Z values that it clips
            rgb = np.clip(lab2rgb(mixed[None])[0], 0.0, 1.0)  # colours that no screen shows: the nearest edge
        out[part][inside] = np.round(rgb * 255).astype(np.uint8)
        return out
