"""Settings of recipes: layers, short names, and every fault in a sentence."""

from __future__ import annotations

import pytest

from data_recipes.runner.config import RecipeConfig, load_config
from insightedit.config.load import ConfigError
from insightedit.config.settings import config_names

YAML = """
recipe: advancededit
source: {kind: folder, path: photos}
output: {shard_size: 50}
backends:
  chat: {kind: endpoint, model: m}
steps:
  masks: {smallest: 0.01}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(YAML)
    return path


def test_layers(file):
    config = load_config(file, ["shard_size=7", "backends.chat.model=n", "steps.masks.largest=0.5", "workers=3"])
    assert isinstance(config, RecipeConfig)
    assert (config.output.shard_size, config.engine.workers, config.source.path) == (7, 3, "photos")
    assert config.backends == {"chat": {"kind": "endpoint", "model": "n"}}
    assert config.steps == {"masks": {"smallest": 0.01, "largest": 0.5}}


def test_the_digest_is_of_what_decides(file):
    plain = load_config(file)
    assert load_config(file, ["workers=9", "schedule=step", "output.path=x"]).digest == plain.digest
    assert load_config(file, ["backends.chat.timeout=3", "backends.chat.device=cpu"]).digest == plain.digest
    assert load_config(file, ["backends.chat.model=n"]).digest != plain.digest
    assert load_config(file, ["seed=1"]).digest != plain.digest
    assert load_config(file, ["steps.masks.smallest=0.02"]).digest != plain.digest


@pytest.mark.parametrize("name", config_names("data"))
def test_every_config_that_comes_along_loads_by_name(name):
    assert load_config(name).recipe


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sead=1"], r"sead \(command line\): no such setting \(did you mean seed\?\)"),
        (["zzz=1"], r"zzz \(command line\): no such setting; sections are recipe, seed"),
        (["engine.nme=ray"], r"engine.nme \(command line\): no such setting \(did you mean engine.name\?\)"),
        (["engine.name=spark"], r"engine.name \(command line\): got 'spark', needs one of local, ray"),
        (["workers=two"], r"engine.workers \(command line\): got 'two', needs a whole number"),
        (["engine.devices=3"], "got 3, needs a list, each a text"),
        (["kind=folder"], None),
        (["path=x"], r"path \(command line\): could be source.path or output.path: write one of these"),
        (["workers"], r"`workers` \(command line\) is not of the form key=value"),
        (["seed=[1"], r"seed \(command line\): `\[1` cannot be read"),
        (["backends=3"], "got 3, needs `name: {key: value}` entries"),
        (["backends.chat=oracle"], r"backends.chat is 'oracle': give its settings"),
        (["source=photos"], "got 'photos', needs the settings kind, path, split"),
        (["shard_size=0"], "output.shard_size is 0: it has to be from 1 to "),
        (["workers=0"], "engine.workers is 0: it has to be from 1 to 1024"),
        (["batch_size=0"], "engine.batch_size is 0: it has to be from 1 to "),
        (["retries=-1"], "engine.retries is -1: it has to be from 0 to "),
        (["backoff=-1"], "engine.backoff is -1.0: it has to be from 0 to "),
        (["max_failed=0"], "engine.max_failed is 0.0: it has to be from 1e-09 to 1"),
        (["num_cpus=-1"], "engine.num_cpus is -1.0: it has to be from 0 to "),
        (["num_gpus=-1"], "engine.num_gpus is -1.0: it has to be from 0 to "),
        (["count=0"], "source.count is 0: it has to be from 1 to "),
        (["start=-1"], "source.start is -1: it has to be from 0 to "),
        (["output.split=a/b"], "output.split is 'a/b': files are named by it"),
    ],
)
def test_faults(words, told):
    if told is None:
        assert load_config(None, words).source.kind == "folder"
        return
    with pytest.raises(ConfigError, match=told):
        load_config(None, words)


def test_faults_of_files(tmp_path, file):
    with pytest.raises(ConfigError, match=r"mine.yaml is for the recipe advancededit, not scenes: run `python -m"):
        load_config(file, named="scenes")
    assert load_config(file, named="advancededit").recipe == "advancededit"
    with pytest.raises(
        ConfigError, match=r"the file .*none.yaml does not exist: give the path of a YAML file, or a name"
    ):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="the config `nothing-like-it` is not known: one of "):
        load_config("nothing-like-it")
    file.write_text("- 1")
    with pytest.raises(ConfigError, match="holds a list: write `key: value` lines"):
        load_config(file)
    file.write_text("a: [")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        load_config(file)
    file.write_text("engine: {worker: 2}\nsource: {count: many}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert len(caught.value.faults) == 2
