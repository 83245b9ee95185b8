"""Nested mixtures: the shares of every source, and what is refused."""

from __future__ import annotations

from collections import Counter

import pytest

from insightedit.config.load import ConfigError, load_config
from insightedit.config.schema import SourceConfig
from insightedit.datasets.mixture import Mixture, flatten, leaves
from insightedit.datasets.sources import ENDLESS
from insightedit.types import EditRecord


class Sized:
    """A source of a given length, whose files hold `num_records`."""

    def __init__(self, length: int, num_records: int | None = None) -> None:
        self.length = length
        if num_records is not None:
            self.num_records = num_records

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> EditRecord:
        return EditRecord(key=str(index), instruction="edit")


def source(kind: str, weight: float | None = 1.0) -> SourceConfig:
    return SourceConfig(kind=kind, weight=weight)


def mixture(weight: float | None, *sources: SourceConfig) -> SourceConfig:
    return SourceConfig(kind="mixture", weight=weight, sources=list(sources))


def shares(entries: list[SourceConfig], sizes: dict[str, int]) -> dict[str, float]:
    found = flatten(entries, lambda entry: Sized(sizes.get(entry.kind, 1)))
    total = sum(leaf.weight for leaf in found)
    return {leaf.name.partition("-")[2]: leaf.weight / total for leaf in found}


def test_a_flat_list_keeps_its_weights() -> None:
    found = flatten([source("a", 3.0), source("b", 0.1)], lambda entry: Sized(5))
    assert [(leaf.name, leaf.weight) for leaf in found] == [("0-a", 3.0), ("1-b", 0.1)]


def test_levels_multiply_and_null_counts_records() -> None:
    tree = [
        source("synthetic", 0.15),
        mixture(
            0.85,
            source("reasoning", 1.0),
            mixture(9.0, source("chat", None), mixture(None, source("x", 1.0), source("y", 1.0))),
        ),
    ]
    found = shares(tree, {"chat": 100, "x": 299, "y": 1})
    assert found == pytest.approx(
        {
            "synthetic": 0.15,
            "reasoning": 0.085,
            "chat": 0.765 * 100 / 400,
            "x": 0.765 * 300 / 400 / 2,
            "y": 0.765 * 300 / 400 / 2,
        }
    )
    assert [entry.kind for entry in leaves(tree)] == ["synthetic", "reasoning", "chat", "x", "y"]


def test_a_source_that_varies_its_records_counts_them_once() -> None:
    sizes = {"a": Sized(1000, num_records=10), "b": Sized(30)}
    found = flatten([source("a", None), source("b", None)], lambda entry: sizes[entry.kind])
    assert [leaf.weight for leaf in found] == [10.0, 30.0]


def test_draws_follow_the_shares() -> None:
    tree = [source("a", 0.5), mixture(0.5, source("b", 0.2), source("c", 0.8))]
    found = flatten(tree, lambda entry: Sized(7))
    drawn = Mixture({x.name: x.source for x in found}, {x.name: x.weight for x in found}, seed=0)
    counts = Counter(drawn.place(index)[0] for index in range(4000))
    assert {name: count / 4000 for name, count in counts.items()} == pytest.approx(
        {"0-a": 0.5, "1.0-b": 0.1, "1.1-c": 0.4}, abs=0.03
    )


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([mixture(1.0)], r"data.sources\[0\] is a mixture without sources"),
        (
            [SourceConfig(kind="scenes", sources=[source("a")])],
            r"data.sources\[0\] of kind `scenes` holds sources: only kind `mixture` does",
        ),
        ([source("a", 0.0)], r"data.sources\[0\].weight is 0.0, must be > 0"),
        (
            [mixture(1.0, source("a", None), source("b", 2.0))],
            r"data.sources\[0\].sources: some entries have a weight",
        ),
        ([source("endless", None)], r"data.sources\[0\] of kind `endless` never ends"),
    ],
)
def test_nonsense_is_named_with_its_place(entries: list[SourceConfig], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shares(entries, {"endless": ENDLESS})


def test_nested_sources_are_read_from_yaml(tmp_path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(
        "data:\n  sources:\n  - {kind: scenes, weight: 0.2}\n"
        "  - kind: mixture\n    weight: 0.8\n    sources:\n    - {kind: jsonl, path: here, weight: null}\n"
    )
    sources = load_config("insightedit", 3, [path]).data.sources
    assert isinstance(sources[1].sources[0], SourceConfig)
    assert (sources[1].sources[0].path, sources[1].sources[0].weight) == ("here", None)
    path.write_text("data: {sources: [{kind: mixture, sources: [{kind: jsonl, paths: here}]}]}")
    with pytest.raises(ConfigError, match=r"data.sources\[0\].sources\[0\].paths"):
        load_config("insightedit", 3, [path])
