"""Secrets stay in the environment, and no foreign file may ask for them."""

from __future__ import annotations

import json

import pytest

from data_recipes.runner.config import load_config
from insightedit.export.checks import read_run
from insightedit.hub.secrets import read_plain_yaml, without_secrets

SECRET = "hf_abcdefgh12345678"


@pytest.fixture(autouse=True)
def _variables(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("MY_API_KEY", "sk-0123456789")
    monkeypatch.setenv("SHORT_KEY", "a")
    monkeypatch.setenv("DATA_PLACE", "photos")


def test_values_become_names_wherever_they_stand():
    held = {"a": [SECRET, 3, None, True], "b": {"c": f"Bearer {SECRET}!"}, "d": ("sk-0123456789",), "e": "a photo"}
    hidden = without_secrets(held)
    assert hidden == {
        "a": ["${oc.env:HF_TOKEN}", 3, None, True],
        "b": {"c": "Bearer ${oc.env:HF_TOKEN}!"},
        "d": ("${oc.env:MY_API_KEY}",),
        "e": "a photo",
    }
    assert held["a"][0] == SECRET


@pytest.mark.parametrize(
    "text", ["${oc.env:HF_TOKEN}", "x${oc.env:HF_TOKEN,none}y", "${env}", "${oc.decode:${oc.env:A}}", "${"]
)
def test_a_run_of_somebody_else_reads_no_environment(tmp_path, text):
    (tmp_path / "config.yaml").write_text(f"comprehension:\n  model: {text!r}\n")
    for read in (read_run, lambda run: read_plain_yaml(run / "config.yaml")):
        with pytest.raises(ValueError, match="to be filled in where it is read: a run writes plain values"):
            read(tmp_path)


def test_an_own_recipe_may_ask_and_what_is_written_does_not_tell(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "recipe: advancededit\nsource: {path: '${oc.env:DATA_PLACE}'}\n"
        "backends: {chat: {kind: endpoint, url: 'http://localhost/${oc.env:HF_TOKEN}', model: m}}\n"
    )
    config = load_config(recipe)
    assert config.backends["chat"]["url"] == f"http://localhost/{SECRET}"
    told = json.dumps(config.deciding())
    assert SECRET not in told
    assert "http://localhost/${oc.env:HF_TOKEN}" in told
    assert config.deciding()["source"]["path"] == "photos"
