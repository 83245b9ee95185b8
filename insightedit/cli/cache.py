"""`insightedit cache`: keep what the frozen parts of a stage give, once, for every run of that stage."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Annotated

import typer

from insightedit.cli.options import Device
from insightedit.console import MAX_RECORDS, quiet_libraries

LAST_STAGE = 3


def cache(
    out: Annotated[Path, typer.Option(help="Folder to write; several processes may fill it, each its range.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key=value", help="As for the stage, e.g. train.batch_size=8.")
    ] = None,
    stage: Annotated[int, typer.Option(min=1, max=LAST_STAGE, help="1, 2 or 3.")] = LAST_STAGE,
    recipe: Annotated[str, typer.Option(help="configs/recipes/NAME.yaml.")] = "insightedit",
    overlay: Annotated[list[str] | None, typer.Option(help="configs/overlays/NAME.yaml; repeat it.")] = None,
    config: Annotated[list[str] | None, typer.Option(help="Your own YAML, after the overlays.")] = None,
    init_from: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Run folder of the stage before, or a model: folder, hub id, or `default`."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_RECORDS, help="Samples to keep. Default: all that the stage's steps take."),
    ] = None,
    start: Annotated[
        int, typer.Option(min=0, max=MAX_RECORDS, help="First sample; a multiple of train.batch_size.")
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where samples of this range are there.")] = False,
    device: Device = None,
) -> None:
    """Keep what frozen parts give for a stage's samples: rendered, encoded and read once, for any number of runs.

    Give it the stage's own arguments, then add data.cache=DIR to the stage's command. For example:

      insightedit cache --overlay mini --init-from default 'stage.trainable=[unet.*]' --count 4096 --out kept

      python -m insightedit.stage3 --overlay mini --init-from default 'stage.trainable=[unet.*]' data.cache=kept

    How deep it reaches follows from stage.trainable: autoencoder and CLIP always, the language model where nothing of
    it trains, the bridge likewise.
    """
    from insightedit.console import counting_bar
    from insightedit.modeling.devices import find_device
    from insightedit.training.cache import make_cache
    from insightedit.training.cache_folder import CacheFolder
    from insightedit.training.run import checked_previous_run, read_config

    quiet_libraries()
    words = Namespace(
        recipe=recipe, overlay=overlay or [], config=config or [], overrides=overrides or [], init_from=init_from
    )
    settings = read_config(stage, words)
    train = settings.train
    wanted = count or train.max_steps * train.gradient_accumulation_steps * train.batch_size
    before = checked_previous_run(settings, words)
    with counting_bar("batches kept") as progress:
        head = make_cache(
            settings,
            before,
            out,
            start=start,
            count=wanted,
            resume=resume,
            device=find_device(device),
            progress=progress,
        )
    folder = CacheFolder(out)
    samples = sum(end - first for first, end in folder.ranges) * train.batch_size
    size = sum(path.stat().st_size for path in out.glob("*.safetensors")) / samples / 1024
    typer.echo(f"{out}  {samples} samples, {size:.1f} KiB each: {', '.join(head.holds)}")
    typer.echo(f"Add data.cache={out} to the stage's command.")
