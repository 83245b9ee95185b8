"""The losses of every recipe's stages on the tiny models, step by step, as `golden_losses.json` keeps them.

    python -m tests.training.golden            writes the file anew; `git diff` shows which losses changed
    python -m tests.training.golden mgie       one recipe's entries only

A change of numbers is meant or it is a defect: a commit that changes the file says why.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from insightedit import stage1, stage2, stage3
from insightedit.config import list_recipes, load_config
from insightedit.training.run import RunSummary

GOLDEN = Path(__file__).with_name("golden_losses.json")
STEPS = 5
STAGES = {1: stage1.main, 2: stage2.main, 3: stage3.main}
ARGUMENTS = [
    "--overlay",
    "tiny",
    f"train.max_steps={STEPS}",
    "train.save_every=100",
    "train.log_every=1",
    "train.num_samples=0",
]
Losses = dict[str, list[float]]


def cases() -> list[tuple[str, int]]:
    """(recipe, stage) of every recipe that comes along."""
    return [(recipe, stage) for recipe in list_recipes() for stage in load_config(recipe).stages]


def train(recipe: str, stage: int, runs: Path, *words: str) -> RunSummary:
    """Run one stage; its run folder is `runs/stageN` unless `words` say otherwise."""
    return STAGES[stage](["--recipe", recipe, *ARGUMENTS, f"output_dir={runs}/stage{stage}", *words])


def read_losses(run_dir: Path) -> Losses:
    """Name -> value at each step; only what is optimised, rounded to six digits."""
    lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    names = sorted(name for name in lines[0] if name == "loss" or name.startswith("loss/"))
    return {name: [float(f"{line[name]:.6g}") for line in lines] for name in names}


def main(recipes: Sequence[str]) -> None:
    """Train, and write the file."""
    import torch

    torch.set_num_threads(1)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() and recipes else {}
    with tempfile.TemporaryDirectory() as folder:
        for recipe, stage in cases():
            if recipes and recipe not in recipes:
                continue
            run = train(recipe, stage, Path(folder) / recipe)
            golden.setdefault(recipe, {})[f"stage{stage}"] = read_losses(run.run_dir)
    GOLDEN.write_text(json.dumps(dict(sorted(golden.items())), indent=1) + "\n")


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main(sys.argv[1:])
