"""Our rows beside the papers': layout, marks, warnings, refusals; Markdown and LaTeX that hold together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from insightedit.evaluation.core.columns import ProtocolMixError, gather
from insightedit.evaluation.core.records import MetricRecord, is_control
from insightedit.evaluation.core.significance import Resampling, mean_interval
from insightedit.evaluation.reporting.published import load_published
from insightedit.evaluation.reporting.run_tables import ONE_CLUSTER, category_grid, paired_table
from insightedit.evaluation.reporting.table_formatting import Cell, Column, Row, Table, mark, to_latex, to_markdown
from insightedit.evaluation.reporting.tables import (
    APART,
    OURS,
    UNEQUAL,
    MetricColumn,
    beside_published,
    published_table,
    results_table,
)

HOW = Resampling(resamples=199)
PIXELS, JUDGE = "0123456789abcdef", "fedcba9876543210"
TABLE_3 = load_published().table("insightedit", "3")
KINDS = ["1-Left-Right"] * 24 + ["3-Mirror"] * 6 + ["6-Reasoning"] * 22


def record(method: str, sample: int, metric: str, value: float | None, **changes: Any) -> MetricRecord:
    fields = {
        "run_id": method,
        "method": method,
        "bench": "reason-edit",
        "bench_version": "v",
        "sample_id": f"{sample:03d}",
        "category": KINDS[sample],
        "metric_name": metric,
        "metric_variant": "paper",
        "value": value,
        "error": "refused" if value is None else None,
        "protocol_hash": JUDGE if metric == "VIEScore" else PIXELS,
    }
    return MetricRecord(**{**fields, **changes})


def measured() -> Iterator[MetricRecord]:
    """Two editors and a control on 30 + 22 pictures; "good" has PSNR 30, better than every published one."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=len(KINDS))
    noise -= noise.mean()
    for sample in range(len(KINDS)):
        for method, level in (("good", 30.0), ("bad", 10.0), ("copy-source", 60.0)):
            yield record(method, sample, "PSNR", level + noise[sample], capped=method == "copy-source")
            yield record(method, sample, "PSNR", level - 1, metric_variant="strict")
            refused = method == "good" and sample == 3
            yield record(method, sample, "VIEScore", None if refused else 0.99)
            yield record(method, sample, "success", float(method == "good" or sample % 2), cluster=f"{sample // 2}")


def cells(text: str) -> dict[str, list[str]]:
    """Method -> cells of its row; the row of intervals is under "method CI"."""
    found: dict[str, list[str]] = {}
    last = ""
    for line in text.splitlines():
        if line.startswith("|"):
            _, name, *values = [cell.strip() for cell in line.strip("|").split("|")]
            found[name or f"{last} CI"] = values
            last = name or last
    return found


@pytest.fixture(scope="module")
def grid() -> Table:
    return beside_published(
        measured(), TABLE_3, extra=[MetricColumn("PSNR", "strict")], protocols={PIXELS: "smartedit_v1"}, how=HOW
    )


def test_ours_stand_below_theirs_in_the_papers_layout(grid: Table) -> None:
    found = cells(to_markdown(grid))
    names = ["VIEScore↑", "CLIPScore↑", "PSNR↑", "SSIM↑", "LPIPS↓", "PSNR strict↑"] * 2
    assert [re.sub("[ᵃ-ᶻʰʲⁱˡ]+$", "", name) for name in found["Methods"]] == names
    published = [row.method for row in TABLE_3.rows]
    assert [line.label for line in grid.lines] == [*published, "good", "bad", "copy-source"]
    assert [line.group for line in grid.lines[-3:]] == [OURS, OURS, "Controls"]
    assert found["MGIE"][:6] == ["0.373", "21.947", "16.094", "0.695", "0.200", "–"]
    assert found["good"][1] == found["good"][3] == "–"  # not measured


def test_best_and_second_best_count_only_what_may_be_compared(grid: Table) -> None:
    found = cells(to_markdown(grid))
    assert found["good"][2].startswith("**") and found["good"][8].startswith("**")
    assert found["InsightEdit with AdvancedEdit"][2] == "<u>24.503</u>"
    assert not found["copy-source"][2].startswith("**")  # a control, though it has the highest PSNR
    assert re.fullmatch("0.990[ᵃ-ᶻʰʲⁱˡ]", found["good"][0])  # above every published VIEScore, and not ranked
    assert found["InsightEdit with AdvancedEdit"][0] == "**0.934**"
    assert found["good"][5] == "**29.000**" and found["bad"][5] == "<u>9.000</u>"


