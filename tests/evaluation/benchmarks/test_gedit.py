"""GEdit-Bench: tables with pictures within, two languages, parquet and arrow."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from insightedit.datasets.tables import ArrowRows
from insightedit.evaluation.benchmarks.base import Benchmark, BenchmarkError
from insightedit.evaluation.benchmarks.gedit import load
from insightedit.evaluation.benchmarks.results import pair_results
from tests.evaluation.benchmarks.layouts_two import gedit_rows, picture, picture_bytes, write_gedit


def facts(benchmark: Benchmark) -> list[tuple]:
    return [(s.sample_id, s.instruction, s.category, s.extra, s.source.read_bytes()) for s in benchmark]


def test_one_language_at_a_time_with_the_pictures_of_the_table(tmp_path: Path) -> None:
    english, chinese = load(write_gedit(tmp_path)), load(tmp_path, split="cn")
    assert [s.sample_id for s in english] == ["en-k2", "en-k1", "en-k0"]  # by group, then by name
    assert [s.category for s in english] == ["style_change", "subject-add", "text_change"]
    assert [s.instruction for s in chinese] == ["换 2", "换 1", "换 0"] and chinese.split == "cn"
    last = english.samples[-1]
    assert last.extra == {"key": "k0", "language": "en", "intersection": "true"}
    assert last.source.read_bytes() == picture_bytes(1) and last.source.parent == tmp_path / "unpacked/gedit"
    assert english.samples[1].extra["intersection"] == "false"
    assert english.samples[1].cluster == last.cluster != english.samples[0].cluster
    assert "3 of the 606 published samples" in " ".join(english.warnings)
    assert not list(tmp_path.rglob("*raw*"))  # what is not needed is not written


def test_arrow_and_parquet_give_the_same_and_the_table_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = load(write_gedit(tmp_path / "a"))
    stream = load(write_gedit(tmp_path / "b", kind="arrow"))
    assert facts(rows) == facts(stream) and rows.version == stream.version
    monkeypatch.setattr(ArrowRows, "row", lambda *_: pytest.fail("the table is read again"))
    assert load(tmp_path / "b") == stream


def test_faults_of_rows(tmp_path: Path) -> None:
    rows = gedit_rows()
    rows[0]["instruction"] = "  "
    rows[2]["input_image"] = {"bytes": None, "path": "a.png"}
    rows[4]["input_image"] = {"bytes": picture_bytes(3)[:-30], "path": None}
    rows[5]["instruction_language"] = "fr"
    with pytest.raises(BenchmarkError) as caught:
        load(write_gedit(tmp_path, rows))
    faults = "\n".join(caught.value.faults)
    assert "en-k0 has an empty `instruction`." in faults
    assert "en-k1 has no picture within the table: download the table again." in faults
    assert "Cut-off source pictures (1): unpacked/gedit/en-k2-input_image.png" in faults
    assert "neither en nor cn: fr." in faults
    assert "stepfun-ai/GEdit-Bench" in str(caught.value)


def test_rows_with_the_same_key(tmp_path: Path) -> None:
    rows = gedit_rows()
    rows[2]["key"] = "k0"
    with pytest.raises(BenchmarkError, match="have the same number"):
        load(write_gedit(tmp_path, rows))


def test_what_is_no_table_of_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchmarkError, match=r"It holds no [*].parquet and no [*].arrow file."):
        load(tmp_path / "empty")
    both = write_gedit(write_gedit(tmp_path / "both"), kind="arrow")
    with pytest.raises(BenchmarkError, match="keep one of the two, or samples would occur twice"):
        load(both)
    bare = [{name: row[name] for name in ("key", "instruction")} for row in gedit_rows()]
    with pytest.raises(BenchmarkError, match="train-00000-of-00002.parquet has no column task_type, instruction_la"):
        load(write_gedit(tmp_path / "other", bare))
    damaged = write_gedit(tmp_path / "damaged", kind="arrow")
    (damaged / "data-00000-of-00001.arrow").write_bytes(b"no stream")
    with pytest.raises(BenchmarkError, match="arrow is no whole arrow file"):
        load(damaged)
    with pytest.raises(ValueError, match="GEdit-Bench has no split 'all': choose one of en, cn"):
        load(damaged, split="all")


def test_oddities_are_warnings(tmp_path: Path) -> None:
    rows = gedit_rows()[:-1]
    rows[0]["task_type"] = "new_group"
    warnings = " ".join(load(write_gedit(tmp_path, rows)).warnings)
    assert "Groups that are not published are here: new_group." in warnings
    assert "3 English and 2 Chinese instructions are here: one is incomplete." in warnings


def test_pictures_are_whole(tmp_path: Path) -> None:
    for sample in load(write_gedit(tmp_path)):
        with Image.open(sample.source) as opened:
            assert opened.size == (12, 8)


def test_results_in_the_published_tree_are_found(tmp_path: Path) -> None:
    benchmark = load(write_gedit(tmp_path / "data"))
    for sample in benchmark:
        place = tmp_path / "results/fullset" / sample.category / "en"
        picture(place / f"{sample.extra['key']}.png")
        picture(place / f"{sample.extra['key']}_SRCIMG.png")
    results = pair_results(tmp_path / "results", benchmark)
    assert results.paths["en-k0"] == tmp_path / "results/fullset/text_change/en/k0.png" and len(results.paths) == 3
    assert "3 pictures belong to no sample and are left out" in results.warnings[0]
