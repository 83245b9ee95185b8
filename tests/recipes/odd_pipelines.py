"""Inpainting pipelines of diffusers whose calls have other names, as PowerPaint's and BrushNet's have."""

from __future__ import annotations

from functools import wraps
from typing import Any, ClassVar

from diffusers import StableDiffusionInpaintPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from PIL import Image


class TwoPrompts(StableDiffusionInpaintPipeline):
    """Asks for two prompts and a trade-off between them."""

    seen: ClassVar[list[dict[str, Any]]] = []

    def __call__(  # type: ignore[override]
        self,
        promptA: str,
        promptB: str,
        picture: Image.Image,
        hole: Image.Image,
        negative_promptA: str = "",
        tradoff: float = 1.0,
        num_inference_steps: int = 50,
        generator: Any = None,
    ) -> Any:
        self.seen.append(dict(locals()))
        return super().__call__(
            prompt=f"{promptA} {promptB}",
            negative_prompt=negative_promptA,
            image=picture,
            mask_image=hole,
            width=picture.width,
            height=picture.height,
            num_inference_steps=num_inference_steps,
            generator=generator,
        )


class Prudish(StableDiffusionInpaintPipeline):
    """Finds something to object to in every picture."""

    @wraps(StableDiffusionInpaintPipeline.__call__)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = super().__call__(*args, **kwargs)
        return StableDiffusionPipelineOutput(images=out.images, nsfw_content_detected=[True])


def load_two_prompts(model: str, **arguments: Any) -> TwoPrompts:
    """As a user's own function that puts the parts of a pipeline together."""
    return TwoPrompts.from_pretrained(model, **arguments)