def test_values_and_intervals_are_those_of_the_records(grid: Table) -> None:
    column = next(
        one
        for key, one in gather(measured(), part=lambda r: r.category).items()
        if (key.part, key.metric_name, key.metric_variant, key.method) == ("6-Reasoning", "PSNR", "paper", "bad")
    )
    interval = mean_interval(*column.take(list(column.values)), how=HOW)
    found = cells(to_markdown(grid))
    assert found["bad"][8] == f"{interval.value:.3f}"
    assert found["bad CI"][8] == f"[{interval.low:.3f}, {interval.high:.3f}]"
    assert found["bad CI"][1] == ""


def test_warnings_failures_and_limits_are_said(grid: Table) -> None:
    text = to_markdown(grid)
    for part in (
        "How the judge's answers become one VIEScore is not published",
        "SmartEdit's rule is assumed",
        "crops a border that later versions keep",
        "Shown, but not ranked beside the published rows: the rule behind them is not published.",
        "Strict variant",
        "arXiv:2411.17323, Table 3; they give no intervals",
        "95 % interval: BCa bootstrap of source pictures or sessions, 199 resamples, seed 0",
        f"Protocol {PIXELS} (smartedit_v1): PSNR, PSNR (strict).",
        f"No name was given for protocol {JUDGE}",
        "good: n = 29 to 30 (Understanding Scenarios), n = 22 (Reasoning Scenarios); 1 without a value in VIEScore.",
        "copy-source: n = 30 (Understanding Scenarios), n = 22 (Reasoning Scenarios); 52 capped in PSNR.",
        "Not all rows have the same samples in VIEScore on Understanding Scenarios",
        "n = 22: near a rate of 0.8",
        "never rank on preservation alone",
    ):
        assert part in text, part
    used = {place for heading in grid.headings for place in heading.notes}
    used |= {place for line in grid.lines for cell in line.cells for place in cell.notes}
    assert used == set(range(len(grid.notes)))


def test_another_protocol_is_shown_but_not_ranked() -> None:
    other = beside_published(measured(), TABLE_3, protocols={PIXELS: "magicbrush_v1"}, how=HOW)
    found = cells(to_markdown(other))
    assert "**" not in found["good"][2] and found["InsightEdit with AdvancedEdit"][2] == "**24.503**"
    assert any("which follow smartedit_v1: ours were measured by magicbrush_v1" in note for note in other.notes)


def test_runs_that_do_not_compare_stand_apart_without_a_rank() -> None:
    reasons = {"good": ("12 of the 219 published samples are here.", "It is not finished.")}
    for grid in (
        beside_published(measured(), TABLE_3, apart=reasons, how=HOW),
        results_table(measured(), apart=reasons, how=HOW),
    ):
        labels = [(line.label, line.group) for line in grid.lines[-3:]]
        assert labels == [("bad", OURS), ("good", APART), ("copy-source", "Controls")]
        (good,) = [line for line in grid.lines if line.label == "good"]
        assert all(cell.number is None for cell in good.cells)
        note = "good is not ranked. 12 of the 219 published samples are here. It is not finished."
        assert all(note in [grid.notes[one] for one in cell.notes] for cell in good.cells if cell.text)
        for text, best in ((to_markdown(grid), "**"), (to_latex(grid), "textbf")):
            rows = [line for line in text.splitlines() if re.search(r"(\||&) good ", line)]
            assert rows and not any(best in row for row in rows) and "Not comparable" in text


def test_rows_of_unequal_samples_are_not_ranked_against_each_other() -> None:
    partial = [one for one in measured() if one.method != "good" or one.sample_id > "010"]
    ours = results_table(partial, [MetricColumn("PSNR")], how=HOW)
    assert [line.cells[0].number for line in ours.lines] == [None] * 3
    assert ours.notes == (UNEQUAL,)
    beside = beside_published(partial, TABLE_3, how=HOW)
    assert cells(to_markdown(beside))["InsightEdit with AdvancedEdit"][2] == "**24.503**"


