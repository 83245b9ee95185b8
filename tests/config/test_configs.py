"""The YAML files that come along."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from insightedit.config import config_root, list_overlays, list_recipes, load_config

STAGES = (1, 2, 3)
CASES = [
    (recipe, stage, overlay)
    for recipe in list_recipes()
    for overlay in (None, *list_overlays())
    for stage in load_config(recipe, None, [overlay] if overlay else []).stages  # an overlay may change them
]


@pytest.mark.parametrize(("recipe", "stage", "overlay"), CASES)
def test_every_recipe_loads_at_every_stage_with_every_overlay(recipe, stage, overlay):
    config = load_config(recipe, stage, [overlay] if overlay else [])
    assert config.stage.number == stage
    assert config.output_dir == f"runs/{recipe}/stage{stage}"
    assert config.train.max_steps > 0
    assert config.guidance.drop_text + config.guidance.drop_image + config.guidance.drop_both < 1


def test_all_files_are_reached_by_these_tests():
    kinds = {path.parent.name for path in config_root().rglob("*.yaml")}
    assert kinds == {"recipes", "stages", "overlays", "data"}  # data: tests/recipes
    assert sorted(path.stem for path in (config_root() / "stages").glob("*.yaml")) == [f"stage{n}" for n in STAGES]


def test_overlays_named_in_texts_exist():
    root = Path(__file__).parents[2]
    texts = [
        *root.glob("*.md"),
        *(path for folder in ("docs", "stages") for path in (root / folder).rglob("*") if path.is_file()),
        *(root / "insightedit").glob("*.py"),
    ]
    texts = [path for path in texts if path.suffix in {".md", ".sh", ".sbatch", ".py"}]
    named = {name for path in texts for name in re.findall(r"--overlay ([a-z]\w*)", path.read_text("utf-8"))}
    assert named, "no text names an overlay any more: check this test"
    assert named <= set(list_overlays())


@pytest.mark.parametrize("recipe", list_recipes())
def test_every_value_of_a_recipe_names_its_source_or_is_ours(recipe):
    lines = (config_root() / "recipes" / f"{recipe}.yaml").read_text().splitlines()
    for line in lines:
        if re.match(r"\s*[\w]+: \S", line) and not line.startswith("recipe:"):
            assert re.search(r"# .*(\[([ISPBM]|MIGE|code)\]|ours|LLaVA)", line), f"no source: {line}"


def test_the_papers_numbers_of_the_stages():
    configs = [load_config("insightedit", stage) for stage in STAGES]
    assert [c.optim.lr for c in configs] == [2e-4, 1e-5, 1e-5]
    assert {(c.optim.weight_decay, c.optim.warmup_ratio) for c in configs} == {(0.0, 0.001)}
    assert [c.stage.objective for c in configs] == ["align", "understand", "edit"]
    assert [(c.stage.use_bim, c.stage.use_iaa) for c in configs] == [(False, False), (False, True), (True, True)]
    assert [c.data.sources[0].kind for c in configs] == ["captions", "scenes", "scenes"]


def test_global_batch_is_128_on_eight_gpus_and_on_one():
    for stage in STAGES:
        eight, one = (load_config("insightedit", stage, [o]).train for o in ("multi_gpu", "single_gpu"))
        assert 8 * eight.batch_size * eight.gradient_accumulation_steps == 128
        assert one.batch_size * one.gradient_accumulation_steps == 128


def test_a_stage_trains_what_the_one_before_trained_and_more():
    sets = [set(load_config("insightedit", stage).stage.trainable) for stage in STAGES]
    assert sets[0] < sets[1] < sets[2]


@pytest.fixture(scope="module")
def names() -> list[str]:
    from insightedit.model.build import build_editor

    return [name for name, _ in build_editor(load_config("insightedit", 3, ["tiny"])).named_parameters()]


def trained(names: list[str], stage: int) -> set[str]:
    patterns = load_config("insightedit", stage, ["tiny"]).stage.trainable
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def test_stages_train_exactly_what_the_design_says(names):
    parts = {
        "rows": {n for n in names if "trainable_tokens_delta" in n},
        "qformer": {n for n in names if n.startswith("bridge.qformer.")},
        "lora": {n for n in names if "lora_" in n},
        "iaa": {n for n in names if n.startswith("bridge.iaa.")},
        "unet": {n for n in names if n.startswith("unet.")},
        "bim": {n for n in names if n.startswith("bridge.bim.")},
    }
    assert all(parts.values())
    first = parts["rows"] | parts["qformer"]
    second = first | parts["lora"] | parts["iaa"] | parts["unet"]
    assert [trained(names, stage) for stage in STAGES] == [first, second, second | parts["bim"]]
