"""Columns by their published names, by the user's, or refused; what an expressive model learns without words."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from insightedit.config.load import ConfigError, load_config
from insightedit.config.schema import SourceConfig
from insightedit.datasets.sources import build_source
from insightedit.training.data import build_mixture
from tests.data.layout_files import png


def written(root: Path, *names: str, **more: object) -> Path:
    root.mkdir(exist_ok=True)
    for name, seed in (("a.png", 1), ("b.png", 2)):
        (root / name).write_bytes(png(seed))
    row = dict(zip(names, ("a.png", "b.png", "do\u2028it"), strict=True))
    (root / "train.jsonl").write_text(json.dumps({**row, **more}, ensure_ascii=False) + "\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "names",
    [
        ("before", "result", "instruction"), ("edit_image", "image", "prompt"), ("image", "target", "instruction"),
        ("original_image", "edited_image", "edit_prompt"), ("image_file", "edited_file", "edit"),
        ("Input Image", "output-image", "Text"), ("src_img", "edited_img", "edited_prompt_list"),
    ],
)  # fmt: skip
def test_published_names_are_known(tmp_path, names):
    record = build_source(SourceConfig(kind="jsonl", path=str(written(tmp_path, *names))), size=32, seed=0)[0]
    assert record.instruction == "do it"
    assert (record.source_image != record.target_image).any()


def test_unknown_names_are_refused_and_can_be_told(tmp_path):
    written(tmp_path, "one", "two", "three")
    with pytest.raises(
        ConfigError, match=r"has the columns one, two, three; none .*columns: {source: YOUR_COLUMN, target"
    ):
        build_source(SourceConfig(kind="jsonl", path=str(tmp_path)), size=32, seed=0)
    told = {"source": "one", "target": "two", "instruction": "three"}
    source = build_source(SourceConfig(kind="jsonl", path=str(tmp_path), columns=told), size=32, seed=0)
    assert source[0].is_edit
    for wrong, sentence in (
        ({"sauce": "one"}, "columns names 'sauce'"),
        ({"source": "zero"}, "columns names 'zero' as source"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            build_source(SourceConfig(kind="jsonl", path=str(tmp_path), columns={**told, **wrong}), size=32, seed=0)
    with pytest.raises(ConfigError, match="kind `folders` has no columns to name"):
        build_source(SourceConfig(kind="folders", path=str(tmp_path), columns=told), size=32, seed=0)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    written(tmp_path, "source", "target", "instruction")
    (tmp_path / "train.jsonl").rename(tmp_path / "dev-00000-of-00001.jsonl")
    with pytest.raises(ConfigError, match="has the splits dev, not `test`: name one of them"):
        build_source(SourceConfig(kind="jsonl", path=str(tmp_path), split="test"), size=32, seed=0)
    with pytest.raises(ConfigError, match="has the splits dev, not `train`"):
        build_source(SourceConfig(kind="jsonl", path=str(tmp_path)), size=32, seed=0)


@pytest.mark.parametrize(
    ("more", "reply"), [({}, "do it"), ({"expressive_instruction": "a dog sits there"}, "a dog sits there")]
)
def test_an_expressive_model_speaks_before_every_edit(tmp_path, more, reply):
    written(tmp_path, "source", "target", "instruction", **more)
    words = [f"data.sources=[{{kind: jsonl, path: {tmp_path}}}]"]
    assert build_mixture(load_config("mgie", 3, ["tiny"], words))[0].reply == reply
    assert build_mixture(load_config("insightedit", 3, ["tiny"], words))[0].reply is None


def test_what_a_recipe_cannot_use_is_skipped_and_named(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    written(tmp_path, "source", "target", "instruction")
    good = (tmp_path / "train.jsonl").read_text(encoding="utf-8")
    drawn = {"source": None, "target": "b.png", "instruction": "a <imagehere>", "references": ["a.png"]}
    (tmp_path / "train.jsonl").write_text(good + json.dumps(drawn), encoding="utf-8")
    mixture = build_mixture(
        load_config("insightedit", 3, ["tiny"], [f"data.sources=[{{kind: jsonl, path: {tmp_path}}}]"])
    )
    assert {mixture[index].key for index in range(12)} == {"jsonl/train-000000"}
    assert "has no source picture, and this recipe edits one" in caplog.text
