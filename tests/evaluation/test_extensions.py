"""A benchmark and a metric of somebody else, one file each, outside of the package: measured and tabled by name."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from insightedit.cli import eval as cli
from insightedit.evaluation.benchmarks.registry import benchmark_loader, load_benchmark
from insightedit.evaluation.core.measure import metric_rule
from insightedit.evaluation.core.protocols import find_protocol
from insightedit.evaluation.core.records import read_records

BENCHMARK = """
    from insightedit.evaluation.benchmarks.base import BenchmarkSample, Card

    class Squares:
        CARD = Card("squares", "Squares", "nobody", "Draw them.", "CC0-1.0", "NUMBER.png")

        def samples(self, folder, split):
            for path in sorted(folder.glob("*.png")):
                yield BenchmarkSample(path.stem, "make it darker", source=path, target=path)
"""
METRIC = """
    import numpy as np

    class Darkening:
        name, better, needs = "darkening", "higher", ("source",)

        def __call__(self, prediction):
            return float(prediction.view.source.mean() - prediction.edited.mean())

    def captioned(prediction):
        return len(prediction.view.sample.target_caption)

    captioned.needs = ("target_caption",)

    def broken(prediction):
        return float("nan")

    NUMBER = 3

    class Greedy:
        needs = ("moon",)

        def __call__(self, prediction):
            return 1.0
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "toy_benchmark.py").write_text(textwrap.dedent(BENCHMARK))
    (tmp_path / "code" / "toy_metric.py").write_text(textwrap.dedent(METRIC))
    monkeypatch.syspath_prepend(tmp_path / "code")
    for name in ("toy_benchmark", "toy_metric"):
        sys.modules.pop(name, None)
    for name, shade in (("squares", 100), ("edited", 60)):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.fromarray(np.full((16, 16, 3), shade + number, np.uint8)).save(tmp_path / name / f"{number}.png")
    return tmp_path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_a_benchmark_and_a_metric_by_where_they_lie(folder: Path) -> None:
    out = folder / "run"
    words = ("toy_benchmark:Squares", folder / "squares", "--results", folder / "edited", "--out", out)
    before = invoke(*words)
    assert before.exit_code == 0, before.output
    done = invoke(*words, "--metric", "toy_metric:Darkening", "--metric", "toy_metric:captioned")
    assert done.exit_code == 0, done.output
    assert "darkening" in done.output and "captioned (paper): no value for 3 of 3: the sample has no" in done.output
    found = [one for one in read_records(out / "records.jsonl") if one.method == "edited"]
    assert {one.bench for one in found} == {"squares"}
    assert [one.value for one in found if one.metric_name == "darkening"] == [40.0] * 3
    assert {one.metric_name for one in found if one.value is not None} == {"L1", "L2", "darkening"}
    hashes = {
        one["metric_name"]: one["hash"] for one in json.loads((out / "run.json").read_text())["protocol"]["columns"]
    }
    assert hashes["L1"] == find_protocol("magicbrush").hash != hashes["darkening"]
    table = invoke("table", out, "--resamples", 49)
    assert table.exit_code == 0 and "darkening↑ |" in table.output, table.output
    assert invoke("report", out, "--resamples", 49).exit_code == 0


def test_help_and_protocols_of_a_benchmark_of_somebody_else(folder: Path) -> None:
    told = invoke("toy_benchmark:Squares", "--help")
    assert told.exit_code == 0 and "Draw them." in told.output and "magicbrush_v1 (default)" in told.output
    assert "insightedit eval toy_benchmark:Squares FOLDER" in told.output
    assert find_protocol("toy_benchmark:Squares", "smartedit-v1").rules_for("squares")
    assert len(load_benchmark("toy_benchmark:Squares", folder / "squares")) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.at_all:Thing", "nowhere.at_all:Thing is no benchmark that can be imported .*: name it as MOD"),
        ("toy_benchmark:Circles", "Circles is no benchmark that can be imported"),
        ("toy_metric:NUMBER", "toy_metric:NUMBER is no benchmark: give it a `CARD` and `samples"),
        ("insightedit.evaluation.benchmarks.evr:", "is called evr, as one of ours: give its card another name"),
    ],
)
def test_what_is_no_benchmark(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        benchmark_loader(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("toy_metric:Missing", "toy_metric:Missing is no metric that can be imported"),
        ("toy_metric:NUMBER", "toy_metric:NUMBER is no metric: it is called with a prediction"),
        ("toy_metric:Greedy", "it needs what there is: source, target, mask, .*, clip, dino"),
    ],
)
def test_what_is_no_metric(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric_rule(name, find_protocol("magicbrush"))


def test_a_metric_that_gives_no_number_says_so(folder: Path) -> None:
    words = ("toy_benchmark:Squares", folder / "squares", "--results", folder / "edited", "--out", folder / "run")
    done = invoke(*words, "--metric", "toy_metric:broken")
    assert done.exit_code == 0 and "broken (paper): no value for 3 of 3: the metric gives nan" in done.output
