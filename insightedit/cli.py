"""The command line: `insightedit edit photo.png "replace the left dog with a fox" -o out.png`.

Heavy libraries are imported inside the commands, so that `--help` answers at once. What a user can get wrong
ends in one sentence on the error stream and exit code 2.
"""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insightedit.command_line import one_sentence_errors, quiet_libraries
from insightedit.model_commands import export, import_, info, push
from insightedit.options import MAX_SEED, Device, Group, ImageScale, Model, PromptScale, Steps, TextScale

if TYPE_CHECKING:
    from insightedit.interleaved_pipeline import InterleavedEditPipeline
    from insightedit.pipeline import InsightEditOutput, InsightEditPipeline

PICTURE_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
WARNED = 3  # exit code of --strict
MAX_NAME = 255  # letters of a file name; more cannot even be looked up

app = typer.Typer(
    name="insightedit",
    help="Edit pictures by instruction, measure how well it works, and hand models on.",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; the entry point of `insightedit` and of `python -m insightedit`."""
    app(prog_name="insightedit")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"insightedit {package_version()}")
        raise typer.Exit


def package_version() -> str:
    """Version of the installed package, "source" where it runs uninstalled."""
    try:
        return version("insightedit")
    except PackageNotFoundError:
        return "source"


@app.callback()
def root(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and stop.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Edit pictures by instruction, measure how well it works, and hand models on."""


@dataclass(frozen=True)
class EditJob:
    """One picture to edit (None: one to draw) and the files to write."""

    image: Path | None
    output: Path
    report: Path | None = None
    before_after: Path | None = None


@app.command()
def edit(
    image: Annotated[
        str,
        typer.Argument(
            metavar="[IMAGE]",
            help="Picture to edit, or a folder of pictures. Without one, a model that can draws a new picture.",
        ),
    ],
    instruction: Annotated[
        str | None,
        typer.Argument(
            metavar="INSTRUCTION",
            help="What to change, in plain words; with <imagehere> for each reference picture, where the model "
            "reads them.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Picture to write (a folder for a folder). Default: IMAGE-edited.png or drawn.png here.",
        ),
    ] = None,
    model: Model = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SEED, help="Same seed, same bytes. Default: drawn, and printed."),
    ] = None,
    steps: Steps = None,
    guidance_scale: TextScale = None,
    image_guidance_scale: ImageScale = None,
    image_prompt_scale: PromptScale = None,
    background_lock: Annotated[
        bool,
        typer.Option("--background-lock/--no-background-lock", help="Keep pixels outside the edit exactly."),
    ] = True,
    mask: Annotated[
        Path | None, typer.Option(help="Where editing is allowed: white in a picture of the same size.")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            help="Picture of what the result should look like; or, repeated, those that stand for <imagehere>."
        ),
    ] = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Let the language model say what it will do.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Also write an HTML report of the edit.")] = None,
    before_after: Annotated[
        Path | None, typer.Option(help="Also write source and result side by side.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing where there is a warning, and exit with 3.")
    ] = False,
    device: Device = None,
) -> None:
    """Edit a picture, or every picture of a folder, by instruction; or draw a new one."""
    with one_sentence_errors():
        place, words = picture_and_words(image, instruction)
        jobs = plan_jobs(place, output, report, before_after)
        given = {
            "num_inference_steps": steps,
            "guidance_scale": guidance_scale,
            "image_guidance_scale": image_guidance_scale,
            "image_prompt_scale": image_prompt_scale,
            "mask": mask,
            "describe": describe or None,
        }
        check_early(words, jobs, mask, reference or [])
        pipeline = _load(model, device)
        settings = {name: value for name, value in given.items() if value is not None}
        settings |= {"background_lock": background_lock, **pipeline.reference_options(reference or [])}
        check_model(pipeline, jobs, settings)
        _run_jobs(pipeline, jobs, words, seed, settings, strict)


def _load(model: str | None, device: str | None) -> InsightEditPipeline | InterleavedEditPipeline:
    """The pipeline, and a line on how long it took."""
    started = time.perf_counter()
    quiet_libraries()
    from insightedit.hub import load_pipeline

    pipeline = load_pipeline(model, device)
    typer.echo(f"Model loaded in {time.perf_counter() - started:.1f} s ({pipeline.device.type})")
    return pipeline


