"""Numbers that cannot be are refused before anything is loaded, all at once."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from insightedit.config import ConfigError, list_recipes, load_config
from insightedit.config.ranges import COUNT, RANGES, RATE, Range, _numbers
from insightedit.config.schema import Blip2T5Config, Config, EditHeadConfig, FusionConfig

STAGES = {"stage.number", "stages"}
"""Numbers that are checked against the recipe."""


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("train.max_steps=0", "train.max_steps is 0: it has to be at least 1."),
        ("optim.lr=-1", "optim.lr is -1.0: it has to be at least 0."),
        ("optim.lr=.inf", "optim.lr is inf: it has to be at least 0."),
        ("optim.lr=.nan", "optim.lr is nan: it has to be at least 0."),
        ("optim.betas=[0.9, 1.0]", "optim.betas is 1.0: it has to be at least 0 and below 1."),
        ("train.ema_decay=1", "train.ema_decay is 1.0: it has to be at least 0 and below 1."),
        ("guidance.drop_text=1.5", "guidance.drop_text is 1.5: it has to be at least 0 and at most 1."),
        ("loss.min_timestep=1000", "loss.min_timestep is 1000: it has to be at least 0 and at most 999."),
        ("train.seed=99999999999999999999", "train.seed is 99999999999999999999: it has to be at most 4294967295."),
        ("generation.resolution=100000", "generation.resolution is 100000: it has to be at most 8192."),
        ("generation.resolution=7", "generation.resolution is 7: it has to be at least 8."),
        ("comprehension.num_edit_tokens=1000000000", "it has to be at most 4096."),
        ("bridge.qformer.num_layers=10000000", "it has to be at most 256."),
        ("guidance.guidance_scale=1e308", "it has to be at most 1000."),
        ("data.sources=[]", "data.sources is empty: name at least one source, e.g. [{kind: scenes}]."),
        ("data.sources=[{weight: -1}]", "data.sources.weight is -1.0: it has to be above 0."),
        ("data.sources=[{val_fraction: 1}]", "data.sources.val_fraction is 1.0: it has to be at least 0 and below 1."),
        ("bridge.qformer.num_layers=0", "bridge.qformer.num_layers is 0: it has to be at least 1."),
    ],
)
def test_a_number_out_of_range_is_told(word, told):
    with pytest.raises(ConfigError) as refused:
        load_config("insightedit", 3, ["tiny"], [word])
    assert told in str(refused.value)


def test_all_are_told_at_once():
    with pytest.raises(ConfigError, match="3 faults in the settings") as refused:
        load_config("insightedit", 3, ["tiny"], ["batch_size=0", "drop_text=0.6", "drop_image=0.6", "lr=-1"])
    assert refused.value.faults[-1] == (
        "guidance.drop_text, drop_image and drop_both are 1.25 together: they are shares of the samples, so at most 1."
    )


def test_edges():
    assert RATE.holds(0) and not RATE.holds(1) and not RATE.holds(float("nan"))
    assert COUNT.holds(1) and not COUNT.holds(0) and COUNT.holds(10**9)
    assert Range(0, 1).holds(1) and not Range(0, above=True).holds(0)


def test_every_number_has_its_range():
    """A setting that is added gets one, or is listed here."""
    whole = Config()
    whole.bridge.fusion, whole.bridge.edit_head = FusionConfig(), EditHeadConfig()
    both = [whole, Config(comprehension=Blip2T5Config())]
    named = {key for config in both for key, _ in _numbers(config)}
    assert named - STAGES <= RANGES.keys()
    known = {
        f"{section}.{name}"
        for config in both
        for section, values in asdict(config).items()
        if isinstance(values, dict)
        for name in values
    }
    assert {".".join(key.split(".")[:2]) for key in RANGES} <= known


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["resolution=8192", "train.batch_size=65536"], "generation.resolution and train.batch_size need 98304 GB"),
        (["bridge.bim.width=65536", "bridge.bim.depth=256"], "bridge.bim need"),
        (["bridge.qformer=null", "bridge.edit_head={width: 65536, num_layers: 256}"], "bridge.edit_head need"),
    ],
)
def test_what_no_memory_holds_is_refused(words, told):
    with pytest.raises(ConfigError, match="and this machine has .* GB: make them smaller") as refused:
        load_config("insightedit", 3, ["tiny"], words)
    assert told in str(refused.value)


@pytest.mark.parametrize("recipe", list_recipes())
def test_the_recipes_hold(recipe):
    for stage in load_config(recipe).stages:
        for overlay in ("tiny", None):
            load_config(recipe, stage, [overlay] if overlay else [])
