"""`insightedit eval scenes`: measure an editor on pictures whose right answer is known.

insightedit eval scenes                                   # the model that comes along
insightedit eval scenes --model runs/insightedit/stage3/model --pairs 100
insightedit eval scenes --dump to_edit/                    # for any other editor ...
insightedit eval scenes --results edited/ --out runs/eval/other
insightedit eval scenes --task subject --model runs/mige/stage3/model
insightedit eval compare runs/eval/ours runs/eval/other

`tradeoff`, `drift` and `baselines`, on the same scenes: `insightedit.cli.eval_scenes`.
Published benchmarks, by name: `insightedit.cli.eval_benchmarks`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insightedit.cli import eval_benchmarks as benchmark_cli
from insightedit.cli import eval_scenes as scenes_commands
from insightedit.cli.options import (
    BatchSize,
    Device,
    ImageScale,
    Model,
    PromptScale,
    SceneSeed,
    Split,
    Steps,
    TextScale,
)
from insightedit.console import MAX_SCENES, SCENE_SIDES, Command, console, one_sentence_errors, progress_bar
from insightedit.files import check_folder

if TYPE_CHECKING:
    from insightedit.evaluation.scenes.benchmark import SceneSet
    from insightedit.evaluation.scenes.report import SceneReport

SIZE_WITHOUT_MODEL = 128  # pixels

app = typer.Typer(
    rich_markup_mode=None,
    help="Measure editors.",
    cls=benchmark_cli.EvalGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


for command in (scenes_commands.tradeoff, scenes_commands.drift, scenes_commands.baselines):
    app.command(cls=Command)(command)
benchmark_cli.register(app)


@app.callback()
def root() -> None:
    """Measure editors."""


@app.command(cls=Command)
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
    background_lock: Annotated[
        bool, typer.Option("--background-lock/--no-background-lock", help="Off measures the model's own skill.")
    ] = False,
    batch_size: BatchSize = 1,
    device: Device = None,
) -> None:
    """Edit scenes whose right answer is known, and count how often it is met; beside control rows."""
    with one_sentence_errors():
        from insightedit.evaluation.scenes.benchmark import SceneSet

        _check_paths(model, results, dump, out)
        without_model = SceneSet(count, size or SIZE_WITHOUT_MODEL, split, seed, pairs, task)
        scales = {
            "num_inference_steps": steps,
            "guidance_scale": guidance_scale,
            "image_guidance_scale": image_guidance_scale,
            "image_prompt_scale": image_prompt_scale,
        }
        if dump is not None or results is not None:
            _check_unused({**scales, "background_lock": background_lock or None, "device": device})
        if dump is not None:
            _dump(dump, without_model)
        elif results is not None:
            _finish(_score_results(results, without_model, out), out)
        else:
            call = {**scales, "background_lock": background_lock, "batch_size": batch_size}
            without_model.drawing()  # a wrong split or size is told before the model is loaded
            _finish(_score_model(model, size, without_model, device, call, out), out)


def _check_paths(model: str | None, results: Path | None, dump: Path | None, out: Path) -> None:
    given = [
        name for name, value in (("--model", model), ("--results", results), ("--dump", dump)) if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other: name one of them.")
    for folder in filter(None, (out, dump)):
        check_folder(folder)


def _check_unused(settings: dict[str, Any]) -> None:
    given = [name for name, value in settings.items() if value is not None]
    if given:
        names = ", ".join(given).replace("num_inference_", "").replace("_", " ")
        raise ValueError(f"{names}: no model runs with --results or --dump; leave these options out.")


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
    from insightedit.evaluation.core.outputs import FolderOutputs
    from insightedit.evaluation.core.run import EditingMethod
    from insightedit.evaluation.scenes.benchmark import evaluate

    method = EditingMethod(folder.absolute().name, FolderOutputs(folder, find_results(folder, scenes.ids)))
    with progress_bar(len(scenes.ids), "Scoring") as advance:
        report = evaluate(method, scenes, out=out, progress=advance)
    return report.with_settings({"results": str(folder)})


def _score_model(
    model: str | None, size: int | None, scenes: SceneSet, device: str | None, call: dict[str, Any], out: Path
) -> SceneReport:
    from insightedit.evaluation.core import outputs as making
    from insightedit.evaluation.core.editing_methods import check_takes_references, edit_with, round_trip_of
    from insightedit.evaluation.core.run import EditingMethod
    from insightedit.evaluation.core.setup import open_model
    from insightedit.evaluation.scenes.benchmark import SceneOutputs, evaluate
    from insightedit.pipelines.functional import software_versions

    started = time.perf_counter()
    pipeline = open_model(model, device)
    check_takes_references(pipeline, scenes.task)
    typer.echo(f"Model loaded in {time.perf_counter() - started:.1f} s ({pipeline.device.type})")
    scenes = replace(scenes, size=size or int(pipeline.config["resolution"]))
    settings = making.settings_of(pipeline, call, creates=scenes.task == "subject")
    name = str(pipeline.name_or_path)
    edit = edit_with(pipeline, seed=scenes.seed, **call)
    method = EditingMethod(
        Path(name).absolute().name,
        SceneOutputs(edit, out, call["batch_size"], source=name),
        ckpt_sha=making.weights_of(pipeline),
        settings={**settings, "device": pipeline.device.type},
        round_trip=round_trip_of(pipeline),
    )
    started = time.perf_counter()
    with progress_bar(len(scenes.ids), "Editing") as advance:
        report = evaluate(method, scenes, out=out, progress=advance)
    date = time.strftime("%Y-%m-%d", time.gmtime())
    used = {"model": name, "device": pipeline.device.type, "date": date, **settings}
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
    screen.print(f"Verdicts: {reports.verdicts_line(report.model)}", highlight=False)
    screen.print(reports.failures_table(report.model) or "")
    if report.pairs is not None:
        screen.print(reports.pairs_line(report.pairs), highlight=False)
    for name, meaning in {**reports.MEANING, **reports.DETAIL_MEANING}.items():
        screen.print(f"  [dim]{name}: {meaning}[/dim]", highlight=False)
    for path in (*reports.write_report(report, out), *write_html_report([out])):
        typer.echo(path)


@app.command(cls=Command)
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Report folders; the others are tested against the first.")],
) -> None:
    """Put reports side by side, if they were measured on the same scenes by the same rules."""
    with one_sentence_errors():
        from insightedit.evaluation.reporting.report import comparison_table, read_report

        console().print(comparison_table({str(folder): read_report(folder) for folder in folders}))
