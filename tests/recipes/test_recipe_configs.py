"""The configs of SmartEdit's, MIGE's and MGIE's recipes: what fits, and runs over scenes to the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_recipes.backends.base import load_backend
from data_recipes.formats.reading import open_pairs
from data_recipes.recipes import build_steps
from data_recipes.runner.config import load_config
from data_recipes.runner.inputs import InputConfig
from data_recipes.runner.records import Record
from data_recipes.runner.run import run_recipe
from data_recipes.runner.worker import backend_entry
from tests.recipes.recipe_runs import run_steps, scenes

RECIPES = {
    "smartedit_synthetic": ("scene_couples", {"add", "replace"}),
    "mige_addition": ("scenes", {"add"}),
    "mige_replacement": ("scene_pairs", {"replace"}),
    "subject_driven": ("scenes", {"subject"}),
    "mgie_expressive": ("scene_pairs", {"remove", "edit", "replace", "recolour", "add"}),
}
CONFIGS = [*RECIPES, *(f"{name}_oracle" for name in RECIPES), "smartedit_reasoning"]


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_fit_their_steps_and_backends(name: str):
    config = load_config(name)
    steps = build_steps(config.recipe, config.steps)
    assert {need for step in steps for need in step.needs} == set(config.backends)
    for backend, entry in config.backends.items():
        made = load_backend(backend, entry)  # nothing is loaded or fetched before the first call
        assert made.name and isinstance(made.settings, dict)
    for step in steps:
        json.dumps([dict(step.settings), dict(step.prompts)])
    assert config.recipe in (name.removesuffix("_oracle"), "advancededit")


@pytest.mark.parametrize("name", RECIPES)
def test_quality_is_judged_where_the_config_names_it(name: str):
    assert "quality" not in [step.name for step in build_steps(name, {})]
    assert build_steps(name, {"quality": {}})[-1].name == "quality"


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_over_scenes_gives_what_its_steps_give(name: str, tmp_path: Path):
    count = 12 if name == "mige_replacement" else 4
    words = [f"source.count={count}", "source.size=64", "output.shard_size=2", f"output.path={tmp_path / 'out'}"]
    manifest = run_recipe(load_config(f"{name}_oracle", words))
    kind, tasks = RECIPES[name]
    wanted, rejected = run_steps(name, scenes(kind, count, size=64))
    assert manifest["complete"] and manifest["pairs"] == len(wanted) > 0
    assert set(manifest["tasks"]) <= tasks
    assert sum(sum(reasons.values()) for reasons in manifest["rejects"].values()) == len(rejected)
    source = open_pairs(InputConfig(kind="parquet", path=str(tmp_path / "out"), max_side=None))
    found = [source[number] for number in range(len(source))]
    for record, told in zip(found, wanted, strict=True):
        assert isinstance(record, Record) and record.key == told.key and record.task == told.task
        assert record.wordings == told.wordings
        assert len(record.references) == len(told.references)
        assert all(np.array_equal(a, b) for a, b in zip(record.references, told.references, strict=True))
        assert (record.source is None) == (told.source is None)
        if name != "smartedit_synthetic" or told.task == "add":  # that config harmonises, `run_steps` does not
            assert np.array_equal(record.target, told.target)


def test_answers_of_endpoints_are_kept_in_the_folder_of_the_run(tmp_path: Path):
    words = [f"output.path={tmp_path / 'out'}", "backends.chat.kind=endpoint", "backends.chat.model=m"]
    config = load_config("mige_addition_oracle", words)
    assert backend_entry(config, "chat")["replies"] == str(tmp_path / "out/replies/chat.jsonl")
    assert "replies" not in backend_entry(config, "detector")
    config.backends["chat"]["replies"] = "elsewhere.jsonl"
    assert backend_entry(config, "chat")["replies"] == "elsewhere.jsonl"
    config.backends["chat"] = {"kind": "transformers", "model": "m"}
    assert backend_entry(config, "chat", "cuda:1") == {
        "kind": "transformers", "model": "m", "device": "cuda:1"
    }  # fmt: skip