def test_protocols_and_versions_are_never_mixed() -> None:
    stray = record("bad", 0, "PSNR", 1.0, protocol_hash=JUDGE, seed=1)
    message = rf"PSNR \(paper\) on reason_edit_understanding follows two protocols: {PIXELS} \(good\) and {JUDGE}"
    with pytest.raises(ProtocolMixError, match=message):
        beside_published([*measured(), stray], TABLE_3, how=HOW)
    for table in (
        lambda records: results_table(records, how=HOW),
        lambda records: category_grid(records, MetricColumn("PSNR"), bench="reason-edit", how=HOW),
        lambda records: paired_table(records, "good", [MetricColumn("PSNR")], bench="reason-edit", how=HOW),
    ):
        with pytest.raises(ProtocolMixError, match=f"{PIXELS} .*{JUDGE}"):
            table([*measured(), stray])
        with pytest.raises(ProtocolMixError, match="two versions of the benchmark: v .* and w"):
            table([*measured(), record("bad", 0, "PSNR", 1.0, bench_version="w", seed=1)])


def test_ours_alone_with_outcomes_and_seeds() -> None:
    records = [
        *(record("ours", n, "success", float(n % 4 > 0), cluster="") for n in range(40)),
        *(record("ours", n, "L1", 0.1 * seed, seed=seed) for n in range(5) for seed in (0, 1, 2)),
        *(record("theirs", n, "L1", 0.1, seed=0) for n in range(5)),
    ]
    text = to_markdown(results_table(records, how=HOW))
    found = cells(text)
    assert found["Methods"] == ["success↑", "L1↓"]
    assert found["ours"] == ["0.750", "**0.100†**"] and found["theirs"] == ["–", "**0.100†**"]
    assert found["ours CI"][0] == "[0.598, 0.858]"  # Wilson's for 30 of 40
    for part in (
        "Wilson's for success",
        "†: fewer than 20 samples",
        "ours: n = 5 to 40; mean of 1 to 3 seeds per sample.",
        "Not all rows have as many seeds in L1 on reason-edit.",
    ):
        assert part in text, part


def test_columns_are_chosen_and_benchmarks_side_by_side() -> None:
    records = [
        *(record("ours", n, "PSNR", float(n)) for n in range(20)),
        *(record("ours", n, "PSNR", float(n), bench="magicbrush", protocol_hash=JUDGE) for n in range(20)),
        *(record("ours", n, "mine", 1.0) for n in range(20)),
    ]
    grid = results_table(records, [MetricColumn("PSNR", label="PSNR (dB)", template="{:.1f}")], how=HOW)
    assert [(one.over, one.text) for one in grid.headings] == [
        ("reason-edit", "PSNR (dB)↑"),
        ("magicbrush", "PSNR (dB)↑"),
    ]
    assert grid.lines[0].cells[0].text == "9.5"
    mine = results_table(records, [MetricColumn("mine")], how=HOW)
    assert mine.headings[0].better == "n/a" and mine.ranks() == [[0]]
    assert results_table(records, [MetricColumn("mine", better="lower")], how=HOW).headings[0].text == "mine↓"


def test_categories_with_n_mean_and_interval() -> None:
    column = MetricColumn("success")
    text = to_markdown(category_grid(measured(), column, bench="reason-edit", how=HOW))
    found = cells(text)
    means = ["all samples alike (micro)", "all categories alike (macro)"]
    assert list(found)[2:] == ["Category", *dict.fromkeys(KINDS), *means]
    assert found["Category"][:3] == ["n", "success↑", "95 % CI"]
    assert found["1-Left-Right"][:2] == ["24", "1.000"] and found["3-Mirror"][:2] == ["6†", "1.000"]
    assert found["3-Mirror"][3:5] == ["6†", "0.500"]
    assert found["all samples alike (micro)"][3:5] == ["52", "0.500"]
    assert "†: fewer than 20 samples" in text and "a gap under 0.1 is noise" in text and PIXELS in text


