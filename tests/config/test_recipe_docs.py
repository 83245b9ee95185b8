"""docs/recipes.md speaks of every recipe, every published data set, and of settings and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from insightedit.config import list_overlays, list_recipes, load_config
from insightedit.datasets.sources import PUBLISHED

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/recipes.md").read_text("utf-8")


def test_every_recipe_has_a_column_and_a_section():
    header = next(line for line in TEXT.splitlines() if line.startswith("| |"))
    assert set(re.findall(r"`(\w+)`", header)) == set(list_recipes())
    assert set(re.findall(r"^### `(\w+)`", TEXT, re.M)) == set(list_recipes())


@pytest.mark.parametrize("recipe", list_recipes())
def test_its_stages_are_those_of_the_recipe(recipe):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TEXT.splitlines() if line.startswith("|")]
    column = rows[0].index(f"`{recipe}`")
    stages = next(row for row in rows if row[0] == "stages")[column]
    assert [int(n) for n in re.findall(r"\d", stages)] == load_config(recipe).stages


def test_every_published_data_set_is_described():
    described = {
        name
        for line in TEXT.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert set(PUBLISHED) <= described


def test_files_and_overlays_that_it_names_exist():
    for name in re.findall(r"`((?:tests|insightedit|configs)/[\w./]+)`", TEXT):
        assert (ROOT / name).exists(), name
    assert set(re.findall(r"--overlay (\w+)", TEXT)) <= set(list_overlays())


def test_settings_that_it_names_exist():
    settings = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)=([^`\s]+)`", TEXT))
    assert len(settings) > 3
    for key, value in settings:
        recipe = "mige" if key.startswith(("bridge.fusion", "comprehension.text_encoder")) else "smartedit"
        load_config(recipe, 3, [], [f"{key}={value}"])
