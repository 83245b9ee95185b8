"""The judge reads pictures and words: every fault that it is to see, and nothing where there is none."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest

from data_recipes.backends.base import Question
from data_recipes.oracle import judge as judge_module
from data_recipes.oracle.judge import OracleJudge, read_picture
from data_recipes.oracle.words import fact_of
from data_recipes.oracle.world import world_of
from insightedit.scenes.scene import SceneObject
from insightedit.scenes.wordings import place
from tests.recipes.stand_ins import SIZE, crowd, photo

RECORD, WORLD, TWINS, ONE, OTHER = crowd()
(NUMBER,), (SECOND,) = WORLD.find(ONE), WORLD.find(OTHER)
SLOT = WORLD.scene.objects[NUMBER].slot
WITHOUT = WORLD.draw(WORLD.without(NUMBER))


def other(name, height=0.8):
    old = WORLD.scene.objects[NUMBER]
    return WORLD.swapped(NUMBER, SceneObject(name, old.slot, old.x, old.y, int(old.height * height)))


def sc(source, target, instruction, high=5, truth=RECORD.truth):
    question = Question("?", (source, target), "sc", {"instruction": instruction}, truth)
    return json.loads(OracleJudge(high).answer([question])[0])


def pq(picture, high=5):
    told = json.loads(OracleJudge(high).answer([Question("?", (picture,), "pq", {}, RECORD.truth)])[0])
    return told["score"]


@pytest.mark.parametrize(
    ("source", "target", "instruction"),
    [
        (WORLD.photo, WITHOUT, f"remove the {ONE}"),
        (WORLD.photo, WITHOUT, f"What is {place(SLOT)}? Remove it."),
        (WITHOUT, WORLD.photo, f"add a {ONE} {place(SLOT)}"),
        (WITHOUT, WORLD.photo, f"put in the {fact_of(ONE)}"),
        (WORLD.photo, WORLD.draw(other("fox")), f"replace the {ONE} with a fox"),
        (WORLD.photo, WORLD.draw(other("fox", 0.5)), f"swap the {ONE} for a fox"),
        (WORLD.draw(other("fox")), WORLD.photo, f"turn the fox into a {ONE}"),
    ],
)
def test_right_edits_have_full_marks(source, target, instruction):
    assert sc(source, target, instruction)["score"] == [5, 5]


@pytest.mark.parametrize(
    ("source", "target", "instruction"),
    [
        (WORLD.photo, WITHOUT, f"remove the {OTHER}"),
        (WORLD.photo, WITHOUT, f"remove the {TWINS}"),  # two
        (WORLD.photo, WITHOUT, "remove the fox"),
        (WORLD.photo, WITHOUT, f"remove the red {ONE}"),
        (WORLD.photo, WITHOUT, f"remove the {ONE} {place(SLOT - 1)}"),
        (WORLD.photo, WITHOUT, f"add a {ONE}"),
        (WORLD.photo, WITHOUT, f"replace the {ONE} with a fox"),
        (WITHOUT, WORLD.photo, f"remove the {ONE}"),
        (WITHOUT, WORLD.photo, f"add a {ONE} {place(SLOT - 1)}"),
        (WORLD.photo, WORLD.photo, f"remove the {ONE}"),
        (WORLD.photo, WORLD.draw(WORLD.without(NUMBER, SECOND)), f"remove the {ONE}"),
        (WORLD.photo, WORLD.draw(other("fox")), f"replace the {ONE} with a cat"),
        (WORLD.photo, WORLD.draw(other("fox")), f"remove the {ONE}"),
        (WORLD.draw(other("fox")), WORLD.photo, f"replace the cat with a {ONE}"),
        (WORLD.photo, WITHOUT, "make it nice"),
    ],
)
def test_wrong_edits_have_no_success(source, target, instruction):
    assert sc(source, target, instruction)["score"][0] == 0


def test_reasons_are_told():
    assert sc(WORLD.photo, WITHOUT, "make it nice")["reasoning"] == "the instruction is not understood"
    assert sc(WORLD.photo, WORLD.photo, f"remove the {ONE}")["reasoning"] == "nothing was done"
    assert sc(WORLD.photo, WITHOUT, "remove the fox")["reasoning"].endswith(f"something else: {ONE} became nothing")
    recoloured = replace(WORLD.scene, photometric="sepia")
    assert "nothing became nothing" not in sc(WORLD.photo, WORLD.draw(recoloured), "remove the fox")["reasoning"]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
@pytest.mark.parametrize("from_below", [True, False])
def test_what_is_left_costs_success_and_cleanness(share, from_below):
    picture = WITHOUT.copy()
    rows, columns = np.nonzero(WORLD.masks[NUMBER])
    along = rows if from_below else -rows
    left = along >= np.quantile(along, 1 - share)
    picture[rows[left], columns[left]] = WORLD.photo[rows[left], columns[left]]
    success, _ = sc(WORLD.photo, picture, f"remove the {ONE}")["score"]
    assert success <= (4 if share < 0.1 else 3)  # so a pair is refused from a tenth on
    assert min(pq(picture)) <= 4


def test_what_changes_elsewhere_costs_restraint():
    picture = WITHOUT.copy()
    picture[80:90, 5:20] = 255 - picture[80:90, 5:20]
    success, restraint = sc(WORLD.photo, picture, f"remove the {ONE}")["score"]
    assert success == 5
    assert restraint == 2  # 150 of 9,216 pixels
    assert sc(picture, WORLD.photo, f"add a {ONE}")["score"][1] == 2
    assert min(pq(picture)) <= 2


def test_scenes_look_natural_whatever_is_in_them():
    for picture in (WORLD.photo, WITHOUT, WORLD.draw(other("fox")), WORLD.draw(WORLD.without(0, 1))):
        assert pq(picture) == [5, 5]


def test_noise_does_not():
    noisy = WORLD.photo.copy()
    noise = np.random.default_rng(0).integers(-80, 81, (20, 20, 3))
    noisy[40:60, 40:60] = np.clip(noisy[40:60, 40:60] + noise, 0, 255)
    assert pq(noisy)[1] <= 2


def test_small_differences_are_not_seen():
    shifted = np.clip(WITHOUT.astype(int) + 9, 0, 255).astype(np.uint8)
    assert sc(WORLD.photo, shifted, f"remove the {ONE}")["score"] == [5, 5]


def test_both_scales():
    assert sc(WORLD.photo, WITHOUT, f"remove the {ONE}", high=10)["score"] == [10, 10]
    assert pq(WORLD.photo, high=10) == [10, 10]


def test_every_edit_of_scenes_is_judged_right_and_wrong_ones_are_not():
    for index in range(14):
        record = photo(index, 64)
        sample = world_of(record.truth).sample
        assert sc(sample.source, sample.target, sample.instruction, truth=record.truth)["score"] == [5, 5]
        wrong = [p for name, p in sample.candidates().items() if name.startswith(("wrong_object", "wrong_task"))]
        for picture in wrong[:1]:
            assert sc(sample.source, picture, sample.instruction, truth=record.truth)["score"][0] < 4


def test_pictures_are_read_by_their_pixels():
    for scene in (WORLD.scene, WORLD.without(NUMBER), WORLD.without(0, NUMBER), other("fox"), other("tree", 0.6)):
        found = read_picture(WORLD, WORLD.draw(scene))
        assert not found.unexplained.any()
        np.testing.assert_array_equal(WORLD.draw(found.scene), WORLD.draw(scene))
    names = [thing.name for thing in read_picture(WORLD, WORLD.draw(other("tree", 0.6))).scene.objects]
    assert names[NUMBER] == "tree"


def test_readings_are_remembered_but_not_without_end():
    assert read_picture(WORLD, WORLD.photo) is read_picture(WORLD, WORLD.photo.copy())
    assert read_picture(WORLD, WORLD.photo) is not read_picture(
        world_of(photo(3).truth), world_of(photo(3).truth).photo
    )
    assert judge_module._read.cache_info().maxsize == judge_module.KEPT


def test_it_is_told_of_no_fault():
    """Neither notes nor anything else of a record reaches it: questions carry pictures, words and the photo's scene."""
    assert "planted" not in inspect.getsource(judge_module)
    question = Question("?", (WORLD.photo, WITHOUT), "sc", {"instruction": f"remove the {ONE}"}, RECORD.truth)
    told = OracleJudge().answer([question, replace(question, truth={**RECORD.truth, "planted": "residue"})])
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        (Question("?", (WORLD.photo,), "beauty", {}, RECORD.truth), "asked for 'beauty': it answers sc and pq"),
        (Question("?", (WORLD.photo,), "sc", {}, RECORD.truth), "got 1 pictures for sc: it takes 2, and knows no"),
        (Question("?", (), "pq", {}, RECORD.truth), "got 0 pictures for pq: it takes 1"),
        (
            Question("?", (np.zeros((8, 8, 3), np.uint8),), "pq", {}, RECORD.truth),
            "give it pairs of the scene's own size",
        ),
    ],
)
def test_what_it_cannot_judge_is_told(question, sentence):
    with pytest.raises(ValueError, match=sentence):
        OracleJudge().answer([question])


def test_size_of_these_tests():
    assert WORLD.photo.shape == (SIZE, SIZE, 3)
