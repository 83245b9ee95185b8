"""Commands of `insightedit eval` on exact scenes beside `scenes` itself.

insightedit eval tradeoff --scales 1.0,1.4,1.8 --count 200    # success against background over image guidance
insightedit eval drift --turns 4                              # edits of edits, an edit and its undoing, no edit
insightedit eval baselines --count 60                         # what fixed outputs get
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from insightedit.cli.options import BatchSize, Device, ImageScale, Model, SceneSeed, SceneSide, Split, Steps, TextScale
from insightedit.console import MAX_SCENES, SCENE_SIDES, console, one_sentence_errors, progress_bar
from insightedit.files import check_folder


def tradeoff(
    model: Model = None,
    scales: Annotated[str, typer.Option(help="Image guidance scales.")] = "1.0,1.2,1.4,1.6,1.8,2.0,2.2",
    count: Annotated[int, typer.Option(min=1, max=MAX_SCENES, help="Scenes, the same at every scale.")] = 200,
    size: SceneSide = None,
    split: Split = "test",
    seed: SceneSeed = 0,
    out: Annotated[Path, typer.Option(help="Folder for tradeoff.json and tradeoff.png.")] = Path("runs/eval/tradeoff"),
    steps: Steps = None,
    guidance_scale: TextScale = None,
    batch_size: BatchSize = 1,
    device: Device = None,
) -> None:
    """Edit the same scenes at several image guidance scales: success against the kept background, and a plot."""
    with one_sentence_errors():
        from insightedit.evaluation.core.editing_methods import check_settings_of, edit_with, round_trip_of
        from insightedit.evaluation.core.setup import open_model
        from insightedit.evaluation.scenes import tradeoff as curve
        from insightedit.evaluation.scenes.benchmark import SceneSet, evaluate, scene_sampler

        wanted = _numbers(scales)
        curve.check_scales(wanted)
        if find_spec("matplotlib") is None:
            raise ValueError("the plot needs matplotlib, which is not installed: pip install 'insightedit[eval]'.")
        check_folder(out)
        call = {"num_inference_steps": steps, "guidance_scale": guidance_scale, "batch_size": batch_size}
        scene_sampler("editing", split=split, size=size or 64, seed=seed)  # told before the model is loaded
        pipeline = open_model(model, device)
        check_settings_of(pipeline, {"image_guidance_scale": wanted[0]})
        size = size or int(pipeline.config["resolution"])
        scenes, how = SceneSet(count, size, split, seed), {"batch_size": batch_size}
        with progress_bar(count * len(wanted), "Editing") as advance:
            how |= {"round_trip": round_trip_of(pipeline), "progress": advance}
            found = curve.sweep(
                lambda scale: edit_with(pipeline, seed=seed, image_guidance_scale=scale, **call),
                wanted,
                lambda edit_fn, controls: evaluate(edit_fn, scenes, **how, controls=controls),
                _settings(pipeline, call),
            )
        console().print(curve.tradeoff_table(found))
        for path in curve.write_tradeoff(found, out):
            typer.echo(path)


def drift(
    model: Model = None,
    count: Annotated[int, typer.Option(min=1, max=MAX_SCENES, help="Sessions.")] = 50,
    turns: Annotated[int, typer.Option(min=2, max=100, help="Edits in a row.")] = 4,
    size: SceneSide = None,
    split: Split = "test",
    seed: SceneSeed = 0,
    out: Annotated[Path, typer.Option(help="Folder for drift.json.")] = Path("runs/eval/drift"),
    steps: Steps = None,
    guidance_scale: TextScale = None,
    image_guidance_scale: ImageScale = None,
    batch_size: BatchSize = 1,
    device: Device = None,
) -> None:
    """Let a model edit its own pictures: a null instruction, an edit and its undoing, several edits in a row."""
    with one_sentence_errors():
        from insightedit.evaluation.core.editing_methods import edit_with, round_trip_of
        from insightedit.evaluation.core.setup import open_model
        from insightedit.evaluation.scenes.benchmark import scene_sampler
        from insightedit.evaluation.scenes.drift import drift_table, measure_drift, write_drift

        check_folder(out)
        scene_sampler("editing", split=split, size=size or 64, seed=seed)
        call = {
            "num_inference_steps": steps,
            "guidance_scale": guidance_scale,
            "image_guidance_scale": image_guidance_scale,
            "batch_size": batch_size,
        }
        pipeline = open_model(model, device)
        size = size or int(pipeline.config["resolution"])
        scenes: dict[str, Any] = {"count": count, "size": size, "turns": turns, "split": split, "seed": seed}
        with progress_bar(turns + 3, "Editing") as advance:
            report = measure_drift(
                edit_with(pipeline, **call, seed=seed), **scenes, round_trip=round_trip_of(pipeline), progress=advance
            )
        console().print(drift_table(report))
        typer.echo(write_drift(report, out, _settings(pipeline, call)))


def baselines(
    count: Annotated[int, typer.Option(min=1, max=MAX_SCENES, help="Scenes.")] = 60,
    size: Annotated[int, typer.Option(min=SCENE_SIDES[0], max=SCENE_SIDES[1], help="Pixels of a side.")] = 128,
    tasks: Annotated[
        str, typer.Option(help="Which edits, of those that mean an object: remove, replace, recolour, resize.")
    ] = "recolour",
    split: Split = "test",
    seed: SceneSeed = 0,
) -> None:
    """Score eight fixed outputs whose order is known, from the right answer to uniform noise; no model runs."""
    with one_sentence_errors():
        from insightedit.evaluation.scenes.baselines import baselines_table, measure_baselines

        names = tuple(name.strip() for name in tasks.split(","))
        with progress_bar(count, "Scoring") as advance:
            rows = measure_baselines(count=count, size=size, tasks=names, split=split, seed=seed, progress=advance)
        console().print(baselines_table(rows))


def _numbers(text: str) -> list[float]:
    """Numbers between commas.

    Raises:
        ValueError: if one is no number.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--scales {text}: numbers between commas are needed, e.g. 1.0,1.4,1.8.") from None


def _settings(pipeline: Any, call: dict[str, Any]) -> dict[str, Any]:
    """What is noted of the editor; `own_scale` is the image guidance scale that it is used with."""
    from insightedit.evaluation.core.outputs import given
    from insightedit.pipelines.functional import software_versions

    own = pipeline.config.get("default_image_guidance_scale")
    about = {"model": pipeline.name_or_path, "device": pipeline.device.type, "own_scale": own}
    return {**about, **given(call), "versions": software_versions()}
