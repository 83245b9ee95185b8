"""Finished tiny runs for tests, trained once a session in a few seconds."""

from __future__ import annotations

import os
from pathlib import Path

from insightedit import stage1, stage2, stage3

TINY = ["--overlay", "tiny", "train.max_steps=2", "train.save_every=1", "train.num_samples=0"]


def train_chain(folder: Path, recipe: str, *words: str) -> Path:
    """Run the stages of a recipe in `folder`; returns `folder/runs/RECIPE`."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        for stage in (stage1, stage2, stage3):
            assert stage.main(["--recipe", recipe, *TINY, *words]).finished
    finally:
        os.chdir(before)
    return folder / "runs" / recipe
