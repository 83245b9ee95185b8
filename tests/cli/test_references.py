"""The command line with a model whose instructions carry pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from insightedit.cli.main import app
from insightedit.config import load_config
from insightedit.export.folder import export_editor
from insightedit.model.build import build_editor
from tests.cli.test_cli import one_sentence


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    config = load_config("mige", 3, ["tiny"])
    return export_editor(build_editor(config), config, tmp_path_factory.mktemp("mige") / "model")


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, size in (("photo.png", (50, 30)), ("dog.png", (20, 20)), ("cat.png", (16, 24))):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(name)

    def call(*words: object):
        return CliRunner().invoke(app, ["edit", *map(str, words), "--model", str(model)])

    return call


def test_a_subject_is_put_into_a_picture(run):
    result = run("photo.png", "add <imagehere> here", "--reference", "dog.png", "-o", "out.png", "--seed", 1)
    assert result.exit_code == 0, result.output
    with Image.open("out.png") as edited:
        assert edited.size == (50, 30)


def test_several_subjects_are_drawn_on_a_blank_canvas(run):
    words = "draw <imagehere> and <imagehere>"
    result = run(words, "--reference", "dog.png", "--reference", "cat.png", "--seed", 1)
    assert result.exit_code == 0, result.output
    assert "drawn.png" in result.output and "drawn on a blank canvas" in result.output
    with Image.open("drawn.png") as drawn:
        assert drawn.size == (32, 32)
        assert drawn.text["Instruction"] == words
    Path("folder").mkdir()
    assert run("a ball", "-o", "folder").exit_code == 0
    assert Path("folder/drawn.png").exists()


def test_the_order_of_references_is_theirs_on_the_line(run):
    for first, second, name in (("dog", "cat", "a.png"), ("cat", "dog", "b.png"), ("dog", "cat", "c.png")):
        references = ["--reference", f"{first}.png", "--reference", f"{second}.png"]
        assert run("draw <imagehere> and <imagehere>", *references, "--seed", 1, "-o", name).exit_code == 0
    assert Path("a.png").read_bytes() == Path("c.png").read_bytes() != Path("b.png").read_bytes()


class TestMistakes:
    def test_references_without_placeholders(self, run):
        one_sentence(run("photo.png", "add a dog", "--reference", "dog.png"), "has 0 <imagehere> and 1 reference")

    def test_a_reference_that_is_not_there(self, run):
        one_sentence(run("photo.png", "add <imagehere>", "--reference", "fox.png"), "No file at fox.png")

    def test_a_picture_without_words(self, run):
        one_sentence(run("photo.png"), "The instruction for photo.png is missing")
        one_sentence(run("nowhere.jpg"), "The instruction for nowhere.jpg is missing")
        Path("album").mkdir()
        one_sentence(run("album"), "The instruction for album is missing")

    def test_reports_compare_with_a_picture(self, run):
        one_sentence(run("a ball", "--report", "r.html"), "compare with a picture to edit")

    def test_no_folder_to_draw_into(self, run):
        one_sentence(run("a ball", "-o", "no/out.png"), "No folder no")

    def test_options_of_other_models(self, run):
        answer = run("photo.png", "add a dog", "--describe", "--image-prompt-scale", 1)
        one_sentence(answer, "This model has no use for --image-prompt-scale, --describe")

    def test_a_model_that_only_edits(self, run, tiny_folder, tmp_path):
        words = [str(word) for word in ("edit", "a ball", "--model", tiny_folder)]
        one_sentence(CliRunner().invoke(app, words), "This model edits pictures and draws none of its own")
        words = ["edit", "photo.png", "add a dog", "--model", str(tiny_folder), "--reference", "dog.png"]
        one_sentence(CliRunner().invoke(app, [*words, "--reference", "cat.png"]), "this model takes one")
