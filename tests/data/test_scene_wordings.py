"""Sources that tell the same scenes in other words, for studies of what wordings bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from insightedit.config.load import ConfigError
from insightedit.config.schema import SourceConfig
from insightedit.datasets.sources import build_source
from insightedit.scenes import SceneSampler
from insightedit.scenes.wordings import TEMPLATES
from insightedit.training.miniatures.loop import scene_samplers
from tests.data_recipes.conftest import pack_entries, write_pack

COUNT = 24


def source(kind: str = "scenes", style: str | None = None):
    return build_source(SourceConfig(kind=kind, style=style), size=32, seed=0)


@pytest.mark.parametrize("style", ["simple", "advanced"])
def test_a_style_changes_the_words_and_not_the_pictures(style: str) -> None:
    told = SceneSampler("train", 32, style=style)
    assert {told[i].style for i in range(COUNT)} == {style}
    plain = SceneSampler("train", 32)
    assert {plain[i].style for i in range(COUNT)} == {"simple", "advanced"}
    records = source(style=style)
    for index in range(COUNT):
        assert told[index].scene == plain[index].scene and told[index].edit == plain[index].edit
        assert records[index].instruction == told[index].instruction
    np.testing.assert_array_equal(records[3].source_image, plain[3].source)
    assert any(told[i].instruction != plain[i].instruction for i in range(COUNT))


def test_every_task_has_wordings_of_both_styles_held_out_ones_too() -> None:
    for task, templates in TEMPLATES.items():
        for split in ("train", "val", "test"):
            assert {t.style for t in templates if t.split == split} == {"simple", "advanced"}, task


def test_resolved_words_are_the_expressive_instruction_alone() -> None:
    sample, record = SceneSampler("train", 32)[7], source("resolved_words")[7]
    assert record.instruction == sample.expressive_instruction
    assert record.reply is None and record.caption is None
    np.testing.assert_array_equal(record.target_image, sample.target)


def test_a_full_description_holds_the_summarised_one() -> None:
    sample, full = SceneSampler("train", 32)[8], source("full_descriptions")[8]
    summarised = source("descriptions")[8]
    assert summarised.reply is not None and full.reply is not None
    assert full.reply == f"{sample.caption_source}, {summarised.reply}, {sample.caption_target}"
    assert (full.instruction, full.caption) == (summarised.instruction, summarised.caption)


def test_a_style_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown style 'curt': choose one of simple, advanced"):
        SceneSampler("train", 32, style="curt")
    with pytest.raises(ConfigError, match="kind `subjects` has no style `simple` to choose: leave `style` out"):
        source("subjects", "simple")


@pytest.mark.parametrize("kind", ["scenes", "subject_edits"])
def test_scenes_stand_on_the_photographs_of_a_pack(kind: str, tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack", pack_entries())
    records = build_source(SourceConfig(kind=kind, pack=str(pack)), size=32, seed=0)
    assert {records.sampler[i].scene.background.photo for i in range(60)} & set("vwx")
    with pytest.raises(FileNotFoundError, match="nowhere holds no metadata.json or metadata.jsonl"):
        build_source(SourceConfig(kind=kind, pack=str(tmp_path / "nowhere")), size=32, seed=0)
    with pytest.raises(ConfigError, match="kind `parquet` stands on no photographs of a `pack`: leave it out"):
        build_source(SourceConfig(kind="parquet", path="x", pack=str(pack)), size=32, seed=0)


def test_miniatures_train_on_the_photographs_of_a_pack(tmp_path: Path) -> None:
    train, val = scene_samplers(32, write_pack(tmp_path / "pack", pack_entries()))
    assert {train[i].scene.background.photo for i in range(60)} & set("vwx")
    assert {val[i].scene.background.photo for i in range(60)} == {"life", "flower", "y"}
    with pytest.raises(ConfigError, match="kind `jsonl` has no style `advanced` to choose"):
        build_source(SourceConfig(kind="jsonl", path="x.jsonl", style="advanced"), size=32, seed=0)
