"""`insightedit eval`: measure editors; here on scenes, whose right answer is known.

On photographs: `insightedit.cli.eval_photos`. Published benchmarks, by name: `insightedit.cli.eval_benchmarks`.
What reads finished runs: `insightedit.cli.eval_reading`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insightedit.cli import eval_benchmarks, eval_reading
from insightedit.cli.eval_photos import photos
from insightedit.cli.options import (
    BatchSize,
    Device,
    ImageScale,
    Lock,
    Model,
    PromptScale,
    SceneSeed,
    SceneSide,
    Split,
    Steps,
    TextScale,
    call_settings,
    check_exclusive,
    check_no_model,
)
from insightedit.console import MAX_SCENES, SCENE_SIDES, Command, command_group, console, progress_bar
from insightedit.files import check_folder

if TYPE_CHECKING:
    from insightedit.evaluation.scenes.benchmark import SceneSet
    from insightedit.evaluation.scenes.report import SceneReport

SIZE_WITHOUT_MODEL = 128  # pixels

app = command_group("Measure editors.", eval_benchmarks.EvalGroup)


def scenes(
    model: Model = None,
    count: Annotated[int, typer.Option(min=1, max=MAX_SCENES, help="Scenes.")] = 600,
    size: Annotated[
        int | None,
        typer.Option(
            min=SCENE_SIDES[0],
            max=SCENE_SIDES[1],
            help="Pixels of a side. Default: the model's resolution; 128 without a model.",
        ),
    ] = None,
    split: Split = "test",
    seed: SceneSeed = 0,
    pairs: Annotated[
        int, typer.Option(min=0, max=MAX_SCENES, help="Minimal pairs (one word changed) to measure besides.")
    ] = 0,
    task: Annotated[
        str,
        typer.Option(
            help="editing by words; subject: new pictures of what reference pictures show; subject_editing: scenes "
            "that it is put into."
        ),
    ] = "editing",
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.json, records.jsonl and pictures.")] = Path(
        "runs/eval"
    ),
    results: Annotated[
        Path | None, typer.Option(help="Score the pictures in this folder, made by any editor, instead of a model.")
    ] = None,
    dump: Annotated[
        Path | None, typer.Option(help="Only write sources and instructions to this folder, for any editor.")
    ] = None,
    steps: Steps = None,
    guidance_scale: TextScale = None,
    image_guidance_scale: ImageScale = None,
    image_prompt_scale: PromptScale = None,
    background_lock: Lock = False,
    batch_size: BatchSize = 1,
    device: Device = None,
) -> None:
    """Edit scenes whose right answer is known, and count how often it is met; beside control rows."""
    from insightedit.evaluation.scenes.benchmark import SceneSet

    check_exclusive({"--model": model, "--results": results, "--dump": dump})
    for folder in filter(None, (out, dump)):
        check_folder(folder)
    without_model = SceneSet(count, size or SIZE_WITHOUT_MODEL, split, seed, pairs, task)
    scales = call_settings(steps, guidance_scale, image_guidance_scale, image_prompt_scale)
    if dump is not None or results is not None:
        unused = {**scales, "background_lock": background_lock or None, "device": device}
        check_no_model(unused, "with --results or --dump")
    if dump is not None:
        _dump(dump, without_model)
    elif results is not None:
        _finish(_score_results(results, without_model, out), out)
    else:
        call = {**scales, "background_lock": background_lock, "batch_size": batch_size}
        without_model.drawing()  # a wrong split or size is told before the model is loaded
        _finish(_score_model(model, size, without_model, device, call, out), out)


def _dump(folder: Path, scenes: SceneSet) -> None:
    from insightedit.evaluation.benchmarks.scenes import dump_samples

    total = len(scenes.ids)
    with progress_bar(total, "Writing") as advance:
        path = dump_samples(folder, scenes, advance)
    typer.echo(f"{path}  {total} instructions; each says where its pictures lie in {folder}")
    names = ("count", "size", "split", "seed", "pairs", "task")
    flags = " ".join(f"--{name} {getattr(scenes, name)}" for name in names)
    typer.echo(f"Save each answer as ID.png, then: insightedit eval scenes --results FOLDER {flags}")


def _score_results(folder: Path, scenes: SceneSet, out: Path) -> SceneReport:
    from insightedit.evaluation.benchmarks.scenes import find_results
    from insightedit.evaluation.core.editing_methods import EditingMethod, FolderOutputs
    from insightedit.evaluation.scenes.benchmark import evaluate

    method = EditingMethod(folder.absolute().name, FolderOutputs(folder, find_results(folder, scenes.ids)))
    with progress_bar(len(scenes.ids), "Scoring") as advance:
        report = evaluate(method, scenes, out=out, progress=advance)
    return report.with_settings({"results": str(folder)})


def _score_model(
    model: str | None, size: int | None, scenes: SceneSet, device: str | None, call: dict[str, Any], out: Path
) -> SceneReport:
    from insightedit.evaluation.core.editing_methods import check_takes_references, edit_with, method_of, open_model
    from insightedit.evaluation.scenes.benchmark import SceneOutputs, evaluate
    from insightedit.pipelines.base import software_versions

    started = time.perf_counter()
    pipeline = open_model(model, device)
    check_takes_references(pipeline, scenes.task)
    typer.echo(f"Model loaded in {time.perf_counter() - started:.1f} s ({pipeline.device.type})")
    scenes = replace(scenes, size=size or int(pipeline.config["resolution"]))
    name, edit = str(pipeline.name_or_path), edit_with(pipeline, seed=scenes.seed, **call)
    outputs = SceneOutputs(edit, out, call["batch_size"], source=name)
    method = method_of(pipeline, outputs, call, creates=scenes.task == "subject")
    started = time.perf_counter()
    with progress_bar(len(scenes.ids), "Editing") as advance:
        report = evaluate(method, scenes, out=out, progress=advance)
    date = time.strftime("%Y-%m-%d", time.gmtime())
    used = {"model": name, "device": pipeline.device.type, "date": date, **method.settings}
    used["versions"] = software_versions()
    return report.with_settings({**used, "seconds": round(time.perf_counter() - started, 1)})


def _finish(report: SceneReport, out: Path) -> None:
    from insightedit.evaluation.reporting import report as reports
    from insightedit.evaluation.reporting.html_report import write_html_report

    screen = console()
    screen.print(reports.rows_table(report))
    for line in reports.missing_controls(report):
        screen.print(line, highlight=False)
    for table in (reports.details_table(report), reports.groups_table(report.model)):
        screen.print(table or "")
    verdicts = ", ".join(f"{verdict} {count}" for verdict, count in report.model.verdicts.items())
    screen.print(f"Verdicts: {verdicts}", highlight=False)
    screen.print(reports.failures_table(report.model) or "")
    if report.pairs is not None:
        screen.print(reports.pairs_line(report.pairs), highlight=False)
    for name, meaning in {**reports.MEANING, **reports.DETAIL_MEANING}.items():
        screen.print(f"  [dim]{name}: {meaning}[/dim]", highlight=False)
    for path in (*reports.write_report(report, out), *write_html_report([out])):
        typer.echo(path)


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Report folders; the others are tested against the first.")],
) -> None:
    """Put reports side by side, if they were measured on the same scenes by the same rules."""
    from insightedit.evaluation.reporting.photos import photo_comparison_table
    from insightedit.evaluation.reporting.report import comparison_table, read_report

    read = {str(folder): read_report(folder) for folder in folders}
    rules = {report["protocol"].get("name") for report, _ in read.values()}
    console().print((photo_comparison_table if rules == {"photos_v1"} else comparison_table)(read))


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
    from insightedit.evaluation.core.editing_methods import check_settings_of, edit_with, open_model, round_trip_of
    from insightedit.evaluation.scenes import tradeoff as curve
    from insightedit.evaluation.scenes.benchmark import SceneSet, evaluate, scene_sampler

    try:
        wanted = [float(part) for part in scales.split(",")]
    except ValueError:
        raise ValueError(f"--scales {scales}: numbers between commas are needed, e.g. 1.0,1.4,1.8.") from None
    curve.check_scales(wanted)
    if find_spec("matplotlib") is None:
        raise ValueError("the plot needs matplotlib, which is not installed: pip install 'insightedit[eval]'.")
    check_folder(out)
    call = {**call_settings(steps, guidance_scale), "batch_size": batch_size}
    scene_sampler("editing", split=split, size=size or 64, seed=seed)  # told before the model is loaded
    pipeline = open_model(model, device)
    check_settings_of(pipeline, {"image_guidance_scale": wanted[0]})
    size = size or int(pipeline.config["resolution"])
    scenes, how = SceneSet(count, size, split, seed), {"batch_size": batch_size}
    with progress_bar(count * len(wanted), "Editing") as advance:
        how |= {"round_trip": round_trip_of(pipeline), "progress": advance}
        found = curve.sweep(
            lambda scale: edit_with(pipeline, seed=seed, **{**call, "image_guidance_scale": scale}),
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
    from insightedit.evaluation.core.editing_methods import edit_with, open_model, round_trip_of
    from insightedit.evaluation.scenes.benchmark import scene_sampler
    from insightedit.evaluation.scenes.drift import drift_table, measure_drift, write_drift

    check_folder(out)
    scene_sampler("editing", split=split, size=size or 64, seed=seed)
    call = {**call_settings(steps, guidance_scale, image_guidance_scale), "batch_size": batch_size}
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
    from insightedit.evaluation.scenes.baselines import baselines_table, measure_baselines

    names = tuple(name.strip() for name in tasks.split(","))
    with progress_bar(count, "Scoring") as advance:
        rows = measure_baselines(count=count, size=size, tasks=names, split=split, seed=seed, progress=advance)
    console().print(baselines_table(rows))


def _settings(pipeline: Any, call: dict[str, Any]) -> dict[str, Any]:
    """What is noted of the editor; `own_scale` is the image guidance scale that it is used with."""
    from insightedit.evaluation.core.editing_methods import given
    from insightedit.pipelines.base import software_versions

    own = pipeline.config.get("default_image_guidance_scale")
    about = {"model": pipeline.name_or_path, "device": pipeline.device.type, "own_scale": own}
    return {**about, **given(call), "versions": software_versions()}


# in the order in which help lists them
for command in (tradeoff, drift, baselines):
    app.command(cls=Command)(command)
for name, line in eval_benchmarks.SHORT.items():
    app.command(name, cls=eval_benchmarks.BenchmarkCommand, help=line)(eval_benchmarks.evaluate)
app.command("list", cls=Command)(eval_benchmarks.list_benchmarks)
for command in (*eval_reading.COMMANDS, scenes, photos, compare):
    app.command(cls=Command)(command)
