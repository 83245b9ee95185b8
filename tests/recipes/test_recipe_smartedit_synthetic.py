"""SmartEdit's exchange of things between two photos, against the scenes that the photos show."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_recipes.backends.base import load_backend
from data_recipes.backends.windows import CutOut, Window, trimmed
from data_recipes.oracle.world import World, world_of
from data_recipes.runner.inputs import InputConfig, open_input
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context
from data_recipes.smartedit_synthetic import Couples, Donor, Relations, Swap, placed
from tests.recipes.recipe_runs import oracles, run_steps, same_records, showing, world

RECIPE = "smartedit_synthetic"


@pytest.fixture(scope="module")
def run() -> tuple[list[Record], list[Rejected]]:
    return run_steps(RECIPE, showing("scene_couples", 12))


def edited(record: Record) -> tuple[World, int]:
    """The first photo's scene, and which of its things is exchanged."""
    known = world(record)
    (number,) = known.find(record.class_origin or record.class_target)
    return known, number


def test_every_photo_gives_two_pairs_or_a_reason(run: tuple[list[Record], list[Rejected]]):
    records, rejected = run
    assert len(records) + 2 * len(rejected) == 24 and len(records) >= 16
    assert [r.task for r in records] == ["add", "replace"] * (len(records) // 2)
    known = {"second photo has no whole thing of another kind", "nothing to exchange"}
    assert {one.reason for one in rejected} <= known
    scales = [one.detail.split()[-1] for one in rejected if one.reason == "nothing to exchange"]
    assert all(float(scale) > 2 for scale in scales), "small things are not blown up"
    keys = [record.key for record in records]
    assert len(set(keys)) == len(keys) and all(re.fullmatch(r"\d{6}/(add|replace)", key) for key in keys)


def test_the_addition_is_the_photo_without_the_thing_and_the_photo(run: tuple[list[Record], list[Rejected]]):
    for record in run[0]:
        if record.task == "add":
            known, number = edited(record)
            assert np.array_equal(record.target, known.photo)
            assert np.array_equal(record.source, known.draw(known.without(number)))
            assert not (known.masks[number] & ~record.mask).any() and not record.class_origin
            assert record.mask.sum() < 3 * known.masks[number].sum() and record.references == ()


def test_the_replacement_shows_the_second_photos_thing_and_changes_nothing_else(
    run: tuple[list[Record], list[Rejected]],
):
    for record in run[0]:
        if record.task == "add":
            continue
        known, number = edited(record)
        partner = world_of(record.truth["partner"])
        (given,) = partner.find(record.notes["donor"]["caption"])
        assert partner.scene.objects[given].name == record.class_target
        assert record.class_target not in {thing.name for thing in known.scene.objects}
        assert np.array_equal(record.source, known.photo)
        cut = CutOut.of(partner.photo, trimmed(partner.masks[given], 1))
        where = placed(cut.mask.shape, known.masks[number])
        wanted, inside = cut.pasted(known.draw(known.without(number)), where)
        assert np.array_equal(record.target, wanted)
        assert not (inside & ~record.mask).any()
        assert np.array_equal(record.target[~record.mask], known.photo[~record.mask])
        old = np.argwhere(known.masks[number])
        height, width = np.ptp(old, axis=0) + 1
        assert where.height * where.width == pytest.approx(height * width, rel=0.15)
        assert abs(where.top + where.height - (old[:, 0].max() + 1)) <= 1, "on the same line"


def test_relations_are_true_of_the_scene(run: tuple[list[Record], list[Rejected]]):
    sides = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
    seen = set()
    for record in run[0]:
        text = record.instructions["advanced"][-1]
        known, number = edited(record)
        thing = known.scene.objects[number]
        if record.task == "replace":
            told = re.fullmatch(r"(?:Replace|Change) (the .+?) (?:with|to) (an? .+)", text)
            assert told is not None and known.find(told[1]) == (number,), text
            assert told[2].split(" ", 1)[1] == record.class_target
            seen.add(told[1].split()[1])
            continue
        told = re.fullmatch(r"Add an? (.+?) (?:to the )?(left|right|above|below)(?: of)? (the .+)", text)
        if told is None:
            assert re.fullmatch(r"Add an? .+ (at the|in the) .+", text), text
            continue
        (other,) = known.find(told[3])
        dx, dy = sides[told[2]]
        beside = known.scene.objects[other]
        assert told[1] == thing.name and dx * (thing.x - beside.x) + dy * (thing.y - beside.y) > 0, text
        seen.add(told[2])
    assert {"left", "right"} & seen, "some relation was told at all"


def test_all_kinds_of_wordings_are_there(run: tuple[list[Record], list[Rejected]]):
    for record in run[0]:
        assert set(record.instructions) == {"template", "simple", "advanced", "reasoning"}
        assert len(record.instructions["reasoning"]) == 2


def test_one_by_one_gives_the_same_as_together(run: tuple[list[Record], list[Rejected]]):
    again, _ = run_steps(RECIPE, showing("scene_couples", 12), batch=1)
    assert same_records(run[0], again)


def test_the_harmoniser_sees_what_was_pasted():
    backends = {**oracles(), "harmoniser": load_backend("harmoniser", {"kind": "statistics", "strength": 0.8})}
    plain, _ = run_steps(RECIPE, showing("scene_couples", 2))
    moved, _ = run_steps(RECIPE, showing("scene_couples", 2), backends=backends)
    assert np.array_equal(plain[0].source, moved[0].source)
    differs = (plain[1].target != moved[1].target).any(axis=-1)
    assert differs.any() and not (differs & ~plain[1].mask).any()


def test_only_relations_where_the_config_says_so():
    records, _ = run_steps(RECIPE, showing("scene_couples", 2), {"relations": {"only": True}})
    assert all(set(r.instructions) == {"advanced"} and len(r.wordings) == 1 for r in records)


def test_couples_are_the_same_in_every_run_and_never_a_photo_with_itself(tmp_path: Path):
    for number in range(5):
        Image.fromarray(np.full((20, 30, 3), 40 * number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    source = open_input(InputConfig(kind="couples", path=str(tmp_path), seed=4))
    assert isinstance(source, Couples) and len(source) == 5
    partners = [source.partner(number) for number in range(5)]
    assert all(number != partner and 0 <= partner < 5 for number, partner in enumerate(partners))
    assert partners == [
        open_input(InputConfig(kind="couples", path=str(tmp_path), seed=4)).partner(i) for i in range(5)
    ]
    others = [Couples(source.photos, seed).partner(number) for seed in range(9) for number in range(5)]
    assert len(set(others)) == 5 and others[:5] != others[5:10]
    for number, partner in enumerate(partners):
        found = source[number]
        if 3 in (number, partner):
            assert isinstance(found, Rejected)
            if number != 3:
                assert (found.reason, found.key) == ("second photo cannot be read", str(number))
        else:
            assert isinstance(found, Record) and found.truth == {}
            assert (found.references[0] == 40 * partner).all() and found.notes["second_photo"] == str(partner)


def test_one_photo_is_no_couple(tmp_path: Path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="holds one photo, and couples need a second one"):
        open_input(InputConfig(kind="couples", path=str(tmp_path)))


def test_what_comes_has_the_size_of_what_goes_and_stays_in_the_picture():
    mask = np.zeros((100, 100), dtype=bool)
    mask[40:60, 30:70] = True
    assert placed((20, 40), mask) == Window(40, 30, 20, 40)
    assert placed((10, 20), mask) == Window(40, 30, 20, 40)
    assert placed((28, 28), mask) == Window(32, 36, 28, 28)
    low = np.zeros((100, 100), dtype=bool)
    low[0:10, 0:90] = True
    assert placed((30, 30), low) == Window(0, 30, 30, 30), "moved down from above the edge"
    assert placed((400, 10), low) == Window(0, 44, 100, 2), "no higher than the picture"


def context(step: object) -> Context:
    return Context(0, step.name, {name: oracles()[name] for name in step.needs})  # type: ignore[attr-defined]


def test_records_that_do_not_fit_are_refused():
    (record,) = showing("scene_couples", 1)
    alone = record.but(references=())
    ((found,),) = Donor()([alone], context(Donor()))
    assert isinstance(found, Rejected) and found.reason == "has no second photo"
    assert found.detail == "source.kind couples gives each photo one"
    ((found,),) = Donor(min_area=0.39, max_area=0.4)([record], context(Donor()))
    assert isinstance(found, Rejected) and found.reason == "second photo: no mask is usable"
    ((found,),) = Swap()([record], context(Swap()))
    assert isinstance(found, Rejected) and found.reason == "has no thing of a second photo"
    assert Relations().one(record, context(Relations())).reason == "is no pair of a photo's thing"  # type: ignore[union-attr]
    _, rejected = run_steps(RECIPE, [record], {"swap": {"min_scale": 50.0, "max_scale": 60.0}})
    assert rejected[0].reason == "nothing to exchange" and "would be scaled by" in rejected[0].detail
    empty = record.but(
        things=(), references=CutOut.of(record.image, record.image[..., 0] > 0).pictures, notes={"donor": {}}
    )
    assert Swap()([empty], context(Swap()))[0][0].detail == "the photo has no masks"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("step", "wrong", "told"),
    [
        (Donor, {"trim": -1}, "steps.donor.trim is -1: it is a number of pixels"),
        (Donor, {"min_area": 2.0}, "min_area is 2.0: it is a share"),
        (Donor, {"attempts": 0}, "attempts is 0: it has to be a whole number"),
        (Swap, {"grow": 0.6}, "steps.swap.grow is 0.6: it is a share of a side, from 0 to 0.5"),
        (Swap, {"min_scale": 3.0}, "min_scale is 3.0 and max_scale 2.0: the first has to be above 0"),
        (Swap, {"min_scale": 0.0}, "min_scale is 0.0 and max_scale 2.0"),
    ],
)
def test_settings_out_of_range(step: type, wrong: dict, told: str):
    with pytest.raises(ValueError, match=told):
        step(**wrong)