def picture_and_words(image: str, instruction: str | None) -> tuple[Path | None, str]:
    """Tell `IMAGE INSTRUCTION` from `INSTRUCTION` alone, which draws a new picture.

    Raises:
        ValueError: if the one word given is a picture, a folder, or looks like a picture's name.
    """
    if instruction is not None:
        return Path(image), instruction
    names_picture = Path(image).suffix.lower() in PICTURE_ENDINGS
    if names_picture or (len(image) < MAX_NAME and Path(image).exists()):
        raise ValueError(
            f'The instruction for {image} is missing: say what to change, e.g. "make the car red".'
        )
    return None, image


def check_model(
    pipeline: InsightEditPipeline | InterleavedEditPipeline, jobs: list[EditJob], settings: dict[str, Any]
) -> None:
    """Refuse what the loaded model has no use for.

    Raises:
        ValueError: for an option of another kind of model, or a blank canvas for one that only edits.
    """
    known = inspect.signature(pipeline.__call__).parameters
    unused = [f"--{name.replace('_', '-')}" for name in settings if name not in known]
    if unused:
        raise ValueError(f"This model has no use for {', '.join(unused)}: leave it out.")
    if jobs[0].image is None and known["image"].default is inspect.Parameter.empty:
        raise ValueError(
            "This model edits pictures and draws none of its own: give a picture and an instruction."
        )


def plan_jobs(
    image: Path | None, output: Path | None, report: Path | None, before_after: Path | None
) -> list[EditJob]:
    """One job per picture.

    Raises:
        ValueError: if the output would replace the source, or a folder or a new picture goes with options for a
            single edit.
        FileNotFoundError: if there is no such picture or no picture in the folder.
    """
    if image is None:
        if report or before_after:
            raise ValueError("--report and --before-after compare with a picture to edit: name one.")
        output = output or Path("drawn.png")
        if not output.parent.is_dir():
            raise FileNotFoundError(f"No folder {output.parent}: make it first, or write elsewhere.")
        return [EditJob(None, output / "drawn.png" if output.is_dir() else output)]
    if not image.is_dir():
        output = output or Path(f"{image.stem}-edited.png")
        for path in filter(None, (output, report, before_after)):
            if path.exists() and image.exists() and path.samefile(image):
                raise ValueError(f"{path} is the source itself: write to another file with -o.")
            if not path.parent.is_dir():
                raise FileNotFoundError(f"No folder {path.parent}: make it first, or write elsewhere.")
        if output.is_dir():
            output = output / f"{image.stem}-edited.png"
        return [EditJob(image, output, report, before_after)]
    if report or before_after:
        raise ValueError(
            "--report and --before-after are for one picture: name a picture instead of a folder."
        )
    pictures = sorted(path for path in image.iterdir() if path.suffix.lower() in PICTURE_ENDINGS)
    if not pictures:
        raise FileNotFoundError(
            f"No pictures in {image}: files should end in {', '.join(sorted(PICTURE_ENDINGS))}."
        )
    folder = output or image.with_name(image.name + "-edited")
    if folder.exists() and (not folder.is_dir() or folder.samefile(image)):
        raise ValueError(f"{folder} cannot take the edited pictures: name another folder with -o.")
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{path.stem}.png" for path in pictures]
    doubles = {name for name in names if names.count(name) > 1}
    return [
        EditJob(path, folder / (f"{path.name}.png" if name in doubles else name))
        for path, name in zip(pictures, names, strict=True)
    ]


def check_early(instruction: str, jobs: list[EditJob], mask: Path | None, references: list[Path]) -> None:
    """Find what the user got wrong before the model is loaded.

    Raises:
        ValueError: for an empty instruction, an unreadable picture, or a file ending that cannot be written.
        FileNotFoundError: if a picture is missing.
    """
    from insightedit.imaging import read_picture
    from insightedit.provenance import check_suffix
    from insightedit.words import clean_instruction

    clean_instruction(instruction)
    for path in filter(None, (jobs[0].output, jobs[0].before_after)):
        check_suffix(path)
    for path in filter(None, (jobs[0].image if len(jobs) == 1 else None, mask, *references)):
        read_picture(path)


