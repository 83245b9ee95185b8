"""The command line, on fake scenes at tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from insightedit.miniatures.builders import build
from insightedit.miniatures.tokenizer import small_corpus
from insightedit.modeling.pretrained import resolve_model_id
from insightedit.training.miniatures import loop
from insightedit.training.miniatures.cli import app
from tests.miniatures.fakes import Squares


@pytest.fixture(autouse=True)
def _fake_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "scene_samplers", lambda size, pack=None, declines=0.0: (Squares(size), Squares(size)))
    monkeypatch.setattr(loop, "VAL_COUNT", 16)


def test_help_names_every_part() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.output for name in ("tokenizer", "clip", "vae", "llava", "sd", "ip2p", "all"))


def test_a_stopped_part_says_how_to_go_on_and_then_finishes(tmp_path: Path) -> None:
    arguments = [
        "vae",
        "--size",
        "tiny",
        "--root",
        str(tmp_path),
        "--steps",
        "2",
        "--batch-size",
        "2",
        "--workers",
        "0",
    ]
    stopped = CliRunner().invoke(app, [*arguments, "--stop-after", "1"])
    assert stopped.exit_code == 0, stopped.output
    assert "vae: stopped, run again to go on, 1 steps" in stopped.output
    done = CliRunner().invoke(app, arguments)
    assert "vae: trained, 2 steps" in done.output
    assert "psnr" in done.output
    assert (tmp_path / ".train" / "vae" / "log.jsonl").is_file()


def test_the_decoder_is_sharpened_by_one_command(tmp_path: Path) -> None:
    given = [
        "sharpen",
        "--size",
        "tiny",
        "--root",
        str(tmp_path),
        "--steps",
        "1",
        "--batch-size",
        "2",
        "--workers",
        "0",
    ]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert "sharpen: trained, 1 steps" in done.output and "crispness" in done.output


def test_tokenizer_command_writes_folders_that_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["tokenizer", "--size", "tiny", "--root", str(tmp_path)])
    assert result.exit_code == 0, result.output
    monkeypatch.setenv("INSIGHTEDIT_MINIATURES", str(tmp_path))
    assert resolve_model_id("miniature:mini/llava") == str(tmp_path / "llava")


@pytest.mark.parametrize("part", ["sd", "ip2p", "pixart"])
def test_nothing_is_trained_on_the_latents_of_an_untrained_autoencoder(tmp_path: Path, part: str) -> None:
    build("mini", tmp_path, corpus=small_corpus())
    result = CliRunner().invoke(app, [part, "--root", str(tmp_path), "--steps", "1"])
    assert result.exit_code == 2
    said = " ".join(result.output.replace("│", " ").split())
    assert "has random weights, and what" in said
    assert "`python -m insightedit.miniatures vae --size mini --root" in said
    assert not (tmp_path / ".train").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["llava", "--size", "huge"], "huge is no size: choose one of tiny, mini"),
        (["all", "--size", "huge"], "huge is no size"),
        (["tokenizer", "--size", "tiny", "--root", "FILE/models"], "cannot be made"),
        (["vae", "--size", "tiny", "--minutes", "-1"], "greater than or equal to 0"),
        (["vae", "--size", "tiny", "--lr", "0"], "greater than or equal to"),
        (["vae", "--size", "tiny", "--stop-after", "0"], "greater than or equal to 1"),
    ],
)
def test_wrong_words_are_refused_in_one_sentence(words, told, tmp_path):
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, [word.replace("FILE", str(tmp_path / "file")) for word in words])
    assert done.exit_code == 2, done.output
    assert told in " ".join(done.output.replace("│", " ").split())
    assert done.exception is None or isinstance(done.exception, SystemExit)
