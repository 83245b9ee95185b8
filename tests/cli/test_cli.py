"""What users type, and what they get wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

from insightedit.cli.main import app
from insightedit.pipelines.warnings import split_words

WORDS = "make the dog red"


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def run(tiny_folder, tmp_path, monkeypatch):
    """`run("edit", ...)` in an empty folder, with the tiny model as the default."""
    from insightedit.pipelines import loading

    monkeypatch.setattr(loading, "DEFAULT_MODEL", tiny_folder)
    monkeypatch.chdir(tmp_path)

    def call(*words: object):
        return CliRunner().invoke(app, [str(word) for word in words])

    return call


def one_sentence(result, *parts: str) -> None:
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("insightedit: ")
    for part in parts:
        assert part in lines[0]


class TestEdit:
    def test_writes_picture_report_and_pair(self, run, photo, tmp_path):
        result = run(
            "edit", photo, WORDS, "-o", "out.png", "--seed", 3, "--steps", 1,
            "--report", "report.html", "--before-after", "pair.png",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / "out.png") as edited:
            assert edited.size == (50, 30)
            assert edited.text["Instruction"] == WORDS
            assert edited.text["Seed"] == "3"
        with Image.open(tmp_path / "pair.png") as pair:
            assert pair.size == (108, 30)
        assert "edit-report" in (tmp_path / "report.html").read_text(encoding="utf-8")
        for said in ("out.png", "report.html", "pair.png", "seed 3", " s,"):
            assert said in result.output

    def test_warnings_stand_in_every_place(self, run, photo, tmp_path):
        result = run("edit", photo, "?!", "-o", "out.png", "--steps", 1, "--report", "report.html")
        assert result.exit_code == 0
        said = "the instruction holds no word that the model knows"
        assert f"Warning: out.png: {said}" in result.stderr.splitlines()
        with Image.open(tmp_path / "out.png") as edited:
            assert edited.text["Warning"] == said
            assert f"Warning: {said}" in edited.text["XML:com.adobe.xmp"]
        assert f"Warning: {said}" in (tmp_path / "report.html").read_text(encoding="utf-8")

    def test_strict_writes_nothing(self, run, photo, tmp_path):
        before = sorted(tmp_path.iterdir())
        result = run("edit", photo, "?!", "--strict", "--steps", 1, "--report", "report.html")
        assert result.exit_code == 3
        assert "Warning: photo-edited.png: the instruction holds no word" in result.stderr
        assert "--strict: 1 of 1 not written, for the warnings above." in result.stderr
        assert sorted(tmp_path.iterdir()) == before
        assert run("edit", photo, WORDS, "--strict", "--steps", 1).exit_code == 0

    def test_strict_in_a_folder(self, run, photo, tmp_path):
        (tmp_path / "in").mkdir()
        photo.rename(tmp_path / "in" / "a.png")
        result = run("edit", "in", "?!", "-o", "out", "--strict", "--steps", 1)
        assert result.exit_code == 3
        assert list((tmp_path / "out").iterdir()) == []

    def test_same_seed_same_bytes(self, run, photo):
        for name in ("a.png", "b.png"):
            assert run("edit", photo, WORDS, "-o", name, "--seed", 1, "--steps", 1).exit_code == 0
        assert Path("a.png").read_bytes() == Path("b.png").read_bytes()

    def test_default_output(self, run, photo):
        assert run("edit", photo, WORDS, "--steps", 1).exit_code == 0
        assert Path("photo-edited.png").exists()

    def test_all_options(self, run, photo):
        mask = Image.new("L", (50, 30))
        mask.paste(255, (0, 0, 25, 30))
        mask.save("mask.png")
        result = run(
            "edit", photo, WORDS, "--steps", 1, "--guidance-scale", 2, "--image-guidance-scale", 1.2,
            "--image-prompt-scale", 0.5, "--mask", "mask.png", "--reference", photo, "--device", "cpu",
            "--describe", "-o", "out.png",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        before, after = np.asarray(Image.open(photo)), np.asarray(Image.open("out.png"))
        np.testing.assert_array_equal(after[:, 25:], before[:, 25:])
        assert (after[:, :25] != before[:, :25]).any()

    def test_a_folder(self, run, photo, tmp_path):
        album = tmp_path / "album"
        album.mkdir()
        for name in ("a.png", "b.jpg", "b.png"):
            Image.open(photo).save(album / name)
        (album / "notes.txt").write_text("no picture")
        (album / "broken.png").write_text("no picture either")
        result = run("edit", album, WORDS, "-o", "edited", "--steps", 1, "--seed", 4)
        assert {path.name for path in Path("edited").iterdir()} == {"a.png", "b.jpg.png", "b.png.png"}
        assert result.exit_code == 2
        assert "broken.png is not an image" in result.stderr
        assert "1 of 4 pictures could not be edited" in result.stderr
        assert run("edit", photo, WORDS, "-o", "alone.png", "--steps", 1, "--seed", 4).exit_code == 0
        assert Path("alone.png").read_bytes() == Path("edited/a.png").read_bytes()

    def test_no_lock(self, run, photo):
        assert run("edit", photo, WORDS, "--no-background-lock", "--steps", 1, "-o", "o.png").exit_code == 0
        with Image.open("o.png") as edited:
            assert edited.text["DigitalSourceType"].endswith("/trainedAlgorithmicMedia")


UNSURE = {"weights": {}, "bias": -1.0, "threshold": 0.5}


class TestNotUnderstood:
    """What the model refuses, or is not sure of: the picture is left as it was, and that is told."""

    @pytest.fixture
    def with_settings(self, run, tiny_folder, tmp_path, monkeypatch):
        """`with_settings(**settings)` makes the default a copy of the tiny model that writes before it edits."""
        from insightedit.pipelines import loading

        def build(**settings) -> None:
            folder = tmp_path.parent / f"{tmp_path.name}-model"
            shutil.copytree(tiny_folder, folder, dirs_exist_ok=True)
            index = json.loads((folder / "model_index.json").read_text())
            index |= {"expressive": True, "describe_prompt": "{instruction}", **settings}
            (folder / "model_index.json").write_text(json.dumps(index))
            monkeypatch.setattr(loading, "DEFAULT_MODEL", folder)

        return build

    @pytest.fixture
    def says(self, with_settings, photo):
        """What the tiny model writes for `WORDS` of the photo; it now refuses whatever begins so."""
        from insightedit import load_pipeline

        with_settings()
        (said,) = load_pipeline()(photo, WORDS).expressive_instructions
        assert split_words(said)
        with_settings(refusals=" ".join(split_words(said)[:3]))
        return said

    def test_a_refused_picture_is_copied_and_told(self, run, photo, says, tmp_path):
        result = run("edit", photo, WORDS, "-o", "out.png", "--report", "report.html", "--before-after", "pair.png")
        assert result.exit_code == 0, result.output
        assert Path("out.png").read_bytes() == photo.read_bytes()
        assert "left as it was, a copy of the file" in result.stdout
        assert "Understood as" not in result.stdout
        assert re.search(r"Warning: out.png: the model says \".+\", so nothing was changed", result.stderr, re.DOTALL)
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "Not understood: the picture was left as it was." in page
        assert "Nothing was drawn: the source through the autoencoder" in page
        facts = json.loads(re.search(r'id="edit-report">(.*?)</script>', page)[1])
        assert (facts["understood"], facts["confidence"], facts["signs"]) == (False, None, None)
        assert facts["different_ratio"] == facts["changed_ratio"] == 0.0
        pair = np.asarray(Image.open("pair.png"))
        np.testing.assert_array_equal(pair[:, :50], pair[:, -50:])

    def test_the_copy_may_be_replaced_by_the_next_try(self, run, photo, says):
        for options in ([], [], ["--force"]):
            assert run("edit", photo, WORDS, "-o", "out.png", "--seed", 1, *options).exit_code == 0
        assert Path("out.png").read_bytes() != photo.read_bytes()
        shutil.copy(photo, "mine.png")
        Image.new("RGB", (50, 30)).save("mine.png")
        one_sentence(run("edit", photo, WORDS, "-o", "mine.png"), "was not written by insightedit")

    def test_strict_writes_nothing_and_force_draws(self, run, photo, says):
        result = run("edit", photo, WORDS, "-o", "out.png", "--strict")
        assert result.exit_code == 3
        assert not Path("out.png").exists()
        forced = run("edit", photo, WORDS, "-o", "out.png", "--force")
        assert forced.exit_code == 0
        assert "but it was forced to draw" in forced.stderr
        before, after = np.asarray(Image.open(photo)), np.asarray(Image.open("out.png"))
        assert (before != after).any()
        one_sentence(run("edit", photo, WORDS, "--force", "--strict"), "give one of them")

    @pytest.mark.parametrize("name", ["out.jpg", "out.jpeg"])
    def test_a_jpeg_is_not_compressed_again(self, run, photo, with_settings, name):
        with_settings(confidence_calibration=UNSURE)
        Image.open(photo).save("photo.jpg", quality=40)
        result = run("edit", "photo.jpg", WORDS, "-o", name)
        assert result.exit_code == 0, result.output
        assert Path(name).read_bytes() == Path("photo.jpg").read_bytes()
        assert "JPEG stores" not in result.output

    @pytest.mark.parametrize("name", ["out.png", "out.webp", "out.tif"])
    def test_another_format_has_the_pixels(self, run, photo, with_settings, name):
        with_settings(confidence_calibration=UNSURE)
        exif = Image.Exif()
        exif[0x0112] = 6  # on its side
        Image.open(photo).save("photo.jpg", quality=40, exif=exif)
        result = run("edit", "photo.jpg", WORDS, "-o", name)
        assert result.exit_code == 0, result.output
        upright = ImageOps.exif_transpose(Image.open("photo.jpg"))
        with Image.open(name) as written:
            np.testing.assert_array_equal(np.asarray(written.convert("RGB")), np.asarray(upright))
        content = Path(name).read_bytes()
        assert b"Left as it was, asked for: make the dog red" in content
        assert b"rainedAlgorithmicMedia" not in content
        assert "confidence 27 %" in result.stdout
        assert "the model is not sure that it understood (27 %, and 50 % are needed)" in result.stderr
        assert "force=True (--force) insists" in result.stderr

    def test_in_a_folder(self, run, photo, with_settings, tmp_path):
        with_settings(confidence_calibration=UNSURE)
        (tmp_path / "album").mkdir()
        Image.open(photo).save("album/b.jpg")
        photo.rename(tmp_path / "album" / "a.png")
        result = run("edit", "album", WORDS, "-o", "edited")
        assert result.exit_code == 0, result.output
        assert Path("edited/a.png").read_bytes() == Path("album/a.png").read_bytes()
        pixels = [np.asarray(Image.open(path)) for path in ("edited/b.png", "album/b.jpg")]
        np.testing.assert_array_equal(*pixels)
        assert "2 of 2 pictures were left as they were, for the warnings above." in result.stderr

    def test_what_was_understood_tells_its_confidence(self, run, photo, with_settings):
        with_settings(confidence_calibration={**UNSURE, "bias": 2.0})
        result = run("edit", photo, WORDS, "-o", "out.png", "--report", "report.html")
        assert result.exit_code == 0, result.output
        assert "confidence 88 %" in result.stdout
        assert "88.08 %" in Path("report.html").read_text(encoding="utf-8")
        with Image.open("out.png") as edited:
            assert edited.text["Confidence"] == "0.881"
            assert edited.text["Understood"]
            assert edited.text["DigitalSourceType"].endswith("AlgorithmicMedia")


class TestMistakes:
    def test_missing_file(self, run):
        one_sentence(run("edit", "no.png", WORDS), "No file at no.png")

    def test_corrupt_file(self, run):
        Path("bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
        one_sentence(run("edit", "bad.png", WORDS), "bad.png")

    def test_truncated_file(self, run, photo):
        photo.write_bytes(photo.read_bytes()[:2000])
        one_sentence(run("edit", photo, WORDS), "is damaged or cut off")

    def test_empty_instruction(self, run, photo):
        one_sentence(run("edit", photo, "  "), "`instruction` is empty")

    def test_no_pixels(self, run):
        Path("empty.ppm").write_bytes(b"P6 0 0 255\n")
        one_sentence(run("edit", "empty.ppm", WORDS), "empty.ppm")

    def test_too_wide(self, run):
        Image.new("L", (20_000, 3)).save("wide.png")
        one_sentence(run("edit", "wide.png", WORDS), "20,000 x 3 px", "16,384")

    def test_unknown_model(self, run, photo):
        one_sentence(run("edit", photo, WORDS, "--model", "./nowhere"), "No model folder at")

    def test_folder_without_model(self, run, photo, tmp_path):
        (tmp_path / "junk").mkdir()
        one_sentence(run("edit", photo, WORDS, "--model", "junk"), "no model_index.json")

    def test_no_default_model(self, run, photo, monkeypatch, tmp_path):
        from insightedit.pipelines import loading

        monkeypatch.setattr(loading, "DEFAULT_MODEL", tmp_path / "none")
        one_sentence(run("edit", photo, WORDS), "No default model")

    def test_no_such_device(self, run, photo):
        one_sentence(run("edit", photo, WORDS, "--device", "toaster"), "is no device")

    def test_output_is_the_source(self, run, photo):
        before = photo.read_bytes()
        one_sentence(run("edit", photo, WORDS, "-o", photo), "is the source itself")
        assert photo.read_bytes() == before

    def test_output_kind(self, run, photo):
        one_sentence(run("edit", photo, WORDS, "-o", "out.docx"), "Cannot write 'out.docx'")

    def test_output_folder_is_missing(self, run, photo):
        one_sentence(run("edit", photo, WORDS, "-o", "no/out.png"), "No folder no")

    def test_mask_of_another_size(self, run, photo):
        Image.new("L", (5, 5)).save("mask.png")
        one_sentence(run("edit", photo, WORDS, "--mask", "mask.png"), "5 x 5 px and the picture 50 x 30")

    def test_mask_without_lock(self, run, photo):
        Image.new("L", (50, 30)).save("m.png")
        one_sentence(run("edit", photo, WORDS, "--mask", "m.png", "--no-background-lock"), "drop one of the two")

    def test_bad_settings(self, run, photo):
        one_sentence(run("edit", photo, WORDS, "--steps", 0), "Invalid value '0' for '--steps'")
        one_sentence(run("edit", photo, WORDS, "--seed", -5), "Invalid value '-5' for '--seed'")

    def test_empty_folder(self, run, tmp_path):
        (tmp_path / "album").mkdir()
        one_sentence(run("edit", "album", WORDS), "No pictures in album")

    def test_report_of_a_folder(self, run, photo, tmp_path):
        one_sentence(run("edit", tmp_path, WORDS, "--report", "r.html"), "are for one picture")

    def test_a_mistake_leaves_the_old_output(self, run, photo):
        Path("out.png").write_bytes(b"precious")
        one_sentence(run("edit", photo, WORDS, "-o", "out.png", "--steps", 0))
        assert Path("out.png").read_bytes() == b"precious"

    def test_export_without_a_run(self, run):
        one_sentence(run("export", "nowhere", "-o", "model"), "No config.yaml in nowhere")


def test_info(run, tiny_folder):
    result = run("info")
    assert result.exit_code == 0
    assert "diffusers" in result.output
    assert str(tiny_folder) in result.output.replace("\n", "")


def test_info_tells_what_a_model_can_do(run, tiny_folder, tmp_path):
    from insightedit.pipelines.loading import describe_model

    told = describe_model()
    assert told["refusals"] == "none: it makes something of every request"
    assert told["confidence"].startswith("not calibrated")
    assert "nobody knows which" in run("info", "--words").stdout
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    found = {
        "weights": {},
        "bias": 0.0,
        "threshold": 0.25,
        "data": "9 scenes",
        "decided_right": 0.5,
        "held_back": 0.04,
    }
    index |= {
        "known_words": "a dog darker cat the",
        "refusals": "there is no|i cannot",
        "confidence_calibration": found,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    told = describe_model(folder)
    assert told["tasks"] == "remove, replace, recolour, add, resize, photometric"
    assert set(told["things"].split(", ")) == {"cat", "dog"}
    assert told["operations"] == "darker (of the whole picture)"
    assert told["words"].startswith("5: ")
    assert told["refusals"] == 'what it answers with "there is no ..." or "i cannot ..." is not drawn'
    assert told["confidence"] == (
        "below 0.25 nothing is drawn, 50.0 % of the requests decided right, 4.0 % of the right edits held back "
        "(calibrated on 9 scenes)"
    )
    assert run("info", "--words", "--model", folder).stdout == "a dog darker cat the\n"


def test_info_without_default_model(run, monkeypatch, tmp_path):
    from insightedit.pipelines import loading

    monkeypatch.setattr(loading, "DEFAULT_MODEL", tmp_path / "none")
    result = run("info")
    assert result.exit_code == 0
    assert "No default model" in result.output


def test_version(run):
    result = run("--version")
    assert result.exit_code == 0
    assert result.output.startswith("insightedit ")


def test_eval_hands_over(run):
    result = run("eval", "scenes", "--help")
    assert result.exit_code == 0
    assert "--count" in result.output


def test_help_is_quick_and_light():
    root = Path(__file__).parents[2]
    code = "import sys, insightedit.cli.main; print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    command = [sys.executable, "-m", "insightedit", "--help"]
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        shown = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - started)
    assert "edit" in shown.stdout
    assert min(seconds) < 2.0  # 0.4 s on an idle machine
