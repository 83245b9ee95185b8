"""Samples per CPU-second of the default's stage 3, with and without a cache: real runs of two lengths, subtracted.

python benchmarks/cached_stage.py
python benchmarks/cached_stage.py --trainable 'unet.*'
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[1]
BATCH = 16  # of the overlay `mini`
SHORT = 4  # steps of the run that tells what starting and saving take


def seconds(*words: str) -> float:
    """User and system time of a command on one thread."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", *words], check=True, env=environment, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(
    steps: Annotated[int, typer.Option(help="Of the longer run.")] = 28,
    trainable: Annotated[
        list[str] | None, typer.Option(help="Patterns that train, repeated. Default: bridge.* and unet.*")
    ] = None,
    own: Annotated[bool, typer.Option("--own", help="Also the overlay's own stage 3, which trains the LoRA.")] = False,
) -> None:
    """Print both rates and their ratio."""
    patterns = ",".join(trainable or ["bridge.*", "unet.*"])
    shared = ["--overlay", "mini", "--init-from", "default", "train.num_samples=0", "train.save_every=100000"]
    frozen = [*shared, f"stage.trainable=[{patterns}]"]
    with tempfile.TemporaryDirectory() as folder:
        kept = f"{folder}/kept"
        spent = seconds("insightedit", "cache", *frozen, "--count", str(steps * BATCH), "--out", kept)
        typer.echo(f"making the cache: {1000 * spent / (steps * BATCH):.1f} CPU-ms a sample, starting included")
        arms = {f"[{patterns}], without": frozen, f"[{patterns}], cached": [*frozen, f"data.cache={kept}"]}
        if own:
            arms |= {"the overlay's own": shared}
        rates = {}
        for number, (name, words) in enumerate(arms.items()):
            times = [
                seconds(
                    "insightedit.stage3", *words, f"train.max_steps={count}", f"output_dir={folder}/{number}-{count}"
                )
                for count in (SHORT, steps)
            ]
            rates[name] = (steps - SHORT) * BATCH / (times[1] - times[0])
            typer.echo(f"{name}: {rates[name]:.2f} samples per CPU-second ({times[0]:.1f} and {times[1]:.1f} s)")
        cached = rates[f"[{patterns}], cached"]
        for name, rate in rates.items():
            typer.echo(f"cached / {name}: {cached / rate:.2f}")


if __name__ == "__main__":
    typer.run(main)