def test_failures_and_missing_categories_are_shown() -> None:
    records = [
        *(record("good", n, "PSNR", 20.0 if n else None) for n in range(30)),
        *(record("bad", n, "PSNR", 10.0) for n in range(24)),
    ]
    text = to_markdown(category_grid(records, MetricColumn("PSNR"), bench="reason-edit", how=HOW))
    assert cells(text)["1-Left-Right"] == [
        *("23 (+1 failed)", "20.000", "[20.000, 20.000]"),
        *("24", "10.000", "[10.000, 10.000]"),
    ]
    assert cells(text)["3-Mirror"] == ["6†", "20.000", "[20.000, 20.000]", "0†", "–", "–"]


def test_one_method_against_the_others() -> None:
    columns = [MetricColumn("PSNR"), MetricColumn("success")]
    grid = paired_table(measured(), "good", columns, bench="reason-edit", primary=["success"], how=Resampling(1999))
    assert [(line.label, line.cells[0].text) for line in grid.lines] == [
        ("bad", "PSNR↑"),
        ("copy-source", "PSNR↑"),
        ("bad", "success↑"),
        ("copy-source", "success↑"),
    ]
    psnr, success = grid.lines[0], grid.lines[2]
    assert [cell.text for cell in psnr.cells[1:6]] == ["52", "30.000", "10.000", "+20.000", "[20.000, 20.000]"]
    assert psnr.cells[6].text == "0.001" and psnr.cells[7].text == ""
    assert success.cells[4].text == "+0.500" and success.cells[5].text == "[0.500, 0.500]"
    assert success.cells[6].text == "0.001" and success.cells[7].text == "0.002"  # Holm: twice, of two
    assert any("primary metrics: success" in remark for remark in grid.remarks)


def test_one_session_shows_nothing() -> None:
    alone = [replace(one, cluster="session") for one in measured() if one.method != "copy-source"]
    grid = paired_table(alone, "good", [MetricColumn("PSNR")], bench="reason-edit", how=HOW)
    assert ONE_CLUSTER in grid.remarks
    assert [cell.text for cell in grid.lines[0].cells][-4:] == ["+20.000", "", "1.000", ""]


def test_left_out_samples_are_counted() -> None:
    records = [
        *(record("good", n, "PSNR", float(n)) for n in range(10)),
        *(record("bad", n, "PSNR", float(n)) for n in range(2, 13)),
    ]
    grid = paired_table(records, "good", [MetricColumn("PSNR")], bench="reason-edit", how=HOW)
    assert grid.lines[0].cells[1].text == "8†" and grid.lines[0].cells[6].text == "1.000"
    assert "Left out as only one of two has them: 5 values." in grid.remarks


