"""docs/benchmarks.md says of every benchmark what its card says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from insightedit.evaluation.benchmarks.registry import MODULES, benchmark_loader

PAGE = Path(__file__).parents[3] / "docs/benchmarks.md"
PARTS = ("Get it", "Licence", "Counts", "Splits", "Read as", "Protocol", "Known faults of the published files")


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    found = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {"": found[0], **dict(zip(found[1::2], found[2::2], strict=True))}


def test_the_page_has_a_section_for_each_benchmark_and_for_nothing_else(sections: dict[str, str]) -> None:
    assert list(sections)[1:] == list(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_section_says_what_the_card_says(name: str, sections: dict[str, str]) -> None:
    card, text = benchmark_loader(name).CARD, sections[name]
    assert card.name == name
    assert f"- **Licence**: {card.licence}\n" in text and f"- **Get it**: {card.obtain}\n" in text
    assert f"```\n{card.layout}\n```" in text and card.paper in text and card.title.lower() in text.lower()
    assert [part for part in PARTS if f"- **{part}**:" not in text] == []
    assert [split for split in card.splits if f"`{split}`" not in text] == []
    numbers = text.replace(",", "")
    assert [count for group, count in card.counts.items() if group != "all" and str(count) not in numbers] == []
    row = next(line for line in sections[""].splitlines() if line.startswith(f"| [`{name}`](#{name})"))
    assert row.endswith(f" | {card.licence} |")
    assert f"{card.counts['all']:,}" in row if card.counts else "any" in row
