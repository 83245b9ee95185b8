"""Layers, the command line, and what a wrong setting is answered with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from insightedit.config import Config, ConfigError, config_root, dump_config, list_overlays, list_recipes, load_config
from insightedit.config.kinds import DEFAULTS
from insightedit.config.load import SYNONYMS, schema_reader

SETTINGS = schema_reader(dict(DEFAULTS), [])


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refused(*arguments, **keywords) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(*arguments, **keywords)
    return str(caught.value)


def test_an_empty_recipe_is_the_schema(tmp_path):
    config = load_config(written(tmp_path, "mine.yaml", ""))
    assert config.optim == Config().optim
    assert (config.recipe, config.output_dir) == ("mine", "runs/mine/stage3")


def test_later_layers_win(tmp_path):
    recipe = written(tmp_path, "r.yaml", "{train: {seed: 1, max_steps: 1, batch_size: 1, log_every: 1}}")
    stage = written(tmp_path, "s.yaml", "{train: {max_steps: 2, batch_size: 2, log_every: 2}}")
    first = written(tmp_path, "a.yaml", "{train: {batch_size: 3, log_every: 3}}")
    second = written(tmp_path, "b.yaml", "{train: {log_every: 4}}")
    train = load_config(recipe, stage, [first, second]).train
    assert (train.seed, train.max_steps, train.batch_size, train.log_every) == (1, 2, 3, 4)
    assert load_config(recipe, stage, [second, first], ["log_every=5"]).train.log_every == 5


def test_a_section_counts_for_its_stage_only_and_after_its_own_file(tmp_path):
    overlay = written(tmp_path, "o.yaml", "stage2: {train: {seed: 7}}\ntrain: {seed: 6}")
    seeds = [load_config("insightedit", stage, [overlay]).train.seed for stage in (1, 2, 3)]
    assert seeds == [6, 7, 6]


def test_a_recipes_section_comes_after_the_stages_file(tmp_path):
    recipe = written(tmp_path, "r.yaml", "stage2: {optim: {lr: 0.5}}\noptim: {lr: 0.25}")
    assert load_config(recipe, 2).optim.lr == 0.5
    assert load_config(recipe, 1).optim.lr == 2e-4  # the stage's file, which is later than the recipe


def test_the_stage_may_be_a_number_a_name_or_a_path(tmp_path):
    by_number = load_config("insightedit", 2)
    assert load_config("insightedit", "stage2") == by_number
    assert load_config("insightedit", config_root() / "stages" / "stage2.yaml") == by_number


def test_dumped_config_loads_as_the_same(tmp_path):
    config = load_config("insightedit", 3, ["tiny"], ["bridge.bim=null", "data.sources[0].weight=0.5"])
    dump_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("train.max_steps=2", lambda c: c.train.max_steps == 2),
        ("max_steps=2", lambda c: c.train.max_steps == 2),
        ("lr=1e-3", lambda c: c.optim.lr == 1e-3),
        ("lora.rank=3", lambda c: c.comprehension.lora.rank == 3),
        ("lora=null", lambda c: c.comprehension.lora is None),
        ("bim={width: 8}", lambda c: (c.bridge.bim.width, c.bridge.bim.depth) == (8, 2)),
        ("stages=[3]", lambda c: c.stages == [3]),
        ("betas=[0.5,0.75]", lambda c: c.optim.betas == [0.5, 0.75]),
        ("output_dir=elsewhere/${stage.number}", lambda c: c.output_dir == "elsewhere/3"),
        ("edit_token=<edit {index}>", lambda c: c.comprehension.edit_token == "<edit {index}>"),
        ("data.sources[0].path=a=b", lambda c: c.data.sources[0].path == "a=b"),
        ("sources[0].split=val", lambda c: c.data.sources[0].split == "val"),
        ("sources=[{kind: captions}, {kind: scenes, weight: 2}]", lambda c: c.data.sources[1].weight == 2.0),
    ],
)
def test_words_of_the_command_line(word, read):
    assert read(load_config("insightedit", 3, overrides=[word]))


def test_a_section_that_was_switched_off_can_be_switched_on_again(tmp_path):
    overlay = written(tmp_path, "o.yaml", "comprehension: {lora: null}")
    assert load_config("insightedit", 3, [overlay]).comprehension.lora is None
    assert load_config("insightedit", 3, [overlay], ["lora.rank=4"]).comprehension.lora.rank == 4


def test_an_overlay_sizes_parts_and_does_not_add_them(tmp_path):
    recipe = written(tmp_path, "r.yaml", "{bridge: {iaa: null}, stage1: {comprehension: {lora: null}}}")
    overlay = written(
        tmp_path,
        "o.yaml",
        "stage3: {bridge: {iaa: {hidden_dim: 8}, bim: {width: 8}}}\ncomprehension: {lora: {rank: 3}}",
    )
    first, third = (load_config(recipe, stage, ["tiny", overlay]) for stage in (1, 3))
    assert (first.bridge.iaa, first.comprehension.lora, third.bridge.iaa) == (None, None, None)
    assert (third.comprehension.lora.rank, third.bridge.bim.width, third.bridge.bim.depth) == (3, 8, 1)
    wrong = written(tmp_path, "wrong.yaml", "bridge: {iaa: {hiden_dim: 1}}")
    assert "bridge.iaa.hiden_dim" in refused(recipe, 3, [wrong])


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("model=x", "model (command line): could be comprehension.model or generation.model or"),
        ("model=x", "or generation.denoiser.model: write one of these."),
        ("max_step=2", "max_step (command line): no such setting (did you mean train.max_steps?)."),
        ("train.max_step=2", "no such setting (did you mean train.max_steps?)."),
        ("zzz=2", "zzz (command line): no such setting; sections are recipe, output_dir"),
        ("max_steps", "`max_steps` (command line) is not of the form key=value."),
        ("max_steps=2.5", "train.max_steps (command line): got 2.5, needs a whole number."),
        ("precision=fp8", "train.precision (command line): got 'fp8', needs one of fp32, bf16."),
        ("bridge=3", "bridge (command line): got 3, needs the settings qformer, edit_head, bim, iaa, fusion."),
        ("ema_decay=soon", "needs a number or null."),
        ("betas=3", "optim.betas (command line): got 3, needs a list, each a number."),
        ("betas=[1,", "optim.betas (command line): `[1,` cannot be read"),
        ("data.sources[4].path=x", "data.sources[4].path (command line): data.sources has 1 entries"),
        ("sources[0].pth=x", "data.sources[0].pth (command line): no such setting (did you mean data.sources[0].path?"),
        ("train[0].x=1", "entries of lists read data.sources[0].path"),
        ("output_dir=${nowhere}", "output_dir: Interpolation key 'nowhere' not found"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_answered(word, answer):
    assert answer in refused("insightedit", 3, overrides=[word])


def test_all_faults_come_at_once_with_their_file(tmp_path):
    recipe = written(tmp_path, "r.yaml", "train: {lr: 1}\nzzz: 1")
    overlay = written(tmp_path, "o.yaml", "stage1: {optim: {lr: abc}}\ndata: {sources: [{kid: x, weight: q}]}")
    text = refused(recipe, 3, [overlay, "tinny"], ["max_steps=x"])
    assert text.startswith("7 faults in the settings:\n  - ")
    for part in (
        f"train.lr ({recipe}): no such setting here; it is optim.lr.",
        f"zzz ({recipe}): no such setting; here are recipe, output_dir",
        f"optim.lr ({overlay}, section stage1): got 'abc', needs a number.",
        f"data.sources[0].kid ({overlay}): no such setting (did you mean data.sources[0].kind?).",
        f"data.sources[0].weight ({overlay}): got 'q', needs a number or null.",
        f"the overlay `tinny` is not known (did you mean tiny?): one of {', '.join(list_overlays())}",
        "train.max_steps (command line): got 'x', needs a whole number.",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a: [", "cannot be read as YAML"),
        ("train: {seed: 1}\ntrain: {seed: 2}", "found duplicate key train"),
        ("- 1", "holds a list: write `key: value` lines"),
        ("stage2: 5", "stage2 ({path}): holds settings of that stage, got 5"),
    ],
)
def test_a_file_that_is_no_config_is_answered(tmp_path, text, answer):
    path = written(tmp_path, "o.yaml", text)
    assert answer.format(path=path) in refused("insightedit", 3, [path])


def test_a_stages_file_holds_no_sections(tmp_path):
    path = written(tmp_path, "s.yaml", "stage1: {train: {seed: 1}}")
    assert "a stage's own file cannot hold sections of stages" in refused("insightedit", path)


def test_a_missing_file_and_an_unknown_recipe_are_answered():
    assert "the file nowhere.yaml does not exist" in refused("nowhere.yaml")
    text = refused("insigthedit")
    assert "the recipe `insigthedit` is not known (did you mean insightedit?): one of insightedit" in text


def test_a_recipe_without_the_stage_says_which_it_has(tmp_path):
    path = written(tmp_path, "short.yaml", "stages: [1, 3]")
    assert refused(path, 2) == "the recipe short has the stages 1, 3; stage 2 is not one of them."


def test_one_fault_is_one_sentence_and_many_are_kept():
    assert str(ConfigError("a is wrong.")) == "a is wrong."
    assert ConfigError("a", "b").faults == ("a", "b")


@given(st.sampled_from(SETTINGS.paths))
def test_every_ending_of_a_path_is_that_path_or_ambiguous(path):

    for start in range(path.count(".") + 1):
        short = ".".join(path.split(".")[start:])
        faults: list[str] = []
        found = SETTINGS.full_path(short, faults)
        assert found in (path, short) or (found is None and path in faults[0])


def test_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "insightedit" in list_recipes()
    assert load_config("insightedit", 1).stage.objective == "align"


def test_reading_settings_needs_no_torch():
    code = "import insightedit.config as c, sys; c.load_config('insightedit', 3); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("text", ["${oc.env:SECRET}", "x/${oc.env:SECRET,none}", "${oc.${recipe}:SECRET}"])
def test_the_environment_is_never_read_into_settings(tmp_path, monkeypatch, text):
    """They are written into run folders, models and cards."""
    monkeypatch.setenv("SECRET", "hf_abcdef")
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"data": {"sources": [{"kind": "jsonl", "path": text}]}}))
    for overlays, words in (([path], []), ([], [f"output_dir={text}"])):
        with pytest.raises(ConfigError, match="reads something outside the settings") as refused:
            load_config("insightedit", 3, overlays, words)
        assert "hf_abcdef" not in str(refused.value)


def test_settings_may_name_each_other():
    config = load_config("insightedit", 3, [], ["output_dir=C:/runs/${recipe}-${train.seed}"])
    assert config.output_dir == "C:/runs/insightedit-0"


def test_other_trainers_names_are_answered_with_ours():
    with pytest.raises(ConfigError) as refused:
        load_config("insightedit", 3, [], ["optim.learning_rate=1", "save_steps=2", "train.max_train_steps=3"])
    told = [re.search("did you mean (.*)\\?", fault)[1] for fault in refused.value.faults]
    assert told == ["optim.lr", "train.save_every", "train.max_steps"]
    assert set(SYNONYMS.values()) <= set(SETTINGS.paths)
    assert not {path.rpartition(".")[2] for path in SETTINGS.paths} & SYNONYMS.keys()
