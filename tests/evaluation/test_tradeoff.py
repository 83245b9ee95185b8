"""Success against the kept background: front, area, sweep, plot and command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from insightedit.cli import eval as cli
from insightedit.evaluation.scenes import tradeoff
from insightedit.evaluation.scenes.benchmark import SceneSet, evaluate
from insightedit.evaluation.scenes.report import SceneReport
from insightedit.export.folder import export_pipeline
from tests.evaluation.test_scenes_benchmark import dim
from tests.evaluation.toy import SIZE, ToySample, ToySampler
from tests.pipeline.conftest import build_pipeline

POINTS = st.lists(st.tuples(st.floats(0, 60), st.floats(0, 1)), min_size=1, max_size=8)


def edit_with_scale(scale: float) -> object:
    """The more guidance, the less of the edit and of the damage: at 1 the target in noise, at 3 the source."""
    share = (3 - scale) / 2

    def edit(samples: Sequence[ToySample]) -> list[np.ndarray]:
        noise = np.random.default_rng(0).normal(0, 6 * share, (SIZE, SIZE, 3))
        return [
            np.rint(s.source + share * (s.target.astype(float) - s.source) + noise).clip(0, 255).astype(np.uint8)
            for s in samples
        ]

    return edit


def measure(edit_fn: object, controls: bool) -> SceneReport:
    return evaluate(edit_fn, SceneSet(6, SIZE, sampler=ToySampler()), round_trip=dim, controls=controls)


@pytest.fixture(scope="module")
def swept() -> tradeoff.Tradeoff:
    return tradeoff.sweep(edit_with_scale, [1.0, 1.5, 2.5], measure, {"own_scale": 1.5})


def test_front_keeps_what_nothing_beats() -> None:
    points = [(10.0, 0.9), (20.0, 0.5), (15.0, 0.5), (30.0, 0.2), (25.0, 0.2), (30.0, 0.1)]
    assert tradeoff.pareto_front(points) == [(10.0, 0.9), (20.0, 0.5), (30.0, 0.2)]


def test_area_is_a_staircase_s() -> None:
    assert tradeoff.front_area([(60.0, 1.0)]) == 1.0
    assert tradeoff.front_area([(60.0, 0.0)]) == tradeoff.front_area([(0.0, 1.0)]) == 0.0
    assert tradeoff.front_area([(30.0, 0.4)]) == pytest.approx(0.2)
    assert tradeoff.front_area([(30.0, 0.4), (15.0, 0.8)]) == pytest.approx((15 * 0.8 + 15 * 0.4) / 60)
    assert tradeoff.front_area([(90.0, 0.5)]) == 0.5, "more than the cap is the cap"
    assert tradeoff.front_area([(15.0, 1.0)], low=10.0, high=20.0) == 0.5


@given(POINTS, st.tuples(st.floats(0, 60), st.floats(0, 1)))
def test_one_more_point_never_costs_area(points: list[tuple[float, float]], more: tuple[float, float]) -> None:
    area = tradeoff.front_area(points)
    assert 0 <= area <= 1
    assert tradeoff.front_area([*points, more]) >= area - 1e-12
    front = tradeoff.pareto_front(points)
    assert tradeoff.front_area(front) == pytest.approx(area)
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(front))


def test_errors_of_front_and_scales_teach() -> None:
    with pytest.raises(ValueError, match="no point to draw a front through"):
        tradeoff.front_area([])
    with pytest.raises(ValueError, match="demands run from 5 to 5: the end has to lie above the beginning"):
        tradeoff.front_area([(1.0, 1.0)], low=5, high=5)
    with pytest.raises(ValueError, match=r"scales are 1\.4: name at least two, each once, e\.g\."):
        tradeoff.check_scales([1.4])
    with pytest.raises(ValueError, match="scales are 1, 1: name at least two, each once"):
        tradeoff.check_scales([1.0, 1.0])
    with pytest.raises(ValueError, match="scales are none: name at least two"):
        tradeoff.check_scales([])
    with pytest.raises(ValueError, match="a scale is -1: image guidance scales are above 0"):
        tradeoff.check_scales([1.0, -1.0])


def test_sweep_measures_each_scale_on_the_same_scenes(swept: tradeoff.Tradeoff) -> None:
    assert [point.name for point in swept.points] == ["1", "1.5", "2.5"]
    background = [point.background for point in swept.points]
    assert background == sorted(background) and background[0] == pytest.approx(32.6, abs=0.5)
    progress = [point.progress for point in swept.points]
    assert progress == sorted(progress, reverse=True)
    assert swept.points[1].success.value == 1.0 and swept.points[2].success.value == 0.0
    assert [c.name for c in swept.controls][:2] == ["copy_source", "oracle"] and len(swept.controls) == 6
    spots = [(p.background, p.success.value) for p in swept.points]
    assert swept.area == tradeoff.front_area(spots) > 0.3
    assert swept.settings == {"excess_leak": True, "own_scale": 1.5}


def test_scenes_without_background_cannot_be_swept() -> None:
    class Whole(ToySampler):
        """Every edit changes every pixel."""

        def __getitem__(self, index: int) -> ToySample:
            class Sample(ToySample):
                @property
                def target(self) -> np.ndarray:
                    return self.source + np.uint8(20)

                def candidates(self) -> dict[str, np.ndarray]:
                    return {"source": self.source, "target": self.target}

            return Sample()

    with pytest.raises(ValueError, match="no scene has a background to keep: take more scenes"):
        tradeoff.sweep(
            edit_with_scale,
            [1.0, 2.0],
            lambda edit_fn, controls: evaluate(edit_fn, SceneSet(2, SIZE, sampler=Whole())),
        )


def test_files_and_plot(swept: tradeoff.Tradeoff, tmp_path: Path) -> None:
    paths = tradeoff.write_tradeoff(swept, tmp_path / "new")
    assert [path.name for path in paths] == list(tradeoff.FILES) and len(list(paths[0].parent.iterdir())) == 2
    written = json.loads(paths[0].read_text())
    assert written["area"] == swept.area and written["points"][1]["success"]["value"] == 1.0
    assert written["protocol"]["hash"] == swept.protocol["hash"]
    with Image.open(paths[1]) as picture:
        assert picture.size == (864, 576)
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20, "something is drawn"
    texts = {text.get_text() for text in tradeoff.draw_tradeoff(swept).axes[0].texts}
    assert texts >= {"1", "1.5", "2.5", "oracle", "copy source", "autoencoder target"}
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file is a file: name a folder"):
        tradeoff.write_tradeoff(swept, tmp_path / "file")


def test_command_sweeps_a_model_folder(tiny_root: Path, tmp_path: Path) -> None:
    folder = export_pipeline(build_pipeline(tiny_root), tmp_path / "model")
    out = tmp_path / "out"
    arguments = ["tradeoff", "--model", str(folder), "--count", "2", "--size", "32", "--steps", "1"]
    arguments += ["--scales", "1.0,2.0", "--out", str(out), "--device", "cpu"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "area under the front" in result.output and "copy source" in result.output
    written = json.loads((out / "tradeoff.json").read_text())
    assert [point["name"] for point in written["points"]] == ["1", "2"]
    assert written["settings"]["num_inference_steps"] == 1 and "own_scale" in written["settings"]
    assert (out / "tradeoff.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scales", "1.0"], "scales are 1: name at least two"),
        (["--scales", "a,b"], "--scales a,b: numbers between commas are needed, e.g. 1.0,1.4,1.8."),
        (["--out", "file"], "file is a file: name a folder."),
        (["--split", "best"], "unknown split 'best'"),
        (["--model", "nowhere"], "No model folder at nowhere"),
    ],
)
def test_mistakes_end_in_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    result = CliRunner().invoke(cli.app, ["tradeoff", "--count", "1", *arguments])
    assert result.exit_code == 2 and message in " ".join(result.output.split())


def test_a_missing_plotting_library_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insightedit.cli.eval.find_spec", lambda name: None)
    result = CliRunner().invoke(cli.app, ["tradeoff", "--count", "1"])
    assert result.exit_code == 2 and "the plot needs matplotlib" in " ".join(result.output.split())
