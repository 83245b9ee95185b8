"""The command line: `insightedit edit photo.png "replace the left dog with a fox" -o out.png`.

Heavy libraries are imported inside the commands, so that `--help` answers at once. What a user can get wrong
ends in one sentence on the error stream and exit code 2.
"""

from __future__ import annotations

import inspect
import io
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from insightedit import __version__
from insightedit.cli.cache import cache
from insightedit.cli.models import calibrate, export, import_, info, push
from insightedit.cli.options import (
    Device,
    Force,
    ImageScale,
    Model,
    NoiseSeed,
    Overwrite,
    PromptScale,
    Steps,
    Strict,
    TextScale,
    call_settings,
)
from insightedit.console import Command, command_group, in_one_sentence, one_sentence_errors, quiet_libraries, say

if TYPE_CHECKING:
    from insightedit.cli.edit_jobs import EditJob, EditPlan
    from insightedit.pipelines.edit import InsightEditPipeline
    from insightedit.pipelines.interleaved import InterleavedEditPipeline

    AnyPipeline: TypeAlias = InsightEditPipeline | InterleavedEditPipeline

WARNED = 3  # exit code of --strict
EDITED, LEFT, NOT_WRITTEN = "edited", "left as it was", "not written"

app = command_group("Edit pictures by instruction, measure how well it works, and hand models on.")


def main() -> None:
    """Run the command line; the entry point of `insightedit` and of `python -m insightedit`."""
    for stream in (sys.stdout, sys.stderr):  # names of files may be no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    own = "--model" not in [word.partition("=")[0] for word in sys.argv]
    if sys.argv[1:2] == ["edit"] and own and "torch" not in sys.modules:
        # The embedded model is not quantised, and what peft and diffusers import for that takes a second; where torch
        # is there, this is no process of our own
        sys.modules["bitsandbytes"] = None  # type: ignore[assignment] - Python's mark for "not there"
    app(prog_name="insightedit")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"insightedit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Edit pictures by instruction, measure how well it works, and hand models on."""


@app.command(cls=Command)
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
    seed: NoiseSeed = None,
    steps: Steps = None,
    guidance_scale: TextScale = None,
    image_guidance_scale: ImageScale = None,
    image_prompt_scale: PromptScale = None,
    background_lock: Annotated[
        bool, typer.Option("--background-lock/--no-background-lock", help="Keep pixels outside the edit exactly.")
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
    describe: Annotated[bool, typer.Option("--describe", help="Let the language model say what it will do.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write an HTML report of the edit.")] = None,
    before_after: Annotated[Path | None, typer.Option(help="Also write source and result side by side.")] = None,
    overwrite: Overwrite = None,
    strict: Strict = False,
    force: Force = False,
    device: Device = None,
) -> None:
    """Edit a picture, or every picture of a folder, by instruction; or draw a new one.

    What the model says that it cannot do ("there is no ladybug"), or is not sure that it understood, is not done: the
    picture comes back as it was (the file's own bytes, if OUTPUT has its format), and a warning says why. --force
    draws it all the same, --strict makes it an error. What a model can do: insightedit info --model FOLDER
    """
    if force and strict:
        raise ValueError(
            "--force draws where there are warnings, and --strict writes nothing there: give one of them."
        )
    from insightedit.cli.edit_jobs import picture_and_words, plan_edits

    place, words = picture_and_words(image, instruction)
    read = {"--mask": mask, "--reference": reference}
    plan = plan_edits(place, output, report, before_after, read=read, overwrite=overwrite)
    _tell_plan(plan)
    if not plan.jobs:
        return
    given = call_settings(steps, guidance_scale, image_guidance_scale, image_prompt_scale)
    given |= {"mask": mask, "describe": describe or None, "seed": seed, "background_lock": background_lock}
    given |= {"force": force or None}
    settings = {name: value for name, value in given.items() if value is not None}
    check_early(words, plan, settings, reference or [])
    started = time.perf_counter()
    quiet_libraries()
    from insightedit.pipelines.loading import load_pipeline

    pipeline = load_pipeline(model, device)
    typer.echo(f"Model loaded in {time.perf_counter() - started:.1f} s ({pipeline.device.type})")
    settings |= pipeline.reference_options(reference or [])
    check_model(pipeline, plan.jobs, settings)
    plan.jobs[0].output.parent.mkdir(parents=True, exist_ok=True)
    _run_jobs(plan, lambda job: _run_job(pipeline, job, words, settings, strict))


def _tell_plan(plan: EditPlan) -> None:
    """What of a folder is no picture, and which outputs stay."""
    if plan.others:
        some = ", ".join(path.name for path in plan.others[:3]) + ", ..." * (len(plan.others) > 3)
        typer.echo(f"Passed over, since no pictures by their endings: {len(plan.others)} ({some})", err=True)
    if plan.kept:
        shown = f"{len(plan.kept)} were there already and are kept, e.g. {plan.kept[0]} (--overwrite replaces them)"
        typer.echo(shown if plan.is_folder else f"{plan.kept[0]} was there already and is kept")


def check_model(pipeline: AnyPipeline, jobs: list[EditJob], settings: dict[str, Any]) -> None:
    """Refuse an option of another kind of model, or a blank canvas for one that only edits."""
    known = inspect.signature(pipeline.__call__).parameters
    unused = [f"--{name.replace('_', '-')}" for name in settings if name not in known]
    if unused:
        raise ValueError(f"This model has no use for {', '.join(unused)}: leave it out.")
    if jobs[0].image is None and known["image"].default is inspect.Parameter.empty:
        raise ValueError("This model edits pictures and draws none of its own: give a picture and an instruction.")


