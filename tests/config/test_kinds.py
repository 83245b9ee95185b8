"""`kind:` chooses a part; its settings are its own, those of another kind are refused, those of 0.1 are read."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pytest
import yaml

from insightedit.config import ConfigError, load_config
from insightedit.config.kinds import part_class, saved_settings
from insightedit.config.schema import Blip2T5Config, ComprehensionConfig, LlavaConfig, PixArtConfig, UNetConfig


@dataclass
class OwnConfig(ComprehensionConfig):
    """Of somebody's own."""

    depth: int = 3


class Own:
    """A kind of somebody's own."""

    settings = OwnConfig


class Without:
    """One that forgot its settings."""


def test_the_recipes_kinds():
    assert isinstance(load_config("smartedit").comprehension, LlavaConfig)
    assert isinstance(load_config("smartedit").generation.denoiser, UNetConfig)
    assert isinstance(load_config("mige").comprehension, Blip2T5Config)
    assert isinstance(load_config("mige").generation.denoiser, PixArtConfig)


def test_another_kind_leaves_the_recipe_s_own_settings_behind():
    config = load_config("insightedit", 3, ["tiny"], ["generation.denoiser.kind=pixart"])
    assert config.generation.denoiser == PixArtConfig(model="miniature:tiny/pixart")


@pytest.mark.parametrize(
    ("recipe", "word", "told"),
    [
        ("insightedit", "comprehension.max_references=2", "is a setting of comprehension.kind blip2_t5, and llava is"),
        ("mige", "comprehension.lora.rank=2", "no such setting"),
        (
            "mige",
            "comprehension.num_edit_tokens=2",
            "is a setting of comprehension.kind llava, and blip2_t5 is built:",
        ),
        ("mige", "comprehension.kind=qwen", "no such kind: one of llava, blip2_t5, or MODULE:CLASS of your own"),
        ("mige", "comprehension.kind=no.such:One", "no.such:One cannot be imported"),
        ("mige", f"comprehension.kind={__name__}:Without", "has no `settings`, a dataclass that derives from Compreh"),
    ],
)
def test_what_no_part_would_read_is_refused(recipe, word, told):
    with pytest.raises(ConfigError, match=told):
        load_config(recipe, None, [], [word])


def test_an_overlay_s_settings_for_another_kind_are_checked_too(tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("comprehension: {blip2_t5: {max_lenght: 3}}")
    with pytest.raises(ConfigError, match=r"comprehension.max_lenght .*no such setting \(did you mean compr"):
        load_config("insightedit", None, [overlay])


def test_a_kind_of_one_s_own(tmp_path):
    name = f"{__name__}:Own"
    config = load_config("insightedit", 3, ["tiny"], [f"comprehension.kind={name}", "comprehension.depth=5"])
    assert config.comprehension == OwnConfig(kind=name, depth=5)
    assert part_class("comprehension", name) is Own


def test_settings_of_0_1_are_read():
    """Sections that were filled chose the part."""
    words = ["comprehension.reader.source_in_text=false", "generation.transformer.place_head=true"]
    config = load_config("mige", 3, ["tiny"], words)
    assert not config.comprehension.source_in_text and config.generation.denoiser.place_head
    assert load_config("insightedit", 3, [], ["generation.unet=a/b"]).generation.denoiser.model == "a/b"


@pytest.mark.parametrize("recipe", ["insightedit", "mige"])
def test_a_saved_config_of_0_1_is_as_this_version_writes_it(recipe, tmp_path):
    now = load_config(recipe, 3, ["tiny"])
    old = asdict(now)
    reads, draws = old["comprehension"], old["generation"].pop("denoiser")
    del old["generation"]["objective"]
    if recipe == "mige":
        old["comprehension"] = asdict(LlavaConfig()) | {"reader": {k: v for k, v in reads.items() if k != "kind"}}
        old["generation"] |= {"unet": None, "transformer": {k: v for k, v in draws.items() if k != "kind"}}
    else:
        old["comprehension"]["reader"] = None
        old["generation"] |= {"unet": draws["model"], "transformer": None}
    del old["comprehension"]["kind"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    assert load_config(tmp_path / "config.yaml") == now
    new = saved_settings(old)
    assert new["comprehension"] == asdict(now.comprehension)
    assert new["generation"]["denoiser"] == asdict(now.generation.denoiser)
