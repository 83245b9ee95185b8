"""The commands that make model folders, take them to the hub and describe them; `insightedit.cli.main` lists them."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from insightedit.cli.options import BatchSize, Device, SceneSeed
from insightedit.console import MAX_SCENES, MAX_TRAINING_STEPS, progress_bar, quiet_libraries
from insightedit.files import write_text
from insightedit.hub.network import MODEL_INDEX

CALIBRATED = {
    "decided_right": "requests decided right",
    "decided_right_ungated": "the same if all were drawn",
    "left_alone": "of those that cannot be done, left alone",
    "held_back": "of the edits that would have been right, held back",
    "refused_wrongly": "of the requests that can be done, refused though drawing may have been right",
}


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


def calibrate(
    model: Annotated[Path, typer.Argument(help="Model folder, as `insightedit export` writes it; changed in place.")],
    count: Annotated[int, typer.Option(min=20, max=MAX_SCENES, help="Requests.")] = 400,
    pack: Annotated[
        Path | None, typer.Option(help="Folder of photographs that scenes stand on, beside the embedded ones.")
    ] = None,
    seed: SceneSeed = 0,
    batch_size: BatchSize = 16,
    device: Device = None,
) -> None:
    """Measure how sure a model has to be, and write that into its folder: below it nothing is drawn.

    The model edits scenes of the split val, whose right answer is known; a quarter of the requests cannot be done. A
    logistic model of a few signs (how sure it was of its words, whether it drew where they say, whether it knows the
    request's words) becomes `confidence_calibration` of model_index.json. The threshold is the one that decides right
    most often, as long as it holds back at most 5 % of the edits that would have been right.
    """
    if not (model / MODEL_INDEX).is_file():
        raise ValueError(f"{model} holds no {MODEL_INDEX}: name a model folder on this machine.")
    quiet_libraries()
    from insightedit.evaluation.core.editing_methods import open_model
    from insightedit.evaluation.scenes.calibration import calibrate_model
    from insightedit.modeling.model_files import read_json

    pipeline = open_model(str(model), device)
    with progress_bar(count, "Asking") as advance:
        options: dict[str, Any] = {"count": count, "seed": seed, "pack": pack, "batch_size": batch_size}
        found = calibrate_model(pipeline, **options, progress=advance)
    index = read_json(model / MODEL_INDEX) | {"confidence_calibration": found}
    write_text(model / MODEL_INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")
    for name, value in found["weights"].items():
        typer.echo(f"weight of {name.replace('_', ' ')}: {value:g}")
    for name in ("expected_calibration_error", "brier", "threshold"):
        typer.echo(f"{name.replace('_', ' ')}: {found[name]:.3f}")
    for name in ("decided_right", "decided_right_ungated", "left_alone", "held_back", "refused_wrongly"):
        typer.echo(f"{CALIBRATED[name]}: {100 * found[name]:.1f} %")
    typer.echo(f"{model / MODEL_INDEX}  calibrated on {found['data']}")


def info(
    model: Annotated[str | None, typer.Option(help="Model folder. Default: the one that comes along.")] = None,
    words: Annotated[bool, typer.Option("--words", help="Only list the words that the model was taught.")] = False,
) -> None:
    """Print versions, devices and what the model says about itself: what it can do, and what it refuses."""
    import torch

    from insightedit.modeling.model_files import read_json
    from insightedit.pipelines.base import software_versions
    from insightedit.pipelines.loading import describe_model, find_model

    if words:
        index = read_json(Path(find_model(model)) / MODEL_INDEX)
        typer.echo(index.get("known_words") or "nobody knows which: its language model was not taught by this package")
        return
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
