"""`python -m insightedit.miniatures`: train the miniature base models, each by one command, resumable.

python -m insightedit.miniatures all --size mini
python -m insightedit.miniatures vae --size mini --root runs/miniatures/mini --minutes 8
python -m insightedit.miniatures sharpen --editor runs/insightedit/stage3/model
"""

from __future__ import annotations

import importlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from insightedit.console import MAX_BATCH, MAX_TRAINING_STEPS, Command, Group, finite

MAX_MINUTES = 1_000_000  # two years
PARTS = {
    "vision": "clip:VisionPart",
    "clip": "clip:ClipPart",
    "vae": "sd:VaePart",
    "llava": "llava:LlavaPart",
    "sd": "sd:SdPart",
    "ip2p": "editing:Ip2pPart",
    "pixart": "editing:PixartPart",
    "sharpen": "sharpen:SharpenPart",
}
ORDER = ("vision", "clip", "vae", "llava", "sd", "ip2p")
DRAWS_LATENTS = ("sd", "ip2p", "pixart", "sharpen")  # what they learn is worth nothing on another autoencoder

app = typer.Typer(
    rich_markup_mode=None,
    cls=Group,
    add_completion=False,
    no_args_is_help=True,
    help="Train the miniature CLIP, LLaVA, autoencoder and text-to-image UNet on rendered scenes. "
    "Every command resumes where it was stopped; logs and checkpoints lie in ROOT/.train/PART.",
)

Size = Annotated[str, typer.Option(help="tiny (for tests), mini (the embedded default's size) or mini128.")]
Root = Annotated[Path | None, typer.Option(help="Folder of the models. Default: runs/miniatures/SIZE.")]
Fresh = Annotated[bool, typer.Option(help="Forget an earlier run's checkpoint.")]
Steps = Annotated[int | None, typer.Option(min=1, max=MAX_TRAINING_STEPS, help="Optimiser steps of the whole run.")]
Workers = Annotated[int, typer.Option(min=0, max=1024, help="Processes that render; 0 renders between the steps.")]
Pack = Annotated[
    Path | None, typer.Option(help="Folder of photographs that scenes stand on, beside the embedded ones.")
]
Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads of the training process.")]
MINUTES = typer.Option(
    min=0,
    max=MAX_MINUTES,
    callback=finite,
    help="Wall clock of the whole run; the schedule ends with the nearer budget. 0: steps alone.",
)
ALL_MINUTES = typer.Option(
    min=0.1, max=MAX_MINUTES, callback=finite, help="Wall clock for everything, shared out as by default (about 25)."
)
STOP = typer.Option(min=1, max=MAX_TRAINING_STEPS, help="Stop after this many steps and save, to be resumed later.")
COMPILE = typer.Option(help="torch.compile; pays off in runs of more than about 10 minutes.")


@app.command(cls=Command)
def tokenizer(size: Size = "mini", root: Root = None, fresh: Fresh = False) -> None:
    """Train both tokenizers and write all models with random weights around them."""
    _ensure_built(size, _root(size, root), fresh=fresh)


Minutes = Annotated[float | None, MINUTES]
BatchSize = Annotated[int | None, typer.Option(min=2, max=MAX_BATCH, help="Pictures a step.")]
PeakRate = Annotated[float | None, typer.Option(min=1e-9, max=1, callback=finite, help="Peak learning rate.")]


def _train_command(name: str, text: str) -> None:
    def command(
        size: Size = "mini",
        root: Root = None,
        steps: Steps = None,
        minutes: Minutes = None,
        batch_size: BatchSize = None,
        lr: PeakRate = None,
        workers: Workers = 1,
        pack: Pack = None,
        stop_after: Annotated[int | None, STOP] = None,
        fresh: Fresh = False,
        compile: Annotated[bool, COMPILE] = False,
        threads: Threads = None,
    ) -> None:
        given = {"steps": steps, "minutes": minutes, "lr": lr, "workers": workers, "stop_after": stop_after}
        _train(name, size, _root(size, root), batch_size, fresh, threads, pack, {**given, "compile": compile})

    app.command(name, help=text)(command)


_train_command("vision", "Teach CLIP's vision tower what is where (before clip).")
_train_command("clip", "Train CLIP on pictures and captions; also exports its text tower to sd/.")
_train_command("vae", "Train the autoencoder and measure its latents' scale.")
_train_command("llava", "Train LLaVA on captions, questions, instructions and references (after clip).")
_train_command("sd", "Train the text-to-image UNet (after clip and vae).")
_train_command("ip2p", "Train the editing UNet that the stages start from, and sd's text tower along (after sd).")
_train_command("pixart", "Train the transformer that recipe mige's miniature starts from, and its T5 (after vae).")


