"""The table of control rows on real scenes: each way to be right or wrong shows where it should.

The rows are those of the prototype study of these metrics: oracle, copy, wrong object, blur, tint, noise,
half-blend and uniform noise; the expected order is that study's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import ndimage

from insightedit.evaluation.scenes.benchmark import SceneSet, evaluate
from insightedit.evaluation.scenes.report import SceneReport, SceneRow
from insightedit.scenes import EditSample, SceneSampler

COUNT, SIZE = 24, 64


class LocalEdits:
    """The test split without edits of the whole picture, which have no background to keep."""

    def __init__(self) -> None:
        sampler = SceneSampler(split="test", size=SIZE, seed=0)
        samples = (sampler[index] for index in range(4 * COUNT))
        self.samples = [sample for sample in samples if sample.task != "photometric"][:COUNT]

    def __getitem__(self, index: int) -> EditSample:
        return self.samples[index]


def to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def noise(sample: EditSample, sigma: float) -> np.ndarray:
    return np.random.default_rng(sample.index).normal(0, sigma, sample.source.shape)


def blend(sample: EditSample, share: float) -> np.ndarray:
    return to_bytes(sample.source + share * (sample.target.astype(float) - sample.source))


EDITORS: dict[str, Callable[[EditSample], np.ndarray]] = {
    "blur": lambda s: to_bytes(ndimage.gaussian_filter(s.target.astype(float), (0.6, 0.6, 0))),
    "tint": lambda s: to_bytes(s.target + np.array([30.0, 0.0, -30.0])),
    "slight tint": lambda s: to_bytes(s.target + np.array([8.0, 0.0, -8.0])),
    "noise": lambda s: to_bytes(s.target + noise(s, 12.0)),
    "half": lambda s: blend(s, 0.5),
    "three quarters": lambda s: blend(s, 0.75),
    "a quarter": lambda s: blend(s, 0.25),
    "chaos": lambda s: np.random.default_rng(s.index).integers(0, 256, s.source.shape, dtype=np.uint8),
    "too much": lambda s: np.where(np.roll(s.mask, 9, axis=0)[:, :, None], 255 - s.target, s.target),
}


@pytest.fixture(scope="module")
def reports() -> dict[str, SceneReport]:
    scenes = LocalEdits()

    def run(name: str) -> SceneReport:
        def edit(samples: Sequence[EditSample]) -> list[np.ndarray]:
            return [EDITORS[name](sample) for sample in samples]

        return evaluate(edit, SceneSet(COUNT, SIZE, sampler=scenes), controls=name == "blur")

    return {name: run(name) for name in EDITORS}


@pytest.fixture(scope="module")
def rows(reports: dict[str, SceneReport]) -> dict[str, SceneRow]:
    controls = {row.name: row for row in reports["blur"].rows[1:]}
    return controls | {name: report.model for name, report in reports.items()}


def test_the_ends_of_the_scale_are_exact(rows: dict[str, SceneRow]) -> None:
    oracle, copy, wrong = rows["oracle"], rows["copy_source"], rows["wrong_object"]
    assert oracle.success.value == 1.0
    assert copy.success.value == 0.0
    assert wrong.success.value == 0.0
    assert oracle.means["progress"] == oracle.means["balanced"] == oracle.means["discriminates"] == 1.0
    assert copy.means["progress"] == copy.means["balanced"] == copy.means["discriminates"] == copy.means["iou"] == 0.0
    assert oracle.means["psnr_background"] == copy.means["psnr_background"] == 60.0
    assert copy.capped == oracle.capped == COUNT
    assert wrong.means["discriminates"] == 0.0
    assert wrong.verdicts == {"wrong object": wrong.success.n}


def test_sharpness_tells_blur_from_noise_and_speaks_of_right_edits_only(rows: dict[str, SceneRow]) -> None:
    sharpness = {name: None if row.sharpness is None else row.sharpness.value for name, row in rows.items()}
    assert sharpness["oracle"] == 1.0 and sharpness["copy_source"] is sharpness["wrong_object"] is None
    assert sharpness["blur"] < 0.7 < 0.9 < sharpness["slight tint"] <= 1.01 < 1.1 < sharpness["noise"]
    blur = rows["blur"]
    assert blur.sharpness.low < blur.sharpness.value < blur.sharpness.high and blur.sharpness.n == COUNT
    assert sum(value.n for value in blur.sharpness_by_task.values()) == COUNT


def test_no_single_column_orders_all_rows(rows: dict[str, SceneRow]) -> None:
    """Copying the source is perfect on the background, tinting is nearly perfect on the edit: both fail."""
    assert rows["copy_source"].means["psnr_background"] > rows["blur"].means["psnr_background"]
    assert rows["tint"].means["progress"] > 0.6
    assert rows["tint"].success.value == 0.0
    assert rows["tint"].means["leak"] > 0.9
    assert set(rows["tint"].verdicts) <= {"leak", "partial edit"}


def test_progress_orders_the_blends(rows: dict[str, SceneRow]) -> None:
    names = ["copy_source", "a quarter", "half", "three quarters", "oracle"]
    progress = [rows[name].means["progress"] for name in names]
    assert progress == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0], abs=0.02)
    assert rows["a quarter"].success.value == 0.0
    assert rows["three quarters"].success.value == 1.0
    assert 0.0 < rows["half"].success.value < 1.0  # on the edge, where rounding decides
    assert rows["half"].means["psnr_background"] == 60.0


def test_noise_and_blur_cost_background_before_they_cost_the_edit(rows: dict[str, SceneRow]) -> None:
    for name in ("blur", "noise", "slight tint"):
        assert rows[name].means["discriminates"] > 0.95, name
        assert 0.5 < rows[name].means["progress"] < 1.0, name
    assert rows["noise"].means["psnr_background"] == pytest.approx(20 * np.log10(255 / 12), abs=0.6)
    assert rows["noise"].means["leak"] == pytest.approx(0.27, abs=0.05)  # three channels beyond 1.7 sigma
    assert rows["slight tint"].success.value > 0.95
    assert rows["slight tint"].tone_drift == pytest.approx((8 / 255, 0, -8 / 255), abs=0.004)


def test_chaos_is_found_out_by_every_column(rows: dict[str, SceneRow]) -> None:
    row = rows["chaos"]
    assert row.success.value == 0.0
    assert row.means["balanced"] < 0.1
    assert row.means["psnr_background"] < 10
    assert row.means["leak"] > 0.95
    assert row.means["iou"] < 0.2
    low, high = row.means["discrimination_chance"] - 0.2, row.means["discrimination_chance"] + 0.2
    assert low < row.means["discriminates"] < high


def test_editing_too_much_lowers_precision_not_recall(rows: dict[str, SceneRow]) -> None:
    assert rows["too much"].means["recall"] == pytest.approx(rows["oracle"].means["recall"], abs=0.05)
    assert rows["too much"].means["precision"] < 0.75 * rows["oracle"].means["precision"]
    assert rows["too much"].success.value < 0.2


def test_every_wrong_candidate_of_every_scene_fails(reports: dict[str, SceneReport]) -> None:
    from insightedit.evaluation.scenes.benchmark import case_of
    from insightedit.evaluation.scenes.scoring import score_edit

    kinds = set()
    for sample in LocalEdits().samples[:30]:
        case = case_of(sample)
        assert score_edit(case, case.target).success
        for name, rival in case.rivals.items():
            scores = score_edit(case, rival)
            assert not scores.success
            assert scores.nearest == name
            kinds.add(scores.verdict)
    assert kinds >= {"no edit", "wrong object", "wrong class", "wrong colour", "wrong place", "wrong task"}


def test_real_scenes_through_the_whole_benchmark() -> None:
    """Photometric edits, pairs and ids included; the oracle is always right."""
    scenes = SceneSet(30, 32, split="val", seed=7, pairs=10)
    report = evaluate(lambda samples: [sample.target for sample in samples], scenes)
    assert report.model.success.value == report.pairs.both.value == 1.0
    assert sum(rate.n for rate in report.model.groups["task"].values()) == 30
    assert re.fullmatch(r"val-32px-s7-\d{6}", report.lines[0]["sample_id"])
