"""Protocols: what they name exists, every benchmark has one, and their hashes follow the rules and nothing else."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from insightedit.chat.rubrics import RUBRICS
from insightedit.evaluation.benchmarks.registry import MODULES
from insightedit.evaluation.core.measure import MEASURES
from insightedit.evaluation.core.protocol import KINDS, MetricRule, Model, Protocol
from insightedit.evaluation.core.protocols import DEFAULTS, PROTOCOLS, find_protocol, protocols_for
from insightedit.evaluation.metrics.preprocess import METHODS
from insightedit.evaluation.reporting.published import load_published

SMARTEDIT = PROTOCOLS["smartedit_v1"]
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda one: one.name)
def test_a_protocol_names_what_there_is(protocol: Protocol) -> None:
    assert set(protocol.benchmarks) <= set(MODULES)
    assert re.fullmatch(r"[0-9a-f]{16}", protocol.hash)
    for model in protocol.models:
        assert model.kind in KINDS
        assert not model.preprocess or model.preprocess in METHODS
        assert model.kind != "judge" or model.name in RUBRICS
        assert model.kind not in ("clip", "dino") or model.preprocess
    for rule in protocol.rules:
        assert rule.measure in MEASURES or protocol.command
        assert set(rule.only) <= set(protocol.benchmarks)
    used = {key for rule in protocol.rules for key in rule.models}
    assert used == {model.key for model in protocol.models}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda one: one.name)
def test_a_strict_column_says_why_it_is_not_its_paper_twin(protocol: Protocol) -> None:
    papers = {rule.name: rule for rule in protocol.rules if rule.variant == "paper"}
    for rule in protocol.rules:
        if rule.variant == "strict" and rule.name in papers:
            assert rule.why.endswith(".")


def test_every_benchmark_has_a_default_that_measures_it() -> None:
    assert set(DEFAULTS) == set(MODULES)
    for name in MODULES:
        assert find_protocol(name) is PROTOCOLS[DEFAULTS[name]]
        assert protocols_for(name)[0].name == DEFAULTS[name]
    assert find_protocol("Emu_Edit", "emu-source-v1").name == "emu_source_v1"


def test_the_protocols_of_the_published_columns_measure_them_on_their_benchmarks() -> None:
    seen = set()
    for table in load_published().tables:
        for column in table.columns:
            if column.comparability is None or not column.comparability.protocol:
                continue
            protocol = PROTOCOLS[column.comparability.protocol]
            names = {rule.name for rule in protocol.rules_for(column.benchmark.bench) if rule.variant == "paper"}
            assert column.key in names, (table.paper, table.number, column.key)
            seen.add(protocol.name)
    assert seen == {"smartedit_v1", "magicbrush_v1", "emu_mige_v1", "dreambench_v1", "migebench_v1"}


def test_better_is_as_the_papers_have_it() -> None:
    known = load_published().metrics
    for protocol in PROTOCOLS.values():
        for rule in protocol.rules:
            assert rule.name not in known or known[rule.name].better == rule.better, (protocol.name, rule.name)


def test_the_hash_follows_every_rule_and_no_wording() -> None:
    first = SMARTEDIT.rules[0]
    for changed in (
        replace(SMARTEDIT, psnr_cap=50.0),
        replace(SMARTEDIT, ssim_border=0),
        replace(SMARTEDIT, dilation=3),
        replace(SMARTEDIT, side=512),
        replace(SMARTEDIT, averaging="macro"),
        replace(SMARTEDIT, name="smartedit_v2"),
        replace(SMARTEDIT, rules=SMARTEDIT.rules[1:]),
        replace(SMARTEDIT, rules=(replace(first, frame="letterbox"), *SMARTEDIT.rules[1:])),
        replace(SMARTEDIT, models=(replace(SMARTEDIT.models[0], name="alex"), SMARTEDIT.models[1])),
    ):
        assert changed.hash != SMARTEDIT.hash
    for same in (
        replace(SMARTEDIT, title="other words", source="", caveats=()),
        replace(SMARTEDIT, benchmarks=("reason-edit",)),
        replace(SMARTEDIT, rules=(replace(first, why="other words"), *SMARTEDIT.rules[1:])),
    ):
        assert same.hash == SMARTEDIT.hash
    assert len({protocol.hash for protocol in PROTOCOLS.values()}) == len(PROTOCOLS)


def test_a_columns_hash_follows_the_weights_that_it_takes() -> None:
    psnr, lpips = SMARTEDIT.rules[0], SMARTEDIT.rules[4]
    assert (psnr.name, lpips.name) == ("PSNR", "LPIPS")
    one, other = {"lpips": "a", "clip": "b"}, {"lpips": "a2", "clip": "b"}
    assert SMARTEDIT.column_hash(psnr, one) == SMARTEDIT.hash
    assert SMARTEDIT.column_hash(lpips, one) != SMARTEDIT.column_hash(lpips, other) != SMARTEDIT.hash
    assert SMARTEDIT.column_hash(lpips, one) == SMARTEDIT.column_hash(lpips, {"lpips": "a"})
    assert SMARTEDIT.column_hash(lpips, {}) == SMARTEDIT.hash


def test_a_protocol_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        SMARTEDIT.side = 512  # type: ignore[misc]


def test_columns_that_exist_on_one_benchmark_only() -> None:
    mgie = PROTOCOLS["mgie_v1"]
    assert [rule.name for rule in mgie.rules_for("ma5k")] == ["L1", "SSIM", "LPIPS"]
    assert [rule.name for rule in mgie.rules_for("evr")] == ["L1", "DINO_I", "CVS"]
    assert [rule.name for rule in mgie.rules_for("magicbrush")] == ["L1", "DINO_I", "CVS", "CTS"]
    assert [model.key for model in mgie.models_for("ma5k")] == ["lpips"]


@pytest.mark.parametrize(
    ("bench", "name", "message"),
    [
        ("magicbrush", "smartedit", "unknown protocol 'smartedit': did you mean smartedit_v1\\? There are"),
        ("gedit", "smartedit_v1", "smartedit_v1 measures reason-edit, .* not gedit: `insightedit eval list`"),
        ("magic", None, "unknown benchmark 'magic'"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused(bench: str, name: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_protocol(bench, name)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((MetricRule(name="L1", measure="l1"), MetricRule(name="L1", measure="l1")), "toy has a column twice"),
        ((MetricRule(name="L1", measure="l1", variant="mine"),), "variant is 'mine'; it is one of 'paper', 'strict'"),
        ((MetricRule(name="L1", measure="l1", reference="goal"),), "reference is 'goal'"),
        ((MetricRule(name="L1", measure="l1", caption="title"),), "caption is 'title'"),
        ((MetricRule(name="L1", measure="l1", equal_captions="?"),), r"equal_captions is '\?'"),
        ((MetricRule(name="L1", measure="l1", models=("dino",)),), "models is 'dino'; it is one of 'clip'"),
    ],
)
def test_faulty_protocols_are_refused(rules: tuple[MetricRule, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Protocol(
            name="toy",
            title="",
            source="",
            benchmarks=(),
            rules=rules,
            models=(Model("clip", "clip", "a/b", "openai"),),
        )


def test_the_page_names_every_protocol_with_its_benchmarks_and_the_defaults() -> None:
    text = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    for protocol in PROTOCOLS.values():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{protocol.name}` |"))
        for name in protocol.benchmarks:
            told = f"**{name}**" if DEFAULTS[name] == protocol.name else name
            assert told in row or "all that edit by words" in row, (protocol.name, name)


def test_the_page_says_why_of_every_column_that_is_both() -> None:
    text = (DOCS / "evaluation.md").read_text(encoding="utf-8").split("## Paper and strict")[1]
    for protocol in PROTOCOLS.values():
        for rule in protocol.rules:
            if rule.variant == "strict" and not protocol.command and not rule.measure.startswith("judge_"):
                names = (rule.name, rule.name.replace("_", "-"))
                rows = [line for line in text.splitlines() if protocol.name in line]
                assert any(name in row for row in rows for name in names), rule.key