@pytest.mark.parametrize(
    ("name", "expected"),
    [("copy-source", True), ("Copy source", True), ("autoencoder_target", True), ("InsightEdit", False)],
)
def test_controls_are_known_by_name(name: str, expected: bool) -> None:
    assert is_control(name) is expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: beside_published([record("a", 0, "FID", 1.0)], TABLE_3),
            "no record belongs to insightedit table 3: its benchmark is reason-edit, its metrics are VIEScore, CLIPS",
        ),
        (lambda: beside_published(measured(), load_published().table("mige", "4")), "its benchmark is none of ours"),
        (lambda: results_table([]), "no record has any metric"),
        (lambda: results_table(measured(), [MetricColumn("FID")]), r"no record has FID \(paper\)"),
        (lambda: MetricColumn("PSNR", "both"), "metric_variant is 'both'; it is one of paper, strict"),
        (
            lambda: category_grid(measured(), MetricColumn("FID"), bench="reason-edit"),
            r"no record has FID \(paper\) on reason-edit",
        ),
        (
            lambda: paired_table(measured(), "nobody", [MetricColumn("PSNR")], bench="reason-edit"),
            r"nobody has no PSNR \(paper\) on reason-edit; good, bad, copy-source has: name one",
        ),
        (
            lambda: paired_table([record("a", 0, "PSNR", 1.0)], "a", [MetricColumn("PSNR")], bench="reason-edit"),
            "only a is in the records",
        ),
        (lambda: Table("t", (Column("x"),), (Row("a", ()),)), "row a has 0 cells for 1 headings"),
    ],
)
def test_errors_teach(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_ranks_share_and_skip() -> None:
    lines = tuple(Row(str(n), (Cell(str(n), number=number),)) for n, number in enumerate([1.0, 3.0, 3.0, None, 2.0]))
    assert Table("", (Column("x", better="higher"),), lines).ranks() == [[0], [1], [1], [0], [2]]
    assert Table("", (Column("x", better="lower"),), lines).ranks() == [[1], [0], [0], [0], [2]]
    assert Table("", (Column("x"),), lines).ranks() == [[0]] * 5
    assert Table("", (Column("x", better="lower"),), lines[:1]).ranks() == [[0]]  # nobody to be better than


def test_foreign_names_break_neither_language() -> None:
    name = r"50% & a_b|c*d <x> {#1} $5 ~ ^ \ -1"
    grid = Table(name, (Column(name),), (Row(name, (Cell("-1.5", "[-2.0, -1.0]"),)),), (name,), ("0-10",))
    text = to_markdown(grid)
    assert r"50% &amp; a_b\|c\*d &lt;x>" in text
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")} == {3}
    latex = to_latex(grid)
    check_latex(latex)
    assert r"50\% \& a\_b\textbar{}c*d \textless{}x\textgreater{} \{\#1\} \$5" in latex
    assert "$-$1.5" in latex and "[$-$2.0, $-$1.0]" in latex and "0-10" in latex


@pytest.mark.parametrize("name", ["[12] ours", "*ours"])
def test_a_row_is_not_taken_as_an_argument_of_the_row_before(name: str) -> None:
    latex = to_latex(Table("t", (Column("x"),), (Row("a", (Cell("1"),)), Row(name, (Cell("2"),)))))
    assert f"\n{{}}{name} & 2" in latex


def test_footnote_signs() -> None:
    assert [mark(n) for n in (0, 15, 16, 24, 25)] == ["a", "p", "r", "z", "(26)"]
    grid = Table("t", (Column("x", notes=(0, 25)),), (), tuple(f"note {n}" for n in range(26)))
    assert "xᵃ⁽²⁶⁾" in to_markdown(grid) and r"x\textsuperscript{a,(26)}" in to_latex(grid)


def test_markdown_is_aligned_for_the_terminal(grid: Table) -> None:
    lines = [line for line in to_markdown(grid).splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    assert lines[1].startswith("| ---") and lines[1].rstrip().endswith("-: |")


def check_latex(text: str) -> None:
    """Braces and environments close in order, every row has the columns that it says, no sign is loose."""
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    outside = re.sub(r"\$[^$]*\$", "", bare)
    assert not re.search(r"[$#%_^~<>]", outside)
    assert text.isascii() or not re.search(r"[↑↓✓✗²†–ᵃ-ᶻ]", text)
    width = len(re.search(r"\\begin\{tabular\}\{([lc]+)\}", text)[1])
    inside = text.split("\\begin{tabular}", 1)[1].split("\\end{tabular}")[0]
    rows = [line for line in inside.splitlines() if line.endswith(r"\\")]
    assert rows
    for row in rows:
        spanned = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", row))
        assert len(re.findall(r"(?<!\\)&", row)) + 1 + spanned == width, row
    for first, last in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", text):
        assert 1 < int(first) <= int(last) <= width


def test_latex_holds_together(grid: Table) -> None:
    text = to_latex(grid)
    check_latex(text)
    assert text.count(r"\midrule") == 3
    assert r"\multicolumn{6}{c}{Understanding Scenarios} & \multicolumn{6}{c}{Reasoning Scenarios}" in text
    assert r"\cmidrule(lr){3-8} \cmidrule(lr){9-14}" in text
    assert r"\underline{24.503}" in text and r"PSNR$\uparrow$\textsuperscript{" in text
    for table in load_published().tables:
        check_latex(to_latex(published_table(table)))


def test_the_check_of_latex_can_fail(grid: Table) -> None:
    text = to_latex(grid)
    for wrong in (
        text.replace(r"\end{table}", ""),
        text.replace(" & ", " ", 1),
        text.replace(r"\%", "%"),
        text.replace("{minipage}{", "{minipage}", 1),
    ):
        with pytest.raises(AssertionError):
            check_latex(wrong)
