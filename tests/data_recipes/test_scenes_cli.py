from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_recipes.scenes.cli import app, contact_sheet
from data_recipes.scenes.writer import MANIFEST
from insightedit.images.sheets import GAP, HEADER, MARGIN, wrap
from insightedit.scenes import SceneSampler


def run(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def sentence(result) -> str:
    """The one line that a user's mistake ends in."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("insightedit: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_one_command_writes_a_data_set(tmp_path, format):
    out = tmp_path / "a" / "b"
    options = ("--out", out, "--count", 5, "--size", 16, "--split", "val", "--shard-size", 4, "--format", format)
    done = run(*options)
    assert done.exit_code == 0, done.output
    assert "Wrote 5 pairs in 2 files" in done.stdout
    assert (out / MANIFEST).is_file() and (out / "README.md").is_file()
    assert run(*options).exit_code == 0
    assert "was begun with seed 0 (now 1)" in sentence(run(*options, "--seed", 1))


def test_a_pack_of_ones_own(tmp_path, pack):
    done = run("--out", tmp_path / "own", "--count", 2, "--size", 16, "--assets", pack)
    assert done.exit_code == 0, done.output
    assert "license: other" in (tmp_path / "own" / "README.md").read_text()


def test_a_sheet_to_look_at(tmp_path):
    done = run("--sheet", tmp_path / "look.png", "--size", 32, "--split", "test")
    assert done.exit_code == 0, done.output
    picture = np.asarray(Image.open(tmp_path / "look.png"))
    sample = SceneSampler("test", 32)[0]
    enlarged = np.kron(sample.source, np.ones((4, 4, 1), dtype=np.uint8))
    tile = picture[HEADER : HEADER + 128, MARGIN : MARGIN + 128]
    assert np.array_equal(tile, enlarged), "the first tile is the first source"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"--split": "dev"}, "split is 'dev': choose one of train, val, test"),
        ({"--count": 0}, "count is 0: choose 1 to 1000000000"),
        ({"--size": 8}, "size is 8: choose 16 to 1024"),
        ({"--format": "zip"}, "format is 'zip': choose one of webdataset, parquet"),
        ({"--assets": "nowhere"}, "nowhere holds no metadata.json or metadata.jsonl"),
        ({"--sheet": "look.jpg"}, "the sheet look.jpg has to be a file that ends in .png."),
        ({"--sheet": "none/look.png"}, "no folder none for the sheet"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path, options, message):
    given = {"--out": tmp_path / "out", "--count": 2, "--size": 16, **options}
    assert message in sentence(run(*(part for option in given.items() for part in option)))
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    assert "file is a file: name a folder" in sentence(run("--out", tmp_path / "file", "--count", 1))
    assert "file is a file: name a folder" in sentence(run("--out", tmp_path / "file" / "below", "--count", 1))
    assert "holds files but no manifest.json" in sentence(run("--out", tmp_path, "--count", 1))
    (tmp_path / "dir.png").mkdir()
    assert "dir.png has to be a file that ends in .png." in sentence(run("--sheet", tmp_path / "dir.png"))


def test_something_must_be_asked_for():
    assert "nothing to do: name a folder with --out" in sentence(run("--count", 3))


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    told = sentence(run("--out", tmp_path / "out", "--count", 1, "--size", 16, "--format", "parquet"))
    assert "pyarrow is not installed" in told and "pip install 'insightedit[data]'" in told


def test_a_stop_tells_how_to_go_on(tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("data_recipes.scenes.cli.write_dataset", stop)
    result = run("--out", tmp_path / "out", "--count", 1)
    assert result.exit_code == 130
    assert "the same command goes on from the last whole file" in result.stderr


def test_help_teaches_by_examples():
    text = run("--help").stdout
    for words in ("--start-index", "--shard-size", "--out data/train --count 10000", "Examples:", "goes on where"):
        assert words in text


def test_a_sheet_needs_samples():
    with pytest.raises(ValueError, match="a contact sheet needs at least one sample"):
        contact_sheet([], "none")


def test_tiles_and_lines_fit():
    sheets = [contact_sheet([SceneSampler("train", size)[0]], "") for size in (16, 32, 64, 100, 128, 256, 512)]
    assert [(sheet.width - 2 * MARGIN + GAP) // 3 - GAP for sheet in sheets] == [128, 128, 128, 100, 128, 256, 256]
    assert wrap("remove the dog", 400) == ["remove the dog"]
    lines = wrap("word " * 100, 200)
    assert len(lines) == 3 and lines[2].endswith(" ...")