@app.command(cls=Command)
def sharpen(
    size: Size = "mini",
    root: Root = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch_size: BatchSize = None,
    workers: Workers = 1,
    pack: Pack = None,
    fresh: Fresh = False,
    threads: Threads = None,
    editor: Annotated[
        Path | None,
        typer.Option(help="Model folder of an editor trained on this autoencoder: sharpen what it draws, too."),
    ] = None,
    scenes: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Scenes that it draws, once; kept until --fresh.")
    ] = 2000,
) -> None:
    """Sharpen the autoencoder's decoder (after vae; with --editor, after stage 3; then export again)."""

    def prepare(part: Any, folder: Path) -> None:
        if editor is not None:
            with Console().status(f"{editor} draws {scenes} scenes"):
                part.draw(editor, folder, scenes)

    given = {"steps": steps, "minutes": minutes, "workers": workers, "prepare": prepare}
    _train("sharpen", size, _root(size, root), batch_size, fresh, threads, pack, given)


@app.command(name="all")
def all_parts(
    size: Size = "mini",
    root: Root = None,
    minutes: Annotated[float | None, ALL_MINUTES] = None,
    steps: Steps = None,
    workers: Workers = 1,
    pack: Pack = None,
    fresh: Fresh = False,
    threads: Threads = None,
) -> None:
    """Everything that the embedded default needs, in order: tokenizers, vision, clip, vae, llava, sd, ip2p."""
    folder = _root(size, root)
    default = {name: _part_class(name).options.minutes for name in ORDER}
    scale = 1.0 if minutes is None else minutes / sum(default.values())
    for name in ORDER:
        given = {"steps": steps, "minutes": default[name] * scale, "workers": workers}
        _train(name, size, folder, None, fresh, threads, pack, given)


def _train(
    name: str,
    size: str,
    root: Path,
    batch_size: int | None,
    fresh: bool,
    threads: int | None,
    pack: Path | None,
    given: dict[str, Any],
) -> None:
    import torch
    from diffusers import AutoModel

    from insightedit.miniatures.builders import UNTRAINED_SCALE
    from insightedit.miniatures.sizes import get_size
    from insightedit.training.miniatures.loop import scene_samplers, train_part

    if threads:
        torch.set_num_threads(threads)
    _ensure_built(size, root)
    if name in DRAWS_LATENTS:
        # before hours go into the latents of random weights; at the size for tests nobody looks at pictures
        autoencoder = root / "sd" / "vae"
        scale = AutoModel.load_config(str(autoencoder))["scaling_factor"]
        if size != "tiny" and scale == UNTRAINED_SCALE:
            raise typer.BadParameter(
                f"the autoencoder in {autoencoder} has random weights, and what {name} learns on its latents could not "
                f"be drawn later: run `python -m insightedit.miniatures vae --size {size} --root {root}` first, or "
                "copy a trained one there.",
                param_hint="--root",
            )
    folder = root / ".train" / name
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(0)  # before the part is built: some add layers of their own
    kind = _part_class(name)
    part = kind(root, *scene_samplers(get_size(size).image_size, pack, kind.declines), batch_size)
    part.model.to("cuda" if torch.cuda.is_available() else "cpu")
    if prepare := given.pop("prepare", None):
        prepare(part, folder)
    options = replace(part.options, **{key: value for key, value in given.items() if value is not None})
    options = replace(options, minutes=options.minutes or None)  # 0: steps alone
    done, metrics = train_part(part, folder, options)
    state = "trained" if done.finished else "stopped, run again to go on"
    speed = 1000 * done.seconds / max(1, done.steps)
    numbers = "  ".join(f"{k} {v}" for k, v in metrics.items())
    Console().print(
        f"{name}: {state}, {done.steps} steps, {done.seconds / 60:.1f} min, {speed:.0f} ms/step  {numbers}"
    )
    if done.exit_code and options.stop_after is None:  # a signal: what comes next does not start
        raise typer.Exit(done.exit_code)


def _part_class(name: str) -> Any:
    module, _, kind = PARTS[name].partition(":")
    return getattr(importlib.import_module(f"insightedit.training.miniatures.{module}"), kind)


def _root(size: str, root: Path | None) -> Path:
    """Folder of the models, there and writable."""
    from insightedit.miniatures.folders import default_root
    from insightedit.miniatures.sizes import SIZES

    if size not in SIZES:
        raise typer.BadParameter(f"{size} is no size: choose one of {', '.join(SIZES)}.", param_hint="--size")
    folder = root or default_root(size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(
            f"{folder} cannot be made ({error.strerror or error}): name a folder in a place that is yours.",
            param_hint="--root",
        ) from error
    return folder


def _ensure_built(size: str, root: Path, *, fresh: bool = False) -> None:
    """Random-weight folders for the parts that are not there; trained ones stay as they are."""
    from insightedit.miniatures.builders import PARTS, build

    missing = [part for part in PARTS if fresh or not (root / part).is_dir()]
    if not missing:
        return
    with Console().status(f"building {size} models in {root}"):
        build(size, root, parts=missing)