def check_early(instruction: str, plan: EditPlan, settings: dict[str, Any], references: list[Path]) -> None:
    """Find what the user got wrong before the model is loaded."""
    from insightedit.images.provenance import check_output
    from insightedit.images.reading import read_picture
    from insightedit.pipelines.inputs import read_masks
    from insightedit.pipelines.warnings import clean_instruction

    clean_instruction(instruction)
    first = plan.jobs[0]
    for path in references:
        read_picture(path)
    pictures = [] if first.image is None or plan.is_folder else [read_picture(first.image)]
    check_output(first.output, *pictures)
    if first.before_after:
        check_output(first.before_after)
    mask = settings.get("mask")
    if mask is not None and not pictures:
        read_picture(mask)
    read_masks(mask, pictures, settings["background_lock"])


def _run_jobs(plan: EditPlan, run: Callable[[EditJob], str]) -> None:
    failed, done = 0, Counter[str]()
    for job in plan.jobs:
        try:
            done[run(job)] += 1
        except Exception as error:  # one picture of many does not end the others
            if not plan.is_folder:
                raise
            say(in_one_sentence(error))
            failed += 1
    if plan.is_folder and done[LEFT]:
        told = f"{done[LEFT]} of {len(plan.jobs)} pictures were left as they were, for the warnings above."
        typer.secho(told, err=True, fg=typer.colors.YELLOW)
    if failed:
        raise ValueError(f"{failed} of {len(plan.jobs)} pictures could not be edited; the reasons stand above.")
    if warned := done[NOT_WRITTEN]:
        typer.secho(f"--strict: {warned} of {len(plan.jobs)} not written, for the warnings above.", err=True)
        raise typer.Exit(WARNED)


def _run_job(pipeline: AnyPipeline, job: EditJob, instruction: str, settings: dict[str, Any], strict: bool) -> str:
    """Edit and write, unless `strict` and there is a warning; gives `EDITED`, `LEFT` or `NOT_WRITTEN`."""
    from insightedit.images.provenance import LOSSY, Provenance, save_picture, save_unchanged
    from insightedit.images.reading import read_picture, to_rgb
    from insightedit.pipelines.report import build_report, changed_ratio, side_by_side, write_report

    source = None if job.image is None else read_picture(job.image)
    started = time.perf_counter()
    result: Any = pipeline(image=source, instruction=instruction, **settings)
    seconds = time.perf_counter() - started
    locked = bool(settings["background_lock"]) and not result.masks[0].all()
    warnings = [warning.message for warning in result.warnings[0]]
    if strict and warnings:
        _tell(warnings, job)
        return NOT_WRITTEN
    is_left, is_copy = not (result.understood[0] or settings.get("force")), False
    understood = result.expressive_instructions[0], result.confidence[0], not is_left
    note = Provenance(f"insightedit {__version__}", instruction, result.seeds[0], locked, tuple(warnings), *understood)
    changed = ", drawn on a blank canvas"
    if is_left and job.image is not None:
        is_copy = save_unchanged(job.image, result.images[0], job.output, note)
        changed = f", left as it was{', a copy of the file' if is_copy else ''}"
    else:
        save_picture(result.images[0], job.output, note)
    if source is not None and not is_left:
        ratio, seen = changed_ratio(result.masks[0], source), "picture" if source.visible is None else "visible part"
        changed = f", {100 * ratio:.0f} % of the {seen} edited" if ratio else ", the model changed nothing"
    typer.echo(f"{job.output}  {seconds:.1f} s, seed {result.seeds[0]}{changed}")
    told, is_refused = result.expressive_instructions[0], any(one.kind == "refused" for one in result.warnings[0])
    if told and not is_refused:  # then the warning says it
        sure = "" if result.confidence[0] is None else f" (confidence {100 * result.confidence[0]:.0f} %)"
        typer.echo(f"Understood as: {told}{sure}")
    _tell(warnings, job)
    if locked and not is_copy and job.output.suffix.lower() in LOSSY - {".webp"}:
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
    return LEFT if is_left else EDITED


def _tell(warnings: list[str], job: EditJob) -> None:
    for message in warnings:
        typer.secho(f"Warning: {job.output}: {message}", err=True, fg=typer.colors.YELLOW)


def _group(name: str, module: str, text: str) -> None:
    """A group of commands that is imported when one of them is called."""

    def forward(context: typer.Context) -> None:
        with one_sentence_errors():
            import_module(module).app(args=context.args or ["--help"], prog_name=f"insightedit {name}")

    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name, help=text, add_help_option=False, context_settings=settings)(forward)


_group("eval", "insightedit.cli.eval", "Measure a model: `insightedit eval scenes --model FOLDER`.")
_group("doctor", "data_recipes.doctor.cli", "Find faults in a data set: `insightedit doctor data PATH`.")
_group("data", "insightedit.cli.data", "See what a stage would see: `insightedit data preview RECIPE --stage 3`.")
app.command(cls=Command)(cache)
app.command(cls=Command)(export)
app.command(cls=Command)(calibrate)
app.command(cls=Command)(push)
app.command("import", cls=Command)(import_)
app.command(cls=Command)(info)