def _run_jobs(
    pipeline: InsightEditPipeline | InterleavedEditPipeline,
    jobs: list[EditJob],
    instruction: str,
    seed: int | None,
    settings: dict[str, Any],
    strict: bool,
) -> None:
    alone = len(jobs) == 1
    codes = [_try_job(pipeline, job, instruction, seed, settings, alone, strict) for job in jobs]
    if failed := codes.count(2):
        raise ValueError(f"{failed} of {len(jobs)} pictures could not be edited; the reasons stand above.")
    if warned := codes.count(WARNED):
        typer.secho(f"--strict: {warned} of {len(jobs)} not written, for the warnings above.", err=True)
        raise typer.Exit(WARNED)


def _try_job(
    pipeline: InsightEditPipeline | InterleavedEditPipeline,
    job: EditJob,
    instruction: str,
    seed: int | None,
    settings: dict[str, Any],
    alone: bool,
    strict: bool,
) -> int:
    """0, 2 for an error (of one picture among many), `WARNED` for one that --strict does not write."""
    try:
        return 0 if _run_job(pipeline, job, instruction, seed, settings, strict) else WARNED
    except (ValueError, TypeError, OSError) as error:
        if alone:
            raise
        typer.secho(f"insightedit: {' '.join(str(error).split())}", err=True, fg=typer.colors.RED)
        return 2


def _run_job(
    pipeline: InsightEditPipeline | InterleavedEditPipeline,
    job: EditJob,
    instruction: str,
    seed: int | None,
    settings: dict[str, Any],
    strict: bool,
) -> bool:
    """Edit and write, unless `strict` and there is a warning."""
    from insightedit.imaging import read_picture, to_rgb
    from insightedit.provenance import LOSSY, Provenance, save_picture
    from insightedit.report import build_report, side_by_side, write_report

    source = None if job.image is None else read_picture(job.image)
    started = time.perf_counter()
    result: Any = pipeline(image=source, instruction=instruction, seed=seed, **settings)
    seconds = time.perf_counter() - started
    locked = bool(settings["background_lock"]) and not result.masks[0].all()
    warnings = [warning.message for warning in result.warnings[0]]
    if strict and warnings:
        _tell(warnings, job)
        return False
    software = f"insightedit {package_version()}"
    note = Provenance(software, instruction, result.seeds[0], locked, tuple(warnings))
    save_picture(result.images[0], job.output, note)
    changed = _what_changed(result) if source is not None else ", drawn on a blank canvas"
    typer.echo(f"{job.output}  {seconds:.1f} s, seed {result.seeds[0]}{changed}")
    if result.expressive_instructions[0]:
        typer.echo(f"Understood as: {result.expressive_instructions[0]}")
    _tell(warnings, job)
    if locked and job.output.suffix.lower() in LOSSY - {".webp"}:
        typer.echo("JPEG stores all pixels approximately; write a .png to keep the background exactly.")
    if job.before_after and source is not None:
        after = to_rgb(read_picture(result.images[0]))
        save_picture(side_by_side(to_rgb(source), after), job.before_after, note)
        typer.echo(f"{job.before_after}  before and after")
    if job.report and source is not None:
        used = {"model": pipeline.name_or_path, **result.settings}
        facts = build_report(source, result, instruction=instruction, settings=used, seconds=seconds)
        write_report(job.report, facts, source, result)
        typer.echo(f"{job.report}  report")
    return True


def _tell(warnings: list[str], job: EditJob) -> None:
    for message in warnings:
        typer.secho(f"Warning: {job.output}: {message}", err=True, fg=typer.colors.YELLOW)


def _what_changed(result: InsightEditOutput) -> str:
    ratio = float(result.masks[0].mean())
    return ", the model changed nothing" if ratio == 0 else f", {100 * ratio:.0f} % of the picture edited"


def _group(name: str, module: str, text: str) -> None:
    """A group of commands that is imported when one of them is called."""

    def forward(context: typer.Context) -> None:
        with one_sentence_errors():
            import_module(module).app(args=context.args or ["--help"], prog_name=f"insightedit {name}")

    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name, help=text, add_help_option=False, context_settings=settings)(forward)


_group("eval", "insightedit.evaluation.cli", "Measure a model: `insightedit eval scenes --model FOLDER`.")
_group("doctor", "data_recipes.doctor.cli", "Find faults in a data set: `insightedit doctor data PATH`.")
_group(
    "data", "insightedit.data.cli", "See what a stage would see: `insightedit data preview RECIPE --stage 3`."
)
app.command()(export)
app.command()(push)
app.command("import")(import_)
app.command()(info)
