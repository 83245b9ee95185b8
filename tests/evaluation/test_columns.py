"""Records become columns; what does not belong together is refused."""

from __future__ import annotations

from typing import Any

import pytest

from insightedit.evaluation.core.columns import ProtocolMixError, ValuesKey, gather
from insightedit.evaluation.core.records import MetricRecord

OURS, THEIRS = "0123456789abcdef", "fedcba9876543210"


def record(sample_id: str, value: float | None = 1.0, **changes: Any) -> MetricRecord:
    fields = {
        "run_id": "run",
        "method": "ours",
        "bench": "reason-edit",
        "bench_version": "one",
        "sample_id": sample_id,
        "metric_name": "PSNR",
        "metric_variant": "paper",
        "value": value,
        "error": "refused" if value is None else None,
        "protocol_hash": OURS,
    }
    return MetricRecord(**{**fields, **changes})


def test_one_pass_over_an_iterator_sorts_everything() -> None:
    records = [
        record("a", 1.0, seed=0, cluster="room", category="left"),
        record("a", 3.0, seed=1, cluster="room", category="left", capped=True),
        record("a", None, seed=2, cluster="room", category="left"),
        record("b", None),
        record("a", 5.0, metric_name="SSIM"),
        record("a", 6.0, metric_variant="strict"),
        record("a", 7.0, method="theirs"),
    ]
    columns = gather(iter(records))
    assert [str(key) for key in columns] == [
        "ours's PSNR (paper) on reason-edit",
        "ours's SSIM (paper) on reason-edit",
        "ours's PSNR (strict) on reason-edit",
        "theirs's PSNR (paper) on reason-edit",
    ]
    first = columns[ValuesKey("reason-edit", "PSNR", "paper", "ours")]
    assert first.values == {"a": [1.0, 3.0]} and first.n == 1 and first.seeds_per_sample == (2, 2)
    assert first.failed == [("a", 2), ("b", None)] and first.capped == 1
    assert first.units == {"a": "room", "b": "b"} and first.categories == {"a": "left", "b": ""}
    assert first.take(["a"]) == ([[1.0, 3.0]], ["room"])
    assert gather([record("b", None)])[first.key].seeds_per_sample == (0, 0)


def test_parts_are_chosen() -> None:
    records = [record("a", category="left"), record("b", category="six"), record("a", metric_variant="strict")]
    columns = gather(records, part=lambda one: one.category or None)
    assert [key.part for key in columns] == ["left", "six"]


@pytest.mark.parametrize("method", ["ours", "theirs"])
def test_protocols_are_not_mixed_in_a_method_nor_between_methods(method: str) -> None:
    records = [record("a"), record("b", protocol_hash=THEIRS, method=method)]
    message = rf"PSNR \(paper\) on reason-edit follows two protocols: {OURS} \(ours\) and {THEIRS} \({method}\): eval"
    with pytest.raises(ProtocolMixError, match=message):
        gather(records)


def test_protocols_may_differ_between_metrics_and_parts() -> None:
    assert len(gather([record("a"), record("a", metric_name="VIEScore_O", protocol_hash=THEIRS)])) == 2
    assert len(gather([record("a"), record("a", bench="magicbrush", protocol_hash=THEIRS)])) == 2


def test_versions_of_a_benchmark_are_not_mixed() -> None:
    with pytest.raises(ProtocolMixError, match="two versions of the benchmark: one .* and two .*same files"):
        gather([record("a"), record("b", bench_version="two")])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (record("a"), "has sample a twice: give each run's records once"),
        (record("a", seed=1, category="left"), "sample a with the category '' and 'left': a sample has one"),
        (record("a", seed=1, cluster="room"), "sample a with the cluster 'a' and 'room'"),
    ],
)
def test_contradictions_are_named(second: MetricRecord, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gather([record("a"), second])
    with pytest.raises(ValueError, match="sample a with seed 1 twice"):
        gather([record("a", seed=1), record("a", seed=1)])
