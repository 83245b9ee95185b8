"""Options that several commands share, declared once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from insightedit.console import MAX_BATCH, MAX_SCALE, MAX_SCENE_SEED, MAX_SEED, SCENE_SIDES, finite

MAX_STEPS = 1000  # noise schedules have no more
MAX_RESAMPLES = 1_000_000


def check_device(name: str | None) -> str | None:
    """Callback of --device: refuses what this machine has not."""
    from insightedit.modeling.devices import find_device

    if name is not None:
        try:
            find_device(name)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return name


def call_settings(
    steps: int | None,
    text_scale: float | None = None,
    image_scale: float | None = None,
    prompt_scale: float | None = None,
) -> dict[str, Any]:
    """The options of a model's calls by the names that pipelines have for them; None means the model's default."""
    return {
        "num_inference_steps": steps,
        "guidance_scale": text_scale,
        "image_guidance_scale": image_scale,
        "image_prompt_scale": prompt_scale,
    }


def check_exclusive(options: Mapping[str, Any]) -> list[str]:
    """The names of the options that were given, of which there may be one."""
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other: name one of them.")
    return given


def check_no_model(settings: Mapping[str, Any], when: str) -> None:
    """Refuse settings of a model's calls where none runs."""
    if given := [name.replace("num_inference_", "") for name, value in settings.items() if value is not None]:
        names = ", ".join(given).replace("_", " ")
        raise ValueError(f"{names}: no model runs {when}; leave these options out.")


def _scale(text: str) -> Any:
    return typer.Option(min=0, max=MAX_SCALE, callback=finite, help=text)


Model = Annotated[str | None, typer.Option(help="Model folder or hub id. Default: the one that comes along.")]
Device = Annotated[
    str | None, typer.Option(callback=check_device, help="cpu, cuda, cuda:0, mps. Default: what is there.")
]
Overwrite = Annotated[
    bool | None,
    typer.Option(
        "--overwrite/--skip-existing",
        help="Replace or keep outputs that are there. Default: a folder's are kept; a single one is replaced if an "
        "earlier edit wrote it.",
        show_default=False,
    ),
]
NoiseSeed = Annotated[
    int | None, typer.Option(min=0, max=MAX_SEED, help="Same seed, same bytes. Default: drawn, and printed.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Write nothing where there is a warning, and exit with 3.")]
Force = Annotated[
    bool, typer.Option("--force", help="Draw also what the model refuses, or is not sure that it understood.")
]
Steps = Annotated[int | None, typer.Option(min=1, max=MAX_STEPS, help="Denoising steps.")]
TextScale = Annotated[float | None, _scale("How hard to follow the instruction.")]
ImageScale = Annotated[float | None, _scale("How hard to keep to the picture.")]
PromptScale = Annotated[float | None, _scale("Weight of the image branch.")]
BatchSize = Annotated[
    int,
    typer.Option(
        min=1,
        max=MAX_BATCH,
        help="Pictures per forward pass: 1 gives each picture the bytes it has alone; more is faster, and rounds "
        "otherwise (by a grey level here and there).",
    ),
]
Lock = Annotated[
    bool, typer.Option("--background-lock/--no-background-lock", help="Off measures the model's own skill.")
]
SceneSeed = Annotated[int, typer.Option(min=0, max=MAX_SCENE_SEED, help="Of the scenes and of the noise.")]
SceneSide = Annotated[
    int | None,
    typer.Option(min=SCENE_SIDES[0], max=SCENE_SIDES[1], help="Pixels of a side. Default: the model's resolution."),
]
Split = Annotated[str, typer.Option(help="train, val or test.")]
Resamples = Annotated[int, typer.Option(min=1, max=MAX_RESAMPLES, help="Of the bootstrap.")]
