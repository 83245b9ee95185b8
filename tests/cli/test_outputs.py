"""Nothing that somebody has is destroyed: inputs, other outputs, files of others, outputs of earlier runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from insightedit.cli.edit_jobs import plan_edits
from insightedit.files import check_outside
from tests.cli.test_cli import WORDS, one_sentence, photo, run

__all__ = ["photo", "run"]
ROOT = Path(__file__).parents[2]


def picture(path: str | Path, seed: int = 0) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return Path(path)


@pytest.fixture
def inputs(run, photo) -> dict[str, bytes]:
    """Picture, mask and reference, also under names that lead to them."""
    picture("dog.png", 1)
    Image.new("L", (50, 30), 255).save("mask.png")
    Path("alias.png").symlink_to("mask.png")
    os.link("dog.png", "hard.png")
    Path("here").symlink_to(Path.cwd())
    return {path.name: path.read_bytes() for path in Path().glob("*.png")}


@pytest.mark.parametrize("option", ["-o", "--report", "--before-after"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mask.png", "--mask mask.png"),
        ("alias.png", "--mask mask.png"),
        ("hard.png", "--reference dog.png"),
        ("here/dog.png", "--reference dog.png"),
    ],
)
def test_an_output_that_is_an_input_is_refused_before_work(run, inputs, option, name, told):
    given = ["--mask", "mask.png", "--reference", "dog.png"]
    result = run("edit", "photo.png", WORDS, "-o", "out.png", *given, option, name, "--overwrite")
    one_sentence(result, name, told, "is the same file as")
    assert {path.name: path.read_bytes() for path in Path().glob("*.png")} == inputs


@pytest.mark.parametrize("option", ["-o", "--report", "--before-after"])
@pytest.mark.parametrize("name", ["photo.png", "here/photo.png", "link.png"])
def test_the_source_itself(run, inputs, option, name):
    Path("link.png").symlink_to("photo.png")
    one_sentence(run("edit", "photo.png", WORDS, option, name, "--overwrite"), f"{name} is the source itself")
    assert Path("photo.png").read_bytes() == inputs["photo.png"]


@pytest.mark.parametrize(("option", "name"), [("--report", "new.png"), ("--before-after", "./NEW.png")])
def test_two_outputs_of_one_name_are_refused(run, photo, option, name):
    one_sentence(run("edit", photo, WORDS, "-o", "new.png", option, name), "is the same file as the output new.png")
    assert not Path("new.png").exists()


@pytest.mark.parametrize(("option", "name"), [("-o", "a.png"), ("--report", "a.html"), ("--before-after", "a.jpg")])
def test_files_of_others_stay(run, photo, option, name):
    Path(name).write_bytes(b"precious")
    call = ("edit", photo, WORDS, "-o", "o.png", "--steps", 1, option, name)
    one_sentence(run(*call), f"{name} is there and was not written by insightedit", "--overwrite")
    assert Path(name).read_bytes() == b"precious" and not Path("o.png").exists()
    assert run(*call, "--overwrite").exit_code == 0
    assert Path(name).read_bytes() != b"precious"
    assert run(*call).exit_code == 0  # what an earlier edit wrote


def test_the_default_name_may_be_taken(run, photo):
    Path("photo-edited.png").write_bytes(b"precious")
    one_sentence(run("edit", photo, WORDS), "photo-edited.png is there")
    Path("photo-edited.png").write_bytes(b"")  # `mktemp` makes such
    assert run("edit", photo, WORDS, "--steps", 1).exit_code == 0


def test_a_single_output_may_be_kept(run, photo):
    Path("a.png").write_bytes(b"precious")
    result = run("edit", photo, WORDS, "-o", "a.png", "--skip-existing")
    assert result.exit_code == 0 and "a.png was there already and is kept" in result.output
    assert Path("a.png").read_bytes() == b"precious"


def test_outputs_of_a_folder_are_kept(run):
    for name in ("a", "b", "c"):
        picture(f"album/{name}.png")
    picture("out/b.png", 5)
    before = Path("out/b.png").read_bytes()
    result = run("edit", "album", WORDS, "-o", "out", "--steps", 1, "--seed", 1)
    assert result.exit_code == 0, result.output
    assert "1 were there already and are kept, e.g. out/b.png (--overwrite replaces them)" in result.output
    assert Path("out/b.png").read_bytes() == before and len(list(Path("out").iterdir())) == 3
    again = run("edit", "album", WORDS, "-o", "out", "--steps", 1)
    assert again.exit_code == 0 and "3 were there already" in again.output and "loaded" not in again.output
    assert run("edit", "album", WORDS, "-o", "out", "--steps", 1, "--seed", 1, "--overwrite").exit_code == 0
    assert Path("out/b.png").read_bytes() != before


def test_pictures_of_a_folder_have_names_of_their_own(tmp_path):
    names = ["a.png", "a.png.png", "a.jpg", "A.JPG", "b.webp", "B.png", "c.png", "é.png", "e\u0301.png"]
    for name in names:
        picture(tmp_path / "album" / name)
    jobs = plan_edits(tmp_path / "album", tmp_path / "out").jobs
    outputs = [job.output.name for job in jobs]
    assert len({name.casefold() for name in outputs}) == len(names)
    assert "c.png" in outputs and not (tmp_path / "out").exists()


def test_what_is_passed_over_is_told(run):
    picture("album/a.png")
    picture("album/sub/b.png")
    Path("album/._a.png").write_bytes(b"mac")
    Path("album/notes.txt").write_text("")
    result = run("edit", "album", WORDS, "-o", "out", "--steps", 1)
    assert "Passed over, since no pictures by their endings: 2 (notes.txt, sub)" in result.output


def test_the_folder_one_stands_in(run, monkeypatch):
    picture("album/a.png")
    monkeypatch.chdir("album")
    assert run("edit", ".", WORDS, "--steps", 1).exit_code == 0
    assert [path.name for path in Path("../album-edited").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--seed", -1), "--seed"),
        (("--seed", 2**70), "--seed"),
        (("--steps", 0), "--steps"),
        (("--guidance-scale", -1), "--guidance-scale"),
        (("--image-guidance-scale", "nan"), "--image-guidance-scale"),
        (("--image-prompt-scale", "inf"), "--image-prompt-scale"),
        (("--mask", "mask.png", "--no-background-lock"), "drop one of the two"),
        (("--mask", "small.png"), "5 x 5 px"),
        (("-o", "a" * 260 + ".png"), "too long a name"),
    ],
)
def test_numbers_are_refused_before_the_model_is_loaded(run, photo, given, told):
    Image.new("L", (50, 30), 255).save("mask.png")
    Image.new("L", (5, 5), 255).save("small.png")
    result = run("edit", photo, WORDS, *given)
    one_sentence(result, told)
    assert "loaded" not in result.output


def test_the_default_by_name(run, photo):
    assert run("edit", photo, WORDS, "--model", "default", "--steps", 1, "-o", "o.png").exit_code == 0


def test_settings_far_from_the_model_s_own_are_told(run, photo):
    result = run("edit", photo, WORDS, "--steps", 9, "--guidance-scale", 20, "-o", "o.png")
    told = "the settings are far from what the model was made for: 9 steps (made for 2), guidance scale 20"
    assert result.exit_code == 0 and told in " ".join(result.stderr.split())
    assert run("edit", photo, WORDS, "--steps", 9, "-o", "o2.png", "--strict").exit_code == 3


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stop_in_a_folder_counts_what_is_written(tiny_folder, tmp_path, number, code):
    for name in range(30):
        picture(tmp_path / f"album/{name:02}.png", name)
    command = [sys.executable, "-m", "insightedit", "edit", "album", WORDS, "--model", str(tiny_folder), "-o", "out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a suite in the background of a shell inherits that SIGINT is ignored, and hands that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines[2].startswith("out/"), lines
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert process.returncode == code
    assert files == [f"{name:02}.png" for name in range(len(files))] and 2 <= len(files) < 30
    assert f"stopped; {len(files)} files were written before that, the last is out/{files[-1]}." in told


def test_info_says_one_thing_a_line(run):
    told = run("info", "--model", ROOT / "insightedit/weights/default").output
    assert all(len(line) <= 100 or "/" in line for line in told.splitlines()), told
    assert "  steps       1" in told.splitlines()


def test_a_sheet_never_replaces_a_picture_of_the_data(run):
    from insightedit.images.sheets import Sheet, write_pair_sheet

    Path("data").mkdir()
    picture("data/a.png")
    one_sentence(run("doctor", "data", "data", "--sheet", "data/a.png"), "was not written by insightedit")
    write_pair_sheet(Sheet("title"), Path("data/b.png"))
    before = Path("data/b.png").read_bytes()
    one_sentence(run("doctor", "data", "data", "--sheet", "data/b.png"), "lies in the data data")
    assert Path("data/b.png").read_bytes() == before
    one_sentence(run("data", "preview", "insightedit", "--sheet", "data/a.png"), "was not written by insightedit")
    write_pair_sheet(Sheet("other"), Path("data/b.png"))  # its own earlier output, elsewhere a free place


@pytest.mark.parametrize("out", ["pairs", "pairs/out", "link/out"])
def test_what_a_recipe_writes_lies_outside_of_what_it_reads(run, out):
    from data_recipes.formats.cli import app as formats

    Path("pairs").mkdir()
    Path("link").symlink_to("pairs")
    picture("pairs/a.png")
    Path("pairs/pairs.jsonl").write_text('{"source": "a.png", "target": "a.png", "instruction": "b"}\n')
    with pytest.raises(ValueError, match="lies in the source pairs, which is read"):
        check_outside("--out", out, "the source", "pairs")
    result = CliRunner().invoke(formats, ["pairs", "--kind", "jsonl", "--to", "magicbrush", "-o", "pairs/out"])
    one_sentence(result, "--out pairs/out lies in the source pairs")
