"""`insightedit eval photos`: what an editor makes of photographs, and whether it leaves alone what it cannot do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insightedit.cli.eval_benchmarks import dump_samples
from insightedit.cli.options import (
    BatchSize,
    Device,
    Force,
    ImageScale,
    Model,
    PromptScale,
    SceneSeed,
    Split,
    Steps,
    TextScale,
    call_settings,
    check_exclusive,
    check_no_model,
)
from insightedit.console import MAX_SCENES, console, progress_bar, quiet_libraries
from insightedit.files import check_folder

if TYPE_CHECKING:
    from insightedit.evaluation.photos.report import PhotoReport


def photos(
    model: Model = None,
    count: Annotated[int, typer.Option(min=1, max=MAX_SCENES, help="Requests.")] = 600,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photographs of your own. Default: those of the scenes.")
    ] = None,
    pack: Annotated[
        Path | None, typer.Option(help="Folder of assets, whose photographs of the split are taken, too.")
    ] = None,
    split: Split = "test",
    seed: SceneSeed = 0,
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.json, records.jsonl and pictures.")] = Path(
        "runs/eval/photos"
    ),
    results: Annotated[
        Path | None, typer.Option(help="Score the pictures in this folder, made by any editor, instead of a model.")
    ] = None,
    dump: Annotated[
        Path | None, typer.Option(help="Only write photographs and instructions to this folder, for any editor.")
    ] = None,
    steps: Steps = None,
    guidance_scale: TextScale = None,
    image_guidance_scale: ImageScale = None,
    image_prompt_scale: PromptScale = None,
    background_lock: Annotated[
        bool, typer.Option("--background-lock/--no-background-lock", help="On measures what users get.")
    ] = True,
    force: Force = False,
    batch_size: BatchSize = 1,
    device: Device = None,
) -> None:
    """Ask for whole-picture edits whose right answer is known, and for what should be declined; beside control rows."""
    from insightedit.evaluation.photos.benchmark import evaluate_photos, photo_benchmark
    from insightedit.evaluation.photos.requests import PhotoSet

    check_exclusive({"--model": model, "--results": results, "--dump": dump})
    for folder in filter(None, (out, dump)):
        check_folder(folder)
    call = call_settings(steps, guidance_scale, image_guidance_scale, image_prompt_scale) | {"force": force or None}
    if dump is not None or results is not None:
        check_no_model({**call, "device": device}, "with --results or --dump")
    which = PhotoSet(count, split, seed, pack, photos)
    benchmark, protocol = photo_benchmark(which, dump or out)
    if dump is not None:
        where = "".join(f" --{name} {value}" for name, value in _asked(which).items())
        dump_samples(benchmark, dump, f"insightedit eval photos --results FOLDER{where}")
        return
    from insightedit.evaluation.core import editing_methods

    quiet_libraries()
    started, about = time.perf_counter(), {}
    if results is not None:
        benchmark, editor = editing_methods.results_editor(results, benchmark, None, partial=False)
    else:
        pipeline = editing_methods.open_model(model, device)
        typer.echo(f"Model loaded in {time.perf_counter() - started:.1f} s ({pipeline.device.type})")
        call |= {"background_lock": background_lock, "batch_size": batch_size}
        editor = editing_methods.editor_of(pipeline, out, call, seeds=(seed,))
        about = {"model": str(pipeline.name_or_path), **editor.settings}
    started = time.perf_counter()
    with progress_bar(len(benchmark), "Editing" if results is None else "Scoring") as advance:
        report = evaluate_photos(editor, benchmark, protocol, out, advance)
    about |= {"date": time.strftime("%Y-%m-%d", time.gmtime()), "photographs": len(which.photographs)}
    _finish(report.with_settings({**about, "seconds": round(time.perf_counter() - started, 1)}), out)


def _asked(which: Any) -> dict[str, Any]:
    """The options that name the same requests again."""
    names = ("count", "split", "seed", "pack", "photos")
    return {name: value for name in names if (value := getattr(which, name)) is not None}


def _finish(report: PhotoReport, out: Path) -> None:
    from insightedit.evaluation.reporting import photos as reports
    from insightedit.evaluation.reporting.html_report import write_html_report

    screen = console()
    screen.print(reports.photo_rows_table(report))
    screen.print(reports.operations_table(report.model))
    screen.print(reports.kinds_line(report.model), highlight=False)
    verdicts = ", ".join(f"{verdict} {count}" for verdict, count in report.model.verdicts.items())
    screen.print(f"Verdicts: {verdicts}", highlight=False)
    for name, meaning in reports.MEANING.items():
        screen.print(f"  [dim]{name}: {meaning}[/dim]", highlight=False)
    for path in (*reports.write_photo_report(report, out), *write_html_report([out], with_sheets=False)):
        typer.echo(path)
