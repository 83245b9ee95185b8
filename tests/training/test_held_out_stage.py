"""A stage on a user's own pairs, some of which are held out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from insightedit import stage3
from insightedit.training.checkpoint import StageError


def test_its_log_has_the_validation_loss_and_changed_pairs_are_refused(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("source", "target"):
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    row = {"source": "source.png", "target": "target.png", "instruction": "remove the dog"}
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({**row, "id": number}) + "\n" for number in range(20)))
    words = [
        *("--recipe", "mgie", "--overlay", "tiny", f"output_dir={tmp_path}/run"),
        *("train.max_steps=2", "train.log_every=1", "train.num_samples=0", "train.num_validation=4"),
        f"data.sources=[{{kind: jsonl, path: {pairs}, val_fraction: 0.3}}]",
    ]
    assert stage3.main([*words, "train.max_minutes=0"]).exit_code == 75
    with pairs.open("a") as file:
        file.write(json.dumps({**row, "id": 20}) + "\n")
    with pytest.raises(StageError, match="the data changed since .*run began: 0-jsonl: records were"):
        stage3.main(words)
    assert stage3.main([*words, "--accept-changed-data"]).finished
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], "val/loss" in line) for line in log] == [(1, False), (2, False), (2, True)]
    assert {"val/loss", "val/lm", "val/noise"} <= log[-1].keys()
