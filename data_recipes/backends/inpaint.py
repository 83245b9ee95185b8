"""Inpainting and harmonising with any pipeline of diffusers.

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
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from data_recipes.backends.base import CompositeRequest, InpaintRequest
from data_recipes.backends.loading import (
    DTYPES,
    CountedBackend,
    check_above,
    check_choice,
    class_named,
    model_name,
    place,
)
from data_recipes.backends.windows import put_back, resized, window_around, working_size
from insightedit.console import did_you_mean

REMOVAL = {"prompt": "empty background, nothing there", "negative_prompt": "object, person, animal, text, artifact"}
PAINTING = {"prompt": "{prompt}", "negative_prompt": "{negative_prompt}"}
HARMONY = "a photograph, natural light, consistent colours"
logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _DiffusersBackend(CountedBackend):
    """A pipeline of diffusers that is loaded with its first call and draws within masks.

    Attributes:
        model: hub id, folder or miniature:SIZE/sd.
        revision: of the hub's repository.
        variant: of the weights' files, e.g. "fp16".
        pipeline_class: class of diffusers, or `package.module:Class` or `:function` of an installed package; None
            lets diffusers choose by the model.
        options: further arguments of each call.
        steps: of the sampler.
        guidance_scale: of the text.
        strength: share of the noise that is put in, above 0 to 1; 1 forgets what was there.
        size: longer side in pixels of what the model sees. AdvancedEdit: 640.
        multiple: of both sides, as the model's latents need it.
        margin: how much around the mask is shown at least on each side, in shares of its box's longer side. Ours.
        device: "cpu", "cuda", "cuda:1"; None for a GPU if there is one.
        dtype: of the weights; "auto" is float16 on a GPU and float32 elsewhere.
    """

    model: str
    _: KW_ONLY
    revision: str | None = None
    variant: str | None = None
    pipeline_class: str | None = None
    options: Mapping[str, Any] | None = None
    steps: int = 50
    guidance_scale: float = 7.5
    strength: float = 1.0
    size: int = 640
    multiple: int = 8
    margin: float = 0.5
    device: str | None = None
    dtype: str = "auto"

    own: ClassVar[tuple[str, ...]]  # settings besides those of all pipelines
    auto: ClassVar[str]  # class of diffusers that chooses the pipeline

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, DTYPES)
        check_above("steps", self.steps)
        check_above("multiple", self.multiple)
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength is {self.strength}: give a number above 0, up to 1.")
        if self.size < self.multiple:
            raise ValueError(
                f"size is {self.size} px: the model needs at least {self.multiple} px, a good size is 512 or 640."
            )
        if self.margin < 0:
            raise ValueError(f"margin is {self.margin}: give 0 or more.")
        self.options = dict(self.options or {})
        shared = ("options", "steps", "guidance_scale", "strength", "size", "multiple", "margin", "dtype")
        settings = {name: getattr(self, name) for name in (*self.own, *shared)}
        made = self.pipeline_class or self._versions.get("custom_pipeline") or "auto"
        super().__init__(model_name(self.model, self.revision), {"pipeline_class": made, **settings})
        self._pipeline: Any = None
        self._parameters: Mapping[str, Any] = {}

    @property
    def _versions(self) -> dict[str, Any]:
        """Arguments of `from_pretrained`; those that are None are left out."""
        named = ("revision", "variant", "custom_pipeline")
        return {name: value for name in named if (value := getattr(self, name, None)) is not None}

    def redraw(
        self, request: InpaintRequest | CompositeRequest, shown: Mapping[str, np.ndarray], words: Mapping[str, Any]
    ) -> np.ndarray:
        """The picture (H, W, 3) uint8 with its mask's pixels drawn anew; as it was where the safety checker blocks it.

        Args:
            request: picture, mask and seed.
            shown: name of an argument -> (H, W, 3) uint8 or (H, W) bool, of which the pipeline sees a window.
            words: further arguments.

        Raises:
            ValueError: if the mask is empty or of another size, or the pipeline does not know an argument.
        """
        _check_mask(request.picture, request.mask)
        window = window_around(request.mask, self.size, self.margin)
        width, height = working_size(window, self.size, self.multiple)
        seen = {name: resized(whole[window.slices], width, height) for name, whole in shown.items()}
        usual = {"num_inference_steps": self.steps, "guidance_scale": self.guidance_scale, "strength": self.strength}
        drawn = self._call(
            {**seen, **words, **(self.options or {})}, {**usual, "width": width, "height": height}, request.seed
        )
        self.count(asked=1)
        return request.picture if drawn is None else put_back(request.picture, drawn, request.mask, window)

    def _call(self, arguments: dict[str, Any], usual: dict[str, Any], seed: int) -> Any:
        """The picture that comes out; None where the safety checker blocks it.

        Args:
            arguments: of the pipeline; it has to know each of them.
            usual: those that pipelines mostly know; left out where one does not, and where `arguments` has them.
            seed: of the noise.

        Raises:
            ValueError: if the pipeline does not know an argument.
        """
        import torch

        if self._pipeline is None:
            self._load()
        for name in arguments:
            self._check_known(name)
        known = {name: value for name, value in usual.items() if name in self._parameters}
        generator = torch.Generator("cpu").manual_seed(seed)  # the same noise on every device
        out = self._pipeline(**{**known, **arguments}, generator=generator)
        if any(getattr(out, "nsfw_content_detected", None) or []):
            logger.warning("the safety checker of %s blocked a picture: it stays as it was", self.model)
            return None
        return out.images[0]

    def _load(self) -> None:
        import diffusers

        from insightedit.modeling.model_ids import resolve_model_id
        from insightedit.modeling.pretrained import load_pretrained, never_asked

        device, dtype = place(self.device, self.dtype, half="float16")
        chosen = self.pipeline_class or ("DiffusionPipeline" if "custom_pipeline" in self._versions else self.auto)
        made = class_named(chosen, "diffusers")
        has_new_name = hasattr(diffusers.utils.deprecation_utils, "_resolve_dtype")
        precision = {"dtype" if has_new_name else "torch_dtype": dtype}
        parts = {
            name: load_pretrained(class_named(part["class"], "diffusers"), part["model"], **precision)
            for name, part in (getattr(self, "components", None) or {}).items()
        }
        load = getattr(made, "from_pretrained", None) or _annotated(chosen, made)
        with never_asked():
            pipeline: Any = load(resolve_model_id(self.model), **precision, **self._versions, **parts)
        pipeline.to(device)
        pipeline.set_progress_bar_config(disable=True)
        diffusers.utils.logging.disable_progress_bar()
        self._parameters = inspect.signature(pipeline.__call__).parameters
        self._pipeline = pipeline

    def _check_known(self, name: str) -> None:
        if name in self._parameters:
            return
        told = did_you_mean(name, self._parameters, f"it takes {', '.join(self._parameters)}.")
        raise ValueError(
            f"{type(self._pipeline).__name__} takes no argument {name}: {told} `names`, `removal`, `painting` and "
            "`options` say what it is called with."
        )


@dataclass(eq=False)
class DiffusersInpainter(_DiffusersBackend):
    """Paints within masks, at the model's resolution, and puts the mask's pixels back into the picture.

    A picture no larger than `size` is painted as a whole; of a larger one the surroundings of the mask. What the model
    sees is scaled so that its longer side is `size`; both sides are multiples of `multiple`. Requests go through one
    by one: a diffusion model gains little from batches, and so each comes out the same whatever is painted with it.

    Attributes:
        model: hub id or folder of an inpainting pipeline, or of a text-to-image one that diffusers can inpaint with.
        custom_pipeline: folder or hub id with the pipeline's code, as `DiffusionPipeline.from_pretrained` takes it.
        components: name -> {class, model}: parts that are loaded one by one and given to the pipeline.
        names: what the pipeline calls what we call `image` and `mask` (default: `image`, `mask_image`).
        removal: arguments of the pipeline where a request has no prompt; ours: words for nothing.
        painting: the same where it has one; "{prompt}" and "{negative_prompt}" are filled in.
        blank: show the model the picture with the mask blacked out (BrushNet's way).

    The others are those of all pipelines of diffusers here, see `_DiffusersBackend`.

    Raises:
        ValueError: if a setting is out of range.
    """

    _: KW_ONLY
    custom_pipeline: str | None = None
    components: Mapping[str, Mapping[str, str]] | None = None
    names: Mapping[str, str] | None = None
    removal: Mapping[str, Any] | None = None
    painting: Mapping[str, Any] | None = None
    blank: bool = False

    own = ("removal", "painting", "names", "blank")
    auto = "AutoPipelineForInpainting"

    def __post_init__(self) -> None:
        self.names = {"image": "image", "mask": "mask_image", **(self.names or {})}
        self.removal = dict(REMOVAL if self.removal is None else self.removal)
        self.painting = dict(PAINTING if self.painting is None else self.painting)
        super().__post_init__()

    def paint(self, paintings: Sequence[InpaintRequest]) -> list[np.ndarray]:
        """See `base.Inpainter`. What the model's safety checker blocks comes back as it was.

        Raises:
            ValueError: if a mask is empty or of another size, or the pipeline takes none of the arguments.
        """
        with self.timed(len(paintings)):
            return [self._paint(request) for request in paintings]

    def _paint(self, request: InpaintRequest) -> np.ndarray:
        picture = request.picture
        if self.blank and request.mask.shape == picture.shape[:2]:
            picture = np.where(request.mask[..., None], 0, picture).astype(np.uint8)
        names = self.settings["names"]
        arguments = self.settings["painting" if request.prompt else "removal"]
        given = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
        words = {name: _filled(value, given) for name, value in arguments.items()}
        return self.redraw(request, {names["image"]: picture, names["mask"]: request.mask}, words)


@dataclass(eq=False)
class DiffusersHarmoniser(_DiffusersBackend):
    """Draws what was pasted a little anew, with an image-to-image pipeline at low strength; the rest stays as it is.

    SmartEdit used PIH, a network that predicts colour curves; it is in no library. This one may change shapes a
    little too: keep `strength` low, or take the kind `statistics`.

    Attributes:
        model: hub id or folder of a text-to-image or image-to-image pipeline.
        prompt: what the picture is said to be.
        steps: of the sampler; about `steps * strength` of them are done.
        margin: wide, since the surroundings' light is what it is about.

    The others are those of all pipelines of diffusers here, see `_DiffusersBackend`.

    Raises:
        ValueError: if a setting is out of range.
    """

    _: KW_ONLY
    prompt: str = HARMONY
    steps: int = 40
    guidance_scale: float = 3.0
    strength: float = 0.25
    margin: float = 1.0

    own = ("prompt",)
    auto = "AutoPipelineForImage2Image"

    def __post_init__(self) -> None:
        super().__post_init__()
        if int(self.steps * self.strength) < 1:
            raise ValueError(
                f"steps {self.steps} at strength {self.strength} leave no step to be done: raise one of them."
            )

    def harmonise(self, pastings: Sequence[CompositeRequest]) -> list[np.ndarray]:
        """See `base.Harmoniser`.

        Raises:
            ValueError: if a mask is empty or of another size, or the pipeline takes none of the arguments.
        """
        with self.timed(len(pastings)):
            words = {"prompt": self.prompt}
            return [self.redraw(request, {"image": request.picture}, words) for request in pastings]


def _annotated(name: str, made: Any) -> Any:
    """A function of the user's own, if it says that it makes a pipeline.

    Raises:
        ValueError: for anything else, which would be called with the model's name.
    """
    from diffusers import DiffusionPipeline

    said = typing.get_type_hints(made).get("return") if inspect.isfunction(made) else None
    if isinstance(said, type) and issubclass(said, DiffusionPipeline):
        return made
    raise ValueError(
        f"pipeline_class is {name}, which makes no pipeline: name a class with `from_pretrained`, or a function whose "
        "return annotation is a pipeline of diffusers."
    )


def _filled(value: Any, told: Mapping[str, str]) -> Any:
    """A text with its gaps filled; anything else as it is."""
    if not isinstance(value, str):
        return value
    for name, text in told.items():  # not str.format: a caption may hold braces
        value = value.replace(f"{{{name}}}", text)
    return value


def _check_mask(picture: np.ndarray, mask: np.ndarray) -> None:
    if mask.shape != picture.shape[:2]:
        raise ValueError(
            f"a mask of {mask.shape[1]} x {mask.shape[0]} px was given for a picture of {picture.shape[1]} x "
            f"{picture.shape[0]} px: both have to be of one size."
        )
    if not mask.any():
        raise ValueError("an empty mask was given: there is nothing to paint, reject the record before.")
