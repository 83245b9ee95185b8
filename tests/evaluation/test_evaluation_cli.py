"""`insightedit eval`: what a user types, what stands there afterwards, and what mistakes look like."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from insightedit.cli import eval as cli
from insightedit.evaluation.scenes import benchmark
from tests.evaluation.toy import SIZE, ToySampler

SCENES = ["--count", "4", "--size", str(SIZE), "--pairs", "2"]


@pytest.fixture(autouse=True)
def toy_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "scene_sampler", lambda *_, **__: ToySampler())


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def copy_sources(dump: Path, results: Path) -> Path:
    """An editor that does nothing."""
    return Path(shutil.copytree(dump / "sources", results))


def edit_right(results: Path) -> Path:
    """An editor that is always right."""
    results.mkdir()
    sampler = ToySampler()
    samples = [sampler[i] for i in range(4)] + [sample for i in range(2) for sample in sampler.pair(i)]
    names = benchmark.SceneSet(4, SIZE, pairs=2).ids
    for name, sample in zip(names, samples, strict=True):
        Image.fromarray(sample.target).save(results / f"{name}.png")
    return results


def test_other_editors_by_way_of_folders(tmp_path: Path) -> None:
    dumped = invoke("scenes", "--dump", tmp_path / "dump", *SCENES)
    assert dumped.exit_code == 0, dumped.output
    assert "8 instructions" in dumped.output
    assert f"--results FOLDER --count 4 --size {SIZE} --split test --seed 0 --pairs 2" in dumped.output
    for name, folder in (
        ("idle", copy_sources(tmp_path / "dump", tmp_path / "idle")),
        ("right", edit_right(tmp_path / "right")),
    ):
        scored = invoke("scenes", "--results", folder, "--out", tmp_path / "eval" / name, *SCENES)
        assert scored.exit_code == 0, scored.output
        for words in ("copy source", "oracle", "wrong object", "minimal pairs", "report.json", "sheet.png"):
            assert words in scored.output
    report = json.loads((tmp_path / "eval" / "right" / "report.json").read_text())
    assert report["rows"][0]["success"]["value"] == report["pairs"]["both"]["value"] == 1.0
    assert report["settings"] == {"excess_leak": False, "results": str(tmp_path / "right")}
    compared = invoke("compare", tmp_path / "eval" / "idle", tmp_path / "eval" / "right")
    assert compared.exit_code == 0, compared.output
    assert "0.125" in compared.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "a", "--dump", "b"], "--results and --dump exclude each other: name one of them."),
        (["--results", "nowhere"], "No folder nowhere: --results names the folder that holds the edited"),
        (["--model", "nowhere"], "No model folder at nowhere"),
        (["--results", ".", "--out", "file"], "file is a file: name a folder."),
        (["--results", "."], "lacks 4 of 4 pictures, e.g. test-32px-s0-000000.png"),
        (["--results", ".", "--steps", "3"], "steps: no model runs with --results or --dump; leave these"),
        (["--count", "0"], "Invalid value '0' for '--count'"),
    ],
)
def test_mistakes_end_in_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    result = invoke("scenes", "--count", 4, "--size", SIZE, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    if "insightedit:" in result.output:
        assert len(result.output.strip().splitlines()) == 1


def test_comparing_needs_reports(tmp_path: Path) -> None:
    result = invoke("compare", tmp_path)
    assert result.exit_code == 2
    assert "No report.json in" in result.output
