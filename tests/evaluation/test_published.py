"""The papers' numbers: complete, consistent with each other, and printed as the papers print them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from insightedit.evaluation.core.protocols import PROTOCOLS
from insightedit.evaluation.reporting.published import (
    COMPARABLE,
    RESULTS,
    PublishedBenchmark,
    PublishedColumn,
    PublishedTable,
    load_published,
)
from insightedit.evaluation.reporting.table_formatting import to_latex, to_markdown
from insightedit.evaluation.reporting.tables import published_table

PUBLISHED = load_published()
SHARED = ("PSNR", "SSIM", "LPIPS", "CLIPScore")

# As printed in InsightEdit, Table 2: bold is best, underlined second.
TABLE_2 = """
Methods | VIEScore↑ | CLIPScore↑ | PSNR↑ | SSIM↑ | LPIPS↓
InstructPix2Pix | 0.342 | 19.528 | 20.192 | 0.694 | 0.182
MagicBrush | 0.352 | 19.751 | <u>22.636</u> | **0.743** | 0.132
InstructDiffusion | 0.318 | 19.390 | 18.025 | 0.624 | 0.223
MGIE | 0.361 | 19.047 | 20.074 | 0.691 | 0.199
SmartEdit-7B | 0.682 | 20.114 | 20.115 | 0.651 | 0.131
InsightEdit | <u>0.738</u> | <u>20.395</u> | 21.267 | 0.675 | <u>0.112</u>
InsightEdit with AdvancedEdit | **0.831** | **21.002** | **22.871** | <u>0.716</u> | **0.071**
"""


def rows(text: str) -> list[list[str]]:
    lines = [line.strip().strip("|") for line in text.strip().splitlines()]
    return [[cell.strip() for cell in line.split("|")] for line in lines if "|" in line and "---" not in line]


def column(table: PublishedTable, key: str, part: str | None = None) -> PublishedColumn:
    return next(one for one in table.columns if one.key == key and part in (None, one.benchmark.name))


def value(table: PublishedTable, method: str, key: str, part: str | None = None) -> Any:
    (row,) = [one for one in table.rows if one.method == method]
    return row.values.get((column(table, key, part).benchmark.name, key))


def test_the_file_travels_with_the_package() -> None:
    found = resources.files("insightedit.evaluation.reporting").joinpath("published_results.yaml")
    assert found.read_bytes() == RESULTS.read_bytes()
    endings = (Path(__file__).parents[2] / "setup.py").read_text("utf-8").split("DATA = ")[1].split(")")[0]
    assert f'"{RESULTS.suffix[1:]}"' in endings


def test_all_rows_are_in_tables() -> None:
    assert [(one.paper, one.number, len(one.rows)) for one in PUBLISHED.tables] == [
        ("mige", "1", 13),
        ("mige", "2", 9),
        ("mige", "3a", 10),
        ("mige", "3b", 10),
        ("mige", "4", 9),
        ("insightedit", "1", 8),
        ("insightedit", "2", 7),
        ("insightedit", "3", 7),
        ("insightedit", "4", 2),
        ("insightedit", "5", 3),
        ("smartedit_suppl", "1", 5),
        ("smartedit_suppl", "2", 6),
    ]
    both = sum(len({key[0] for key in row.values}) for table in PUBLISHED.tables for row in table.rows)
    assert both == 114


@pytest.mark.parametrize("table", PUBLISHED.tables, ids=lambda table: f"{table.paper}-{table.number}")
def test_every_method_row_is_complete(table: PublishedTable) -> None:
    for row in table.rows:
        missing = [c.key for c in table.columns if (c.benchmark.name, c.key) not in row.values]
        assert missing == (["subj_DINO", "subj_CLIP_I"] if row.method == "I-O sim" else [])
        for value in row.values.values():
            assert isinstance(value, bool | int | float)


def test_shared_rows_of_insightedit_are_equal() -> None:
    two, four, five = (PUBLISHED.table("insightedit", number) for number in "245")
    plain, full = "InsightEdit", "InsightEdit with AdvancedEdit"
    for key in SHARED:
        assert value(two, plain, key) == value(five, "InsightEdit (no SimpleEdit, no AdvancedEdit)", key)
        assert value(two, full, key) == value(four, "InsightEdit+AdvancedEdit with IAA", key)
        assert value(two, full, key) == value(five, "InsightEdit + AdvancedEdit", key)
    ratios = [
        value(five, "InsightEdit (no SimpleEdit, no AdvancedEdit)", "VIEScore") / value(two, plain, "VIEScore"),
        value(five, "InsightEdit + AdvancedEdit", "VIEScore") / value(two, full, "VIEScore"),
    ]
    assert ratios[0] != pytest.approx(ratios[1], abs=0.3)  # two scales, and no factor between them


def test_smartedit_is_the_same_in_both_papers() -> None:
    theirs, ours = PUBLISHED.table("smartedit_suppl", "1"), PUBLISHED.table("insightedit", "3")
    for part in ("reason_edit_understanding", "reason_edit_reasoning"):
        for key in SHARED:
            printed = column(theirs, key, part)
            first = value(theirs, "Exp4 SmartEdit-7B (QFormer + BIM)", key, part)
            second = value(ours, "SmartEdit-7B", key, part)
            assert printed.text(first) == printed.text(second), (part, key)


def test_one_table_is_reproduced_mark_by_mark() -> None:
    printed = to_markdown(published_table(PUBLISHED.table("insightedit", "2")))
    assert rows(printed) == rows(TABLE_2)


def test_two_benchmarks_stand_side_by_side() -> None:
    printed = rows(to_markdown(published_table(PUBLISHED.table("mige", "1"))))
    metrics = ["DINO↑", "CLIP-I↑", "CLIP-T↑", "CLIP_dir↑", "L1↓", "L2↓"]
    assert printed[0] == ["", "", "Emu Edit Test set", *[""] * 5, "MagicBrush Test set", *[""] * 5]
    assert printed[1] == ["", "Methods", *metrics, *metrics]
    assert printed[2][:4] == ["Task-specific Models", "InstructPix2Pix", "0.759", "0.831"]
    assert [row[0] for row in printed[3:8]] == ["", "", "", "", "Unified Models"]
    mige = next(row for row in printed if row[1] == "MIGE")
    assert mige[8:] == ["**0.889**", "**0.905**", "**0.306**", "0.119", "<u>0.055</u>", "<u>0.013</u>"]
    ablation = next(row for row in printed if row[1] == "MIGE /wo_multimodal instruction")
    assert ablation[11] == "0.135"  # the highest CLIP_dir, but an ablation is not ranked


def test_decimals_spans_ticks_and_volumes_are_as_printed() -> None:
    smartedit = rows(to_markdown(published_table(PUBLISHED.table("smartedit_suppl", "1"))))
    assert smartedit[0][1:7] == ["Understanding Scenarios", "", "", "", "", "Reasoning Scenarios"]
    assert smartedit[1][1:6] == ["PSNR(dB)↑", "SSIM↑", "LPIPS↓", "CLIP Score↑", "Ins-align↑"]
    assert smartedit[4][1:5] == ["21.848", "<u>0.728</u>", "<u>0.089</u>", "23.40"]
    subjects = rows(to_markdown(published_table(PUBLISHED.table("mige", "3b"))))
    assert subjects[0] == ["", "", "Editing", "", "", "Subject Preserving", ""]
    assert subjects[2] == ["", "I-O sim", "0.783", "0.903", "0.295", "–", "–"]
    datasets = rows(to_markdown(published_table(PUBLISHED.table("insightedit", "1"))))
    assert datasets[0][:3] == ["Dataset", "Editing Pairs", "Resolution"]
    assert datasets[3] == ["HIVE", "1,100,000+", "512²", "✗", "✗", "✗", "✓"]
    volumes = rows(to_markdown(published_table(PUBLISHED.table("mige", "4"))))
    assert [row[-1] for row in volumes[1:5]] == ["3M", "16M", "3159.3M", "304.3M"]


@pytest.mark.parametrize("table", PUBLISHED.tables, ids=lambda table: f"{table.paper}-{table.number}")
def test_every_table_prints_in_both_languages(table: PublishedTable) -> None:
    grid = published_table(table)
    assert table.source in to_markdown(grid)
    assert to_latex(grid).count(r"\\") >= len(table.rows) + 1


def test_comparability_is_said_for_every_measured_column() -> None:
    for table in PUBLISHED.tables:
        for column in table.columns:
            rule = column.comparability
            assert (rule is not None) == bool(column.benchmark.bench)
            if rule is not None:
                assert rule.status in COMPARABLE and rule.is_ranked == bool(rule.protocol)
                assert rule.status == "same" or rule.warnings, (table.number, column.key)


def test_the_protocols_named_measure_these_columns() -> None:
    for table in PUBLISHED.tables:
        for column in table.columns:
            if column.comparability and column.comparability.protocol:
                protocol = PROTOCOLS[column.comparability.protocol]
                assert column.benchmark.bench in protocol.benchmarks, column.key
                assert (column.key, "paper") in {(rule.name, rule.variant) for rule in protocol.rules}


def test_what_is_never_comparable() -> None:
    never = {
        (table.paper, table.number, column.benchmark.name, column.key)
        for table in PUBLISHED.tables
        for column in table.columns
        if column.comparability and not column.comparability.is_ranked
    }
    assert never == {
        *(("insightedit", number, "advancededit_eval", "VIEScore") for number in "245"),
        *(("insightedit", "3", f"reason_edit_{part}", "VIEScore") for part in ("understanding", "reasoning")),
        *(("smartedit_suppl", "1", f"reason_edit_{part}", "Ins_align") for part in ("understanding", "reasoning")),
        *(("smartedit_suppl", "2", "magicbrush_test", key) for key in ("CLIP_T", "DINO_I")),
        *(("mige", "1", "magicbrush_test", key) for key in ("CLIP_T", "CLIP_dir")),
    }


def test_source_and_target_referenced_columns_name_different_rules() -> None:
    theirs = column(PUBLISHED.table("mige", "1"), "CLIP_I", "magicbrush_test").comparability
    others = column(PUBLISHED.table("smartedit_suppl", "2"), "CLIP_I").comparability
    assert theirs.protocol != others.protocol
    assert "SOURCE" in " ".join(theirs.warnings) and "TARGET" in " ".join(others.warnings)


def test_every_declared_name_is_used() -> None:
    entries = yaml.safe_load(RESULTS.read_text("utf-8"))
    assert {name for one in entries["comparability"] for name in one["warnings"]} == set(entries["warnings"])
    keys = {
        (t.paper, t.number, c.key, c.benchmark.name) for t in PUBLISHED.tables for c in t.columns if c.benchmark.bench
    }
    for one in entries["comparability"]:
        for key in one["metrics"]:
            assert any(
                known[:3] == (one["paper"], one["table"], key) and one.get("benchmark", known[3]) == known[3]
                for known in keys
            ), (one["paper"], one["table"], key)


@pytest.mark.parametrize(
    ("bench", "category", "name"),
    [
        ("reason-edit", "6-Reasoning", "reason_edit_reasoning"),
        ("reason_edit", "5-Multiple-Objects", "reason_edit_understanding"),
        ("migebench", "add", "migebench_add"),
        ("migebench", "replace", "migebench_replace"),
        ("magicbrush", "", "magicbrush_test"),
        ("emu-edit", "color", "emu_edit_test"),
        ("dreambench", "live", "dreambench"),
        ("advancededit", "remove", "advancededit_eval"),
        ("gedit", "style", None),
    ],
)
def test_our_records_find_their_column(bench: str, category: str, name: str | None) -> None:
    found = [one.name for one in PUBLISHED.benchmarks.values() if one.holds(bench, category)]
    assert found == ([name] if name else [])


def test_tables_on_a_benchmark() -> None:
    assert [(one.paper, one.number) for one in PUBLISHED.tables_beside(["reason_edit"], {"PSNR"}, ())] == [
        ("insightedit", "3"),
        ("smartedit_suppl", "1"),
    ]
    assert PUBLISHED.tables_beside(["gedit"], {"PSNR"}, ()) == []


def test_a_table_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(KeyError, match="no mige table 9; they have mige table 1, mige table 2"):
        PUBLISHED.table("mige", "9")
    assert value(PUBLISHED.table("mige", "3a"), "I-O sim", "subj_DINO") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("DINO: 0.759, CLIP_I: 0.831, ", "DINO: 0.759, ", "InstructPix2Pix of mige table 1 lacks emu_edit_test CLIP_I"),
        ("benchmark: dreambench, method: UniReal", "benchmark: x, method: UniReal", "UniReal: x is no benchmark of"),
        ("paper: mige, table: '4', benchmark", "paper: mige, table: '5', benchmark", "114 rows, of which the tables"),
        ("warnings: [dino_backbone]", "warnings: [typo]", "it declares no typo"),
        ("metrics: [DINO_I], comparable: never", "metrics: [DINO_I], comparable: maybe", "is comparable 'maybe'; it"),
        ("metrics: [DINO_I], ", "metrics: [DINO_I, L1], ", "L1 of smartedit_suppl table 2 .* has 2 entries under"),
        ("{key: DINO_I}", "{key: DINO_X}", "column DINO_X is no metric and has no label"),
        ("unit: dB, better: higher", "unit: dB, better: more", "PSNR is better 'more'; it is one of higher, lower"),
        ("unit: dB, better: higher", "colour: red, better: higher", "unexpected keyword argument 'colour'"),
        ("papers:\n", "papers: [\n", ""),
    ],
)  # fmt: skip
def test_a_damaged_file_says_where(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = RESULTS.read_text("utf-8")
    assert old in text
    path = tmp_path / "published.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=f"published.yaml is damaged: .*{message}"):
        load_published(path)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mine.yaml"):
        load_published(tmp_path / "mine.yaml")
    assert PublishedBenchmark("x", "X").holds("", "") is False
