"""The commands that turn a run into a model folder and take it to the hub; `insightedit.cli` lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from insightedit.command_line import one_sentence_errors, quiet_libraries


def export(
    run: Annotated[
        Path, typer.Argument(help="Run folder of a finished stage, e.g. runs/insightedit/stage3.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    ema: Annotated[
        bool, typer.Option("--ema/--no-ema", help="Averaged weights, where the run kept them.")
    ] = True,
    merge_lora: Annotated[
        bool,
        typer.Option(
            "--merge-lora/--no-merge-lora",
            help="The language model whole, or only its adapter (a peft folder) and the base model's name.",
        ),
    ] = True,
    dtype: Annotated[str, typer.Option(help="Weights on disk: fp32, fp16 or bf16.")] = "fp16",
    report: Annotated[
        Path | None, typer.Option(help="report.json of `insightedit eval scenes`, for the model card.")
    ] = None,
    scenes: Annotated[
        int, typer.Option(min=0, help="Validation scenes to edit for the model card; 0 for none.")
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
    with one_sentence_errors():
        if push_to:
            from insightedit.push import check_target

            check_target(push_to, private=private)  # before the work, not after it
        elif private or replace:
            raise ValueError("--private and --replace are for uploading: give --push-to owner/name, too.")
        quiet_libraries()
        from insightedit.exporting import own_samples
        from insightedit.hub import export_run

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
            _push(folder, push_to, private, replace)


def push(
    folder: Annotated[Path, typer.Argument(help="Model folder, as `insightedit export` writes it.")],
    repository: Annotated[str, typer.Argument(help="Hub repository, owner/name; made if missing.")],
    private: Annotated[bool, typer.Option("--private", help="Make it private.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put this model in the place of another; its history is kept.")
    ] = False,
) -> None:
    """Upload a model folder to the hub, or go on with an interrupted upload."""
    with one_sentence_errors():
        _push(folder, repository, private, replace)


def _push(folder: Path, repository: str, private: bool, replace: bool) -> None:
    from insightedit.push import push_folder

    done = push_folder(folder, repository, private=private, replace=replace)
    there = f", {done.already_there} of them were there already" if done.already_there else ""
    typer.echo(f"{done.url}  {done.files} files{there}")
