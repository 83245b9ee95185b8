"""The eight fixed outputs of the prototype study, on sprites: their order in every column, and the command."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from insightedit.cli.eval import app
from insightedit.evaluation.scenes.baselines import BaselineRow, measure_baselines

NAMES = [
    "oracle", "copy source", "wrong object", "oracle blurred", "oracle tinted", "oracle with noise", "half blend",
    "uniform noise",
]  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> dict[str, BaselineRow]:
    return {row.name: row for row in measure_baselines(count=12, size=64)}


def test_rows_stand_in_the_study_s_order(rows: dict[str, BaselineRow]) -> None:
    assert list(rows) == NAMES
    assert {row.exact.n for row in rows.values()} == {12}


def test_exact_success_sees_through_blur_tint_and_noise(rows: dict[str, BaselineRow]) -> None:
    exact = {name: row.exact.value for name, row in rows.items()}
    assert all(exact[name] == 1.0 for name in ("oracle", "oracle tinted", "oracle with noise"))
    assert exact["oracle blurred"] >= 0.9
    assert exact["copy source"] == exact["wrong object"] == exact["uniform noise"] == 0.0
    assert 0.0 < exact["half blend"] < 0.7


def test_the_rule_of_success_asks_for_the_background_as_well(rows: dict[str, BaselineRow]) -> None:
    assert rows["oracle"].success.value == 1.0
    assert rows["oracle tinted"].success.value == rows["oracle with noise"].success.value == 0.0


def test_background_orders_noise_below_blur_below_nothing(rows: dict[str, BaselineRow]) -> None:
    psnr = {name: row.psnr_background for name, row in rows.items()}
    assert psnr["oracle"] == psnr["copy source"] == psnr["half blend"] == 60.0
    assert 60.0 > psnr["oracle blurred"] > psnr["oracle with noise"] > psnr["oracle tinted"] > psnr["uniform noise"]
    assert psnr["oracle with noise"] == pytest.approx(26.8, abs=0.4)  # the study's value: sigma 12 of 255
    assert psnr["wrong object"] < psnr["oracle with noise"]


def test_leak_is_nothing_all_or_what_the_noise_exceeds(rows: dict[str, BaselineRow]) -> None:
    leak = {name: row.leak for name, row in rows.items()}
    assert leak["oracle"] == leak["copy source"] == leak["half blend"] == 0.0
    assert leak["oracle with noise"] == pytest.approx(0.223, abs=0.02)  # the study's value
    assert leak["oracle tinted"] > 0.95 and leak["uniform noise"] > 0.98
    assert 0.0 < leak["wrong object"] < 0.2


def test_progress_orders_copy_blend_blur_oracle(rows: dict[str, BaselineRow]) -> None:
    progress = {name: row.progress for name, row in rows.items()}
    assert progress["oracle"] == 1.0 and progress["copy source"] == 0.0
    assert progress["half blend"] == pytest.approx(0.5, abs=0.01)
    assert progress["wrong object"] == pytest.approx(0.0, abs=0.05)
    for name in ("oracle blurred", "oracle tinted", "oracle with noise"):
        assert 0.5 < progress[name] < 1.0, name
    assert progress["uniform noise"] < 0.1
    assert rows["copy source"].balanced == 0.0 and rows["uniform noise"].balanced < 0.1


def test_overlap_without_the_box_is_what_blur_and_noise_destroy(rows: dict[str, BaselineRow]) -> None:
    raw = {name: row.raw_iou for name, row in rows.items()}
    assert raw["oracle"] > 0.85 and raw["copy source"] == 0.0 and raw["wrong object"] < 0.05
    assert raw["oracle with noise"] < 0.4 and raw["oracle tinted"] < 0.2 and raw["uniform noise"] < 0.2
    assert rows["oracle with noise"].iou > raw["oracle with noise"], "the box is there for this"


def test_the_right_object_is_told_from_chance(rows: dict[str, BaselineRow]) -> None:
    right = {name: row.discriminates for name, row in rows.items()}
    assert all(right[n] == 1.0 for n in ("oracle", "oracle blurred", "oracle tinted", "oracle with noise"))
    assert right["half blend"] > 0.9
    assert right["copy source"] == right["wrong object"] == 0.0
    chance = rows["oracle"].chance
    assert abs(right["uniform noise"] - chance) < 0.35 and 0.25 <= chance <= 0.5


def test_no_column_orders_all_rows(rows: dict[str, BaselineRow]) -> None:
    """Each way to be wrong has full marks somewhere, and is found out somewhere else."""
    assert rows["copy source"].psnr_background == 60.0 and rows["copy source"].predicate_f1 == 0.0
    assert rows["oracle tinted"].exact.value == 1.0 and rows["oracle tinted"].leak > 0.95
    assert rows["half blend"].leak == 0.0 and rows["half blend"].progress < 0.6


def test_errors_teach() -> None:
    with pytest.raises(ValueError, match="count is 0: it has to be at least 1"):
        measure_baselines(count=0)
    with pytest.raises(ValueError, match="0 of 200 scenes are a add edit of one object among others: name tasks"):
        measure_baselines(count=1, size=16, tasks=("add",))


def test_the_command_prints_the_table() -> None:
    result = CliRunner().invoke(app, ["baselines", "--count", "2", "--size", "32", "--tasks", "recolour,remove"])
    assert result.exit_code == 0, result.output
    assert all(name in result.output for name in (*NAMES, "ESR", "raw IoU", "TDA by chance"))
    wrong = CliRunner().invoke(app, ["baselines", "--count", "1", "--size", "16", "--tasks", "paint"])
    assert wrong.exit_code == 2 and "name tasks that mean an object" in " ".join(wrong.output.split())
