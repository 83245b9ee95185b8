from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from insightedit.config.schema import Config, SourceConfig
from insightedit.images.sheets import GAP, HEADER, MARGIN
from insightedit.training.processes import Processes
from insightedit.training.samples import CELL, SampleLogger, draw_samples, fixed_samples
from insightedit.training.trainer_state import swapped


def sample(value: int) -> SimpleNamespace:
    picture = np.full((16, 24, 3), value, np.uint8)
    return SimpleNamespace(source=picture, target=picture // 2, instruction="remove the very long thing " * 9)


def test_the_grid_holds_source_edited_target(tmp_path):
    edited = [np.full((8, 8, 3), 77, np.uint8)] * 2
    draw_samples([sample(200), sample(100)], edited, tmp_path / "samples" / "step-000001.png")
    grid = np.asarray(Image.open(tmp_path / "samples" / "step-000001.png"))
    middles = [HEADER + CELL // 2, MARGIN + CELL // 2]  # of the first picture
    row = [grid[middles[0], middles[1] + column * (CELL + GAP), 0] for column in range(3)]
    assert row == [200, 77, 100]
    assert grid[HEADER + CELL + GAP : HEADER + CELL + 20].min() < 128, "the instruction is written below"
    assert 77 in grid[HEADER + CELL + GAP :, middles[1] + CELL + GAP, 0], "the second sample has a row of its own"


def test_one_picture_per_sample(tmp_path):
    with pytest.raises(ValueError, match="2 samples came back as 1 edited pictures"):
        draw_samples([sample(1), sample(2)], [np.zeros((8, 8, 3), np.uint8)], tmp_path / "grid.png")


def test_swapped_weights_come_back_after_an_error():
    weight = torch.zeros(2)
    with pytest.raises(KeyError), swapped({"w": weight}, {"w": torch.ones(2)}):
        assert weight.sum() == 2
        raise KeyError
    assert weight.sum() == 0


def test_a_partitioned_engine_draws_nothing_and_says_so(tmp_path, caplog):
    state = SimpleNamespace(engine=SimpleNamespace(partitioned=True), processes=Processes(), step=1)
    logger = SampleLogger(tmp_path, 1, lambda s: s, [sample(1)])
    logger.after_step(state, last=False, saved=False)
    logger.after_step(state, last=True, saved=True)
    assert caplog.text.count("no samples are drawn") == 1 and not list(tmp_path.iterdir())


def test_fixed_samples_reach_into_mixtures_and_leave_broken_records_out(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(path)
    whole = {"origin_img_path": "a.png", "target_img_path": "b.png", "instruction": "whole"}
    table = {"0": {**whole, "target_img_path": "gone.png"}, "1": whole}
    (tmp_path / "pairs.json").write_text(json.dumps(table))
    inner = SourceConfig(kind="reasonedit", path=str(tmp_path))
    config = Config()
    config.data.sources = [SourceConfig(kind="mixture", sources=[inner])]
    config.train.num_samples = 2
    assert [sample.instruction for sample in fixed_samples(config)] == ["whole"]
