"""The commands that make model folders, take them to the hub and describe them; `insightedit.cli.main` lists them."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from insightedit.console import MAX_TRAINING_STEPS, quiet_libraries


def export(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished stage, e.g. runs/insightedit/stage3.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    ema: Annotated[bool, typer.Option("--ema/--no-ema", help="Averaged weights, where the run kept them.")] = True,
    merge_lora: Annotated[
        bool,
        typer.Option(
            "--merge-lora/--no-merge-lora",
            help="The language model whole, or only its adapter (a peft folder) and the base model's name.",
        ),
    ] = True,
    dtype: Annotated[str, typer.Option(help="Weights on disk: fp32, fp16 or bf16.")] = "fp16",
    report: Annotated[
        list[Path] | None,
        typer.Option(help="report.json of `insightedit eval scenes` or `eval photos`, for the model card; repeat it."),
    ] = None,
    scenes: Annotated[
        int, typer.Option(min=0, max=64, help="Validation scenes to edit for the model card; 0 for none.")
    ] = 4,
    sample: Annotated[
        list[str] | None,
        typer.Option(help="PICTURE=INSTRUCTION to edit for the model card, in place of scenes; repeat it."),
    ] = None,
    push_to: Annotated[str | None, typer.Option(help="Hub repository to upload to, owner/name.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Upload over another model; its history is kept.")
    ] = False,
) -> None:
    """Write the model of a training run as one folder that anybody can load, and upload it."""
    if push_to:
        from insightedit.export.push import check_target

        check_target(push_to, private=private)  # before the work, not after it
    elif private or replace:
        raise ValueError("--private and --replace are for uploading: give --push-to owner/name, too.")
    quiet_libraries()
    from insightedit.export.checks import own_samples
    from insightedit.export.folder import export_run

    folder = export_run(
        run,
        output,
        ema=ema,
        report=report,
        merge_lora=merge_lora,
        dtype=dtype,
        samples=own_samples(sample) if sample else scenes,
        name=push_to,
    )
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    typer.echo(f"{folder}  {size / 1e6:.1f} MB")
    if push_to:
        push(folder, push_to, private, replace)


def push(
    folder: Annotated[Path, typer.Argument(help="Model folder, as `insightedit export` writes it.")],
    repository: Annotated[str, typer.Argument(help="Hub repository, owner/name; made if missing.")],
    private: Annotated[bool, typer.Option("--private", help="Make it private.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put this model in the place of another; its history is kept.")
    ] = False,
) -> None:
    """Upload a model folder to the hub, or go on with an interrupted upload."""
    from insightedit.export.push import push_folder

    done = push_folder(folder, repository, private=private, replace=replace)
    there = f", {done.already_there} of them were there already" if done.already_there else ""
    typer.echo(f"{done.url}  {done.files} files{there}")
    if done.left_out:
        typer.echo(f"{done.left_out} other files in {folder} stay here: a push takes what an export wrote.")


def import_(
    system: Annotated[
        str, typer.Argument(help="smartedit, mgie, mige, instructpix2pix (and MagicBrush) or ip-adapter.")
    ],
    source: Annotated[Path, typer.Argument(help="File or folder, as its authors published it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder to write.")],
    base: Annotated[
        list[str] | None,
        typer.Option(help="PART=MODEL: what the checkpoint leaves out, a folder or hub id; repeat it."),
    ] = None,
    step: Annotated[
        int | None, typer.Option(min=0, max=MAX_TRAINING_STEPS, help="Training step, where the folder holds several.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Weights on disk: stored (as published), fp32, fp16 or bf16.")] = "stored",
) -> None:
    """Turn a published checkpoint of another system into a model folder of this package.

    Every tensor is placed or named as dropped; what is missing comes from base models; shapes and token ids are
    checked; a report is kept as import_report.json. If anything does not fit, nothing is written.
    Code in pickled files is never run.

    For example:

      insightedit import smartedit MLLMSD-7b --step 15000 -o DIR

      insightedit import smartedit 13b --base llava=llava-hf/llava-1.5-13b-hf -o DIR

      insightedit import mgie mgie_7b --base weights=LLaVA-Lightning-7B-v1-1 -o DIR

      insightedit import mige mige.pth -o DIR

      insightedit import instructpix2pix instruct-pix2pix -o ip2p

      insightedit import ip-adapter ip-adapter_sd15.bin --base ip2p -o DIR

    Parts for --base, what is mapped, and licences: docs/importing.md.
    """
    quiet_libraries()
    from rich.console import Console

    from insightedit.export.importers import import_checkpoint

    report = import_checkpoint(system, source, output, bases=base or (), step=step, dtype=dtype)
    for table in report.tables():
        Console().print(table)
    typer.echo(f"{output}  {system}, weights {dtype}")


def info(
    model: Annotated[str | None, typer.Option(help="Model folder. Default: the one that comes along.")] = None,
) -> None:
    """Print versions, devices and what the model says about itself."""
    import torch

    from insightedit.pipelines.base import software_versions
    from insightedit.pipelines.loading import describe_model

    devices = ["cpu"] + [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    _print_facts({**software_versions(), "devices": "; ".join(devices)})
    try:
        facts = describe_model(model)
    except FileNotFoundError as error:
        if model is not None:
            raise
        _print_facts({"model": str(error)})
        return
    typer.echo("model")
    _print_facts(facts, "  ")


def _print_facts(facts: dict[str, str], indent: str = "") -> None:
    """One line for each thing that is said, wrapped where the terminal ends."""
    width = max(shutil.get_terminal_size((100, 24)).columns, 40)
    options = {"width": width, "break_long_words": False, "break_on_hyphens": False}
    for name, value in facts.items():
        first, after = f"{indent}{name:<{14 - len(indent)}}", " " * 14
        for line in value.split("; "):
            typer.echo(textwrap.fill(line, initial_indent=first, subsequent_indent=after + "  ", **options))
            first = after
