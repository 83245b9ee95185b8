"""Inpainting and harmonising: pipelines of diffusers at tiny size, and the arithmetic around them."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_recipes.backends.base import CompositeRequest, InpaintRequest, load_backend
from data_recipes.backends.inpaint import DiffusersHarmoniser, DiffusersInpainter, StatisticsHarmoniser
from data_recipes.backends.windows import Window, box_of, put_back, resized, window_around, working_size
from tests.recipes.odd_pipelines import TwoPrompts

SD = "miniature:tiny/sd"
ODD = "tests.recipes.odd_pipelines"


def picture(seed: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 200, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def hole(top: int, left: int, bottom: int, right: int, height: int = 48, width: int = 64) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def painting(**changed: Any) -> InpaintRequest:
    return InpaintRequest(**{"picture": picture(), "mask": hole(10, 20, 30, 44), "prompt": "a red dog", **changed})


@pytest.fixture(scope="module")
def inpainter() -> DiffusersInpainter:
    return DiffusersInpainter(SD, size=64, steps=2, device="cpu")


def test_only_the_mask_changes_and_the_same_comes_again(inpainter: DiffusersInpainter):
    one = painting()
    first, again = inpainter.paint([one]), inpainter.paint([one])
    assert first[0].shape == (48, 64, 3) and first[0].dtype == np.uint8
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[0][~one.mask], one.picture[~one.mask])
    assert (first[0] != one.picture)[one.mask].any(axis=-1).mean() > 0.9
    for other in (painting(seed=1), painting(prompt="a blue cat"), painting(prompt="")):
        assert not np.array_equal(inpainter.paint([other])[0], first[0])
    assert np.array_equal(one.picture, picture()), "what was given stays as it was"
    assert inpainter.usage.calls == inpainter.usage.asked == 5 and inpainter.usage.seconds > 0


def test_what_is_painted_together_comes_out_as_alone(inpainter: DiffusersInpainter):
    three = [
        painting(),
        painting(picture=picture(1, 64, 40), mask=hole(0, 0, 20, 20, 64, 40), seed=3),
        painting(picture=picture(2, 96, 200), mask=hole(30, 150, 50, 190, 96, 200), prompt=""),
    ]
    together = inpainter.paint(three)
    for one, out in zip(three, together, strict=True):
        assert out.shape == one.picture.shape
        assert np.array_equal(out, inpainter.paint([one])[0])
        assert np.array_equal(out[~one.mask], one.picture[~one.mask])
    assert inpainter.paint([]) == []


def test_it_is_what_diffusers_paints(inpainter: DiffusersInpainter):
    import torch

    from data_recipes.backends.base import class_named
    from insightedit.modeling.pretrained import resolve_model_id

    pipeline = class_named("AutoPipelineForInpainting", "diffusers").from_pretrained(resolve_model_id(SD))
    pipeline.set_progress_bar_config(disable=True)
    one = painting(negative_prompt="a cat", seed=5)
    wanted = pipeline(
        prompt="a red dog",
        negative_prompt="a cat",
        image=Image.fromarray(one.picture),
        mask_image=Image.fromarray(one.mask.astype(np.uint8) * 255),
        width=64,
        height=48,
        num_inference_steps=2,
        guidance_scale=7.5,
        strength=1.0,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    out = inpainter.paint([one])[0]
    assert np.array_equal(out[one.mask], np.asarray(wanted)[one.mask])


def test_a_pipeline_with_other_names_is_described_in_the_config():
    made = load_backend(
        "inpainter",
        {
            "kind": "diffusers",
            "model": SD,
            "pipeline_class": f"{ODD}:load_two_prompts",
            "names": {"image": "picture", "mask": "hole"},
            "removal": {"promptA": "empty scene P_ctxt", "promptB": "P_ctxt", "negative_promptA": "P_obj"},
            "painting": {"promptA": "{prompt} P_obj", "promptB": "{prompt}", "negative_promptA": "{negative_prompt}"},
            "options": {"tradoff": 0.5},
            "steps": 1,
            "size": 64,
            "blank": True,
            "device": "cpu",
        },
    )
    TwoPrompts.seen.clear()
    one = painting(prompt="a {dog}", negative_prompt="a cat")
    out = made.paint([one, painting(prompt="")])[0]
    drawn, removed = TwoPrompts.seen
    assert (drawn["promptA"], drawn["promptB"], drawn["negative_promptA"]) == ("a {dog} P_obj", "a {dog}", "a cat")
    assert (removed["promptA"], removed["promptB"]) == ("empty scene P_ctxt", "P_ctxt")
    assert removed["negative_promptA"] == "P_obj" and drawn["tradoff"] == 0.5 and drawn["num_inference_steps"] == 1
    assert drawn["picture"].size == drawn["hole"].size == (64, 48)
    shown, mask = np.asarray(drawn["picture"]), np.asarray(drawn["hole"]) > 0
    assert np.array_equal(mask, one.mask) and (shown[mask] == 0).all() and (shown[~mask] > 0).all()
    assert np.array_equal(out[~one.mask], one.picture[~one.mask])
    assert made.settings["pipeline_class"] == f"{ODD}:load_two_prompts"


def test_parts_may_be_loaded_one_by_one(inpainter: DiffusersInpainter):
    from insightedit.modeling.pretrained import resolve_model_id

    part = {"class": "UNet2DConditionModel", "model": f"{resolve_model_id(SD)}/unet"}
    made = DiffusersInpainter(SD, size=64, steps=2, device="cpu", components={"unet": part})
    assert np.array_equal(made.paint([painting()])[0], inpainter.paint([painting()])[0])


def test_what_the_safety_checker_blocks_stays_as_it_was(caplog: pytest.LogCaptureFixture):
    made = DiffusersInpainter(SD, size=32, steps=1, device="cpu", pipeline_class=f"{ODD}:Prudish")
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(made.paint([painting()])[0], picture())
    assert "the safety checker of miniature:tiny/sd blocked a picture: it stays as it was" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"options": {"guidance_scales": 2.0}}, "takes no argument guidance_scales: did you mean guidance_scale"),
        ({"names": {"mask": "qqqq"}}, "takes no argument qqqq: it takes prompt, image"),
        ({"pipeline_class": "NoSuchPipeline"}, "NoSuchPipeline cannot be imported"),
        ({"pipeline_class": "no.such:ObjectAnnotation"}, "no.such:ObjectAnnotation cannot be imported"),
    ],
)
def test_a_pipeline_that_does_not_fit(wrong: dict, told: str):
    with pytest.raises(ValueError, match=told):
        DiffusersInpainter(SD, size=32, steps=1, device="cpu", **wrong).paint([painting()])


def test_masks_that_cannot_be_painted(inpainter: DiffusersInpainter):
    with pytest.raises(ValueError, match="a mask of 10 x 10 px was given for a picture of 64 x 48 px"):
        inpainter.paint([painting(mask=np.ones((10, 10), dtype=bool))])
    with pytest.raises(ValueError, match="an empty mask was given: there is nothing to paint"):
        inpainter.paint([painting(mask=hole(0, 0, 0, 0))])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"strength": 0}, "strength is 0: give a number above 0, up to 1"),
        ({"strength": 1.5}, "strength is 1.5: give a number above 0, up to 1"),
        ({"steps": 0}, "steps is 0: give a number above 0"),
        ({"size": 4}, "size is 4 px: the model needs at least 8 px"),
        ({"multiple": 0}, "multiple is 0: give a number above 0"),
        ({"dtype": "half"}, "dtype is 'half': choose one of"),
    ],
)
def test_settings_out_of_range(wrong: dict, told: str):
    for kind in (DiffusersInpainter, DiffusersHarmoniser):
        with pytest.raises(ValueError, match=told):
            kind("m", **wrong)


def test_settings_of_one_kind_out_of_range():
    with pytest.raises(ValueError, match="margin is -1: give 0 or more"):
        DiffusersInpainter("m", margin=-1)
    with pytest.raises(ValueError, match="steps 3 at strength 0.1 leave no step to be done"):
        DiffusersHarmoniser("m", steps=3, strength=0.1)
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"strength is {wrong}: give a number from 0 to 1"):
            StatisticsHarmoniser(wrong)
    with pytest.raises(ValueError, match="margin is 0: give a number above 0"):
        StatisticsHarmoniser(margin=0)


def pasting(mask: np.ndarray) -> CompositeRequest:
    """A reddish thing on a bluish picture."""
    background = np.clip(picture().astype(int) + np.array([-60, -20, 50]), 0, 255).astype(np.uint8)
    pasted = background.copy()
    pasted[mask] = np.clip(picture(1).astype(int) + np.array([40, 0, -40]), 0, 255).astype(np.uint8)[mask]
    return CompositeRequest(pasted, mask, background)


def lab_mean(pixels: np.ndarray) -> np.ndarray:
    from skimage.color import rgb2lab

    return rgb2lab(pixels[None])[0].mean(axis=0)


def test_colours_move_towards_the_surroundings_as_far_as_is_said():
    mask = hole(12, 20, 36, 44)
    one = pasting(mask)
    before = lab_mean(one.picture[mask])
    gaps = {}
    for strength in (0.0, 0.5, 1.0):
        out = StatisticsHarmoniser(strength, margin=2.0).harmonise([one])[0]
        assert np.array_equal(out[~mask], one.picture[~mask])
        gaps[strength] = np.abs(lab_mean(out[mask]) - lab_mean(one.background[~mask])).max()
        assert out is not one.picture
    used = StatisticsHarmoniser()
    used.harmonise([one, one])
    assert used.usage.calls == used.usage.asked == 2
    start = np.abs(before - lab_mean(one.background[~mask])).max()
    assert gaps[0.0] == start > 20 and gaps[0.5] == pytest.approx(start / 2, abs=2) and gaps[1.0] < 2
    flat = CompositeRequest(np.full_like(one.picture, 90), mask, one.background)
    moved = StatisticsHarmoniser(1.0).harmonise([flat])[0]
    assert len(np.unique(moved[mask], axis=0)) == 1, "what is flat stays flat"


def test_without_surroundings_or_thing_there_is_nothing_to_adapt():
    for mask in (np.ones((48, 64), dtype=bool), np.zeros((48, 64), dtype=bool)):
        one = CompositeRequest(picture(), mask, picture(1))
        assert np.array_equal(StatisticsHarmoniser(1.0).harmonise([one])[0], picture())


def test_a_pipeline_harmonises_within_the_mask_only():
    model = DiffusersHarmoniser(SD, size=64, steps=4, strength=0.5, device="cpu")
    mask = hole(12, 20, 36, 44)
    one = pasting(mask)
    out, again = (model.harmonise([one])[0] for _ in range(2))
    assert np.array_equal(out, again) and np.array_equal(out[~mask], one.picture[~mask])
    assert (out != one.picture)[mask].any(axis=-1).mean() > 0.9
    assert model.usage.calls == 2 and model.name == SD
    with pytest.raises(ValueError, match="an empty mask was given"):
        model.harmonise([CompositeRequest(picture(), hole(0, 0, 0, 0), picture())])


def test_what_a_model_sees_of_a_picture():
    small = hole(10, 20, 30, 44)
    assert box_of(small) == Window(10, 20, 20, 24)
    assert window_around(small, 64, 0.5) == Window(0, 0, 48, 64), "a small picture is seen as a whole"
    assert window_around(small, 32, 0.25) == Window(2, 14, 36, 36), "twelve more than the box is wide"
    assert window_around(small, 40, 0.0) == Window(0, 12, 40, 40)
    corner = hole(40, 60, 48, 64)
    assert window_around(corner, 16, 0.0) == Window(32, 48, 16, 16), "moved inwards at the edges"
    assert working_size(Window(0, 0, 48, 64), 640, 8) == (640, 480)
    assert working_size(Window(0, 0, 3000, 100), 512, 8) == (16, 512)
    assert working_size(Window(0, 0, 3000, 10), 512, 8) == (8, 512)


def test_a_window_is_put_back_where_it_was():
    mask = hole(10, 20, 30, 44)
    window = Window(4, 16, 32, 32)
    painted = Image.new("RGB", (64, 64), (1, 2, 3))
    out = put_back(picture(), painted, mask, window)
    assert (out[mask] == (1, 2, 3)).all() and np.array_equal(out[~mask], picture()[~mask])
    assert np.array_equal(np.asarray(resized(mask, 64, 48)) > 0, mask)


def test_every_kind_is_made_without_its_heavy_library():
    code = """
import sys
from data_recipes.backends.base import load_backend
load_backend("chat", {"kind": "endpoint", "model": "m"})
load_backend("judge", {"kind": "transformers", "model": "m"})
load_backend("detector", {"kind": "grounding_dino"})
load_backend("segmenter", {"kind": "sam"})
load_backend("segmenter", {"kind": "sam2"})
load_backend("inpainter", {"kind": "diffusers", "model": "m"})
load_backend("harmoniser", {"kind": "diffusers", "model": "m"})
load_backend("harmoniser", {"kind": "statistics"})
heavy = {"torch", "transformers", "diffusers", "httpx", "skimage"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
