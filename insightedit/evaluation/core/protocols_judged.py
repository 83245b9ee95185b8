"""Protocols whose columns come from a judge."""

from __future__ import annotations

from collections.abc import Mapping

from insightedit.evaluation.benchmarks.registry import MODULES
from insightedit.evaluation.core.protocol_rules import MetricRule, Model, Protocol
from insightedit.evaluation.core.records import VARIANTS


def _judged(names: Mapping[str, str]) -> tuple[MetricRule, ...]:
    """Columns of a judge, a missing answer left out and, in the strict twin, counted as 0."""
    return tuple(
        MetricRule(
            name=name,
            variant=variant,
            measure=f"judge_{column}",
            models=("judge",),
            why="" if variant == "paper" else "An answer that is missing counts as 0 instead of being left out.",
        )
        for name, column in names.items()
        for variant in VARIANTS
    )


_VIESCORE = {"VIEScore_O": "O", "VIEScore_SC": "SC", "VIEScore_PQ": "PQ"}

VIESCORE = Protocol(
    name="viescore_v1",
    title="VIEScore: a judge's 0 to 10 for the edit (SC), the picture (PQ), and both (O)",
    source="VIEScore, section 3; prompts in our own words",
    benchmarks=tuple(name for name in MODULES if name not in ("migebench", "dreambench")),
    models=(Model("judge", "judge", "viescore"),),
    rules=_judged(_VIESCORE),
    caveats=(
        "How InsightEdit's judge's answers become its VIEScore is not published: no parity with its tables.",
        "A judge cannot be asked again later: its replies are kept in judge.jsonl.",
    ),
)

GEDIT = Protocol(
    name="gedit_v1",
    title="GEdit-Bench: VIEScore at the source's size, mean over groups",
    source="Step1X-Edit, GEdit-Bench",
    benchmarks=("gedit",),
    models=(Model("judge", "judge", "gedit"),),
    rules=_judged(_VIESCORE),
    averaging="macro",
    caveats=("The prompts are in our own words: compare only numbers that were judged here.",),
)

IMGEDIT = Protocol(
    name="imgedit_v1",
    title="ImgEdit-Bench: mean of three scores of 1 to 5, by type of edit",
    source="ImgEdit, Benchmark/Basic",
    benchmarks=("imgedit",),
    models=(Model("judge", "judge", "imgedit"),),
    rules=_judged({"ImgEdit": "mean"}),
    averaging="macro",
    caveats=("The prompts are in our own words: compare only numbers that were judged here.",),
)
