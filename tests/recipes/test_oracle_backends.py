"""Oracles that chat, find, cut out and paint: exact where they should be, wrong where their settings say so."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_recipes.backends.base import InpaintRequest, Question, load_backend
from data_recipes.backends.windows import box_of
from data_recipes.oracle.chat import BROKEN, OracleChat
from data_recipes.oracle.vision import OracleDetector, OracleInpainter, OracleSegmenter, covered
from data_recipes.oracle.words import simple_caption
from data_recipes.oracle.world import open_scene_pairs, open_scenes, world_of
from data_recipes.runner.inputs import InputConfig, open_input
from data_recipes.steps.pairs import box_mask, grown
from insightedit.scenes import SceneSampler
from tests.recipes.stand_ins import SIZE, crowd, photo

RECORD, WORLD, TWINS, ONE, OTHER = crowd()
NUMBER = WORLD.find(ONE)[0]
TWIN = next(simple_caption(WORLD.scene, n) for n, thing in enumerate(WORLD.scene.objects) if thing.name == TWINS)


def ask(wanted, record, chat=None, **about):
    return (chat or OracleChat()).answer([Question("?", (), wanted, about, record.truth)])[0]


# photos and worlds --------------------------------------------------------------------------------


def test_photos_are_the_sources_of_scenes():
    source = open_input(InputConfig(kind="scenes", count=5, size=64, split="val", seed=3))
    record = source[4]
    sample = SceneSampler("val", 64, 3, plain=True)[4]
    np.testing.assert_array_equal(record.image, sample.source)
    assert record.truth == {"kind": "scenes", "split": "val", "size": 64, "seed": 3, "index": 4}
    assert (record.key, record.target) == ("000004", None)
    assert len(source) > 10**6
    np.testing.assert_array_equal(world_of(record.truth).photo, record.image)


def test_pairs_are_finished_records():
    source = open_scene_pairs(InputConfig(kind="scene_pairs", count=40, size=32))
    tasks = set()
    for index in range(40):
        record, sample = source[index], SceneSampler("train", 32, plain=True)[index]
        record.check()
        tasks.add(record.task)
        np.testing.assert_array_equal(record.target, sample.target)
        np.testing.assert_array_equal(record.mask, sample.mask)
        assert record.wordings[0] == sample.instruction
        assert bool(record.class_origin) == bool(sample.edit.targets)
        assert bool(record.class_target) == (sample.task in ("add", "replace"))
    assert tasks == {"remove", "add", "replace", "recolour", "edit"}


@pytest.mark.parametrize("opened", [open_scenes, open_scene_pairs])
def test_scenes_need_a_count_and_a_split(opened):
    with pytest.raises(ValueError, match="source.count is not set: scenes have no end, so say how many"):
        opened(InputConfig(kind="scenes"))
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        opened(InputConfig(kind="scenes", count=1, split="dev"))


def test_oracles_know_nothing_about_photographs():
    with pytest.raises(
        ValueError, match=r"truth is \{\}: oracles know rendered scenes only; set source.kind to scenes"
    ):
        world_of({})


def test_drawings_are_those_of_the_renderer():
    for index in range(12):
        world = world_of(photo(index, 48).truth)
        sample = world.sample
        np.testing.assert_array_equal(world.draw(sample.target_scene), sample.target)
        for number in range(len(world.scene.objects)):
            np.testing.assert_array_equal(world.masks[number], sample.object_mask(number))


def test_boxes():
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:4, 5] = True
    assert box_of(mask).xyxy == (5, 2, 6, 4)


# eyes ---------------------------------------------------------------------------------------------


def seen(record, phrases, **noise):
    return OracleDetector(**noise).detect([record.image], [phrases], [record.truth])[0]


def test_the_detector_finds_what_phrases_mean():
    (one,) = seen(RECORD, [TWIN])
    (number,) = WORLD.find(TWIN)
    assert one.box == box_of(WORLD.masks[number]).xyxy
    assert one.phrase == TWIN
    assert len(seen(RECORD, [TWINS])) == 2
    assert seen(RECORD, ["fox", "what is this"]) == []
    both = seen(RECORD, [OTHER, ONE])
    assert [d.score for d in both] == sorted((d.score for d in both), reverse=True)


def test_noise_of_the_detector():
    names = [OTHER, ONE, TWIN]
    assert seen(RECORD, names, miss=1.0) == []
    weak = [one for one in seen(RECORD, names, invent=1.0) if one.score < 0.4]
    assert len(weak) == 3
    (exact,), (off,) = seen(RECORD, [ONE]), seen(RECORD, [ONE], jitter=0.2)
    width = exact.box[2] - exact.box[0]
    gaps = np.abs(np.array(exact.box) - off.box)
    assert 0 < gaps.max() <= 0.2 * max(width, exact.box[3] - exact.box[1])
    assert seen(RECORD, [ONE], jitter=0.2) == [off]


def cut(record, box, **noise):
    return OracleSegmenter(**noise).segment([record.image], [[box]], [record.truth])[0][0]


def test_the_segmenter_cuts_out_what_is_in_the_box():
    for mask in WORLD.masks:
        left, top, right, bottom = box_of(mask).xyxy
        np.testing.assert_array_equal(cut(RECORD, (left - 1, top, right, bottom + 1)), mask)
    assert not cut(RECORD, (0.0, 0.0, 3.0, 3.0)).any()


def test_noise_of_the_segmenter():
    mask = WORLD.masks[0]
    box = box_of(mask).xyxy
    wide, narrow, holes = cut(RECORD, box, grow=2), cut(RECORD, box, grow=-1), cut(RECORD, box, speckle=0.3)
    assert (wide | ~mask).all()
    assert wide.sum() > mask.sum() > narrow.sum()
    assert (mask | ~narrow).all()
    assert 0.6 < holes.sum() / mask.sum() < 0.8


@pytest.mark.parametrize(
    ("kind", "setting", "sentence"),
    [
        ("detector", {"miss": 1.5}, "backends.detector.miss is 1.5: it is a share, from 0 to 1."),
        ("segmenter", {"speckle": -1}, "backends.segmenter.speckle is -1: it is a share"),
        ("chat", {"broken": 2}, "backends.chat.broken is 2: it is a share"),
        ("judge", {"high": 7}, "backends.judge.high is 7: rubrics end at 5 or at 10."),
    ],
)
def test_wrong_settings_are_told(kind, setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_backend(kind, {"kind": "oracle", **setting})


@pytest.mark.parametrize("kind", ["chat", "judge", "detector", "segmenter", "inpainter"])
def test_oracles_have_a_name_settings_and_a_usage(kind):
    backend = load_backend(kind, {"kind": "oracle"})
    assert backend.name == "oracle"
    json.dumps(dict(backend.settings))
    assert (backend.usage.calls, backend.usage.cost) == (0, 0.0)


def test_calls_are_counted():
    chat = OracleChat()
    ask("caption", photo(0), chat)
    ask("caption", photo(1), chat)
    assert (chat.usage.calls, chat.usage.asked) == (2, 2)


# hand ---------------------------------------------------------------------------------------------


def paint(record, mask, prompt="", **about):
    return OracleInpainter().paint([InpaintRequest(record.image, mask, prompt, truth=record.truth, about=about)])[0]


def test_what_is_removed_shows_what_was_behind():
    for number, mask in enumerate(WORLD.masks):
        np.testing.assert_array_equal(paint(RECORD, mask), WORLD.draw(WORLD.without(number)))
    everything = np.ones((SIZE, SIZE), dtype=bool)
    np.testing.assert_array_equal(paint(RECORD, everything), WORLD.draw(WORLD.without(*range(len(WORLD.masks)))))


def test_a_mask_that_is_too_small_leaves_a_rest():
    mask = WORLD.masks[0].copy()
    rows = np.flatnonzero(mask.any(axis=1))
    mask[rows[-3:]] = False
    painted = paint(RECORD, mask)
    np.testing.assert_array_equal(painted[~mask], RECORD.image[~mask])
    np.testing.assert_array_equal(painted[mask], WORLD.draw(WORLD.without(0))[mask])


def test_nothing_is_painted_without_a_mask_or_a_thing_in_it():
    empty = np.zeros((SIZE, SIZE), dtype=bool)
    np.testing.assert_array_equal(paint(RECORD, empty, "fox"), RECORD.image)
    corner = empty.copy()
    corner[:2, :2] = True
    np.testing.assert_array_equal(paint(RECORD, corner), RECORD.image)


def test_words_decide_where_two_things_lie_in_the_mask():
    everything = np.ones((SIZE, SIZE), dtype=bool)
    assert len(covered(WORLD, everything)) == len(WORLD.masks)
    assert covered(WORLD, everything, f"the {ONE}") == (NUMBER,)
    assert covered(WORLD, WORLD.masks[NUMBER], "something unknown") == (NUMBER,)


def test_a_new_thing_fits_into_the_mask():
    area = grown(box_mask(WORLD.masks[NUMBER]), 0.02)
    painted = paint(RECORD, area, "a tree", class_origin=ONE)
    old = WORLD.scene.objects[NUMBER]
    drawn = [
        WORLD.draw(WORLD.swapped(NUMBER, type(old)("tree", old.slot, old.x, old.y, -(-h * 1000 // SIZE))))
        for h in range(6, old.height * SIZE // 1000 + 1)
    ]
    assert sum(np.array_equal(painted, one) for one in drawn) == 1


def test_a_thing_may_be_painted_where_nothing_was():
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[SIZE - 30 : SIZE - 4, 4:30] = True
    painted = paint(RECORD, mask, "red apple")
    changed = (painted != RECORD.image).any(axis=-1)
    assert changed[mask].mean() > 0.3
    assert not changed[~mask].any()


def test_what_cannot_be_painted_is_told():
    mask = np.ones((SIZE, SIZE), dtype=bool)
    with pytest.raises(ValueError, match="the oracle cannot draw 'a brass lantern': it knows the things of"):
        paint(RECORD, mask, "a brass lantern")
    with pytest.raises(ValueError, match="the oracle got a mask of 8 x 8 px for a scene of 96 x 96 px: give it"):
        paint(RECORD, np.ones((8, 8), dtype=bool))
    with pytest.raises(ValueError, match="the oracle got a picture of 8 x 8 px"):
        paint(RECORD.but(image=np.zeros((8, 8, 3), np.uint8)), mask)


# words --------------------------------------------------------------------------------------------


def test_answers_about_a_scene():
    assert ask("caption", RECORD) == WORLD.sample.caption_source
    assert json.loads(ask("entities", RECORD))["entities"] == [
        simple_caption(WORLD.scene, number) for number in range(4)
    ]
    assert json.loads(ask("editable", RECORD, objects=[ONE, TWINS, "sky"])) == {"flags": [1, 0, 0]}
    assert WORLD.sample.expressive_instruction in ask("describe_edit", RECORD, instruction="x")
    assert ask("summarise", RECORD) == WORLD.sample.expressive_instruction


def test_proposals_are_new_and_known():
    names = set()
    for index in range(12):
        record = photo(index)
        world = world_of(record.truth)
        told = json.loads(ask("propose", record, object=simple_caption(world.scene, 0)))
        assert told["object"] not in {thing.name for thing in world.scene.objects}
        assert told["object"] in world.sample.renderer.assets.classes
        assert told["detailed_caption"].split(" ", 1)[1].startswith(told["object"])
        names.add(told["object"])
    assert len(names) > 5


def test_the_main_subject_is_the_largest_that_is_wholly_seen():
    words = [ONE, OTHER]
    sizes = [WORLD.masks[WORLD.find(one)[0]].sum() for one in words]
    assert json.loads(ask("main_subject", RECORD, objects=words))["subject"] == words[int(np.argmax(sizes))]
    assert json.loads(ask("main_subject", RECORD, objects=["sky"])) == {"subject": None}


def test_wordings_with_a_picture():
    told = ask("subject_instruction", RECORD, task="add", detailed_target="a small dog at the top", count=2)
    texts = json.loads(told)["instructions"]
    assert len(set(texts)) == 2
    assert all(one.endswith("<imagehere> at the top") for one in texts)
    told = ask("subject_instruction", RECORD, task="replace", class_origin=f"the {ONE}", count=4)
    assert all(f"the {ONE}" in one and one.count("<imagehere>") == 1 for one in json.loads(told)["instructions"])


def test_broken_answers_come_first_only():
    chat = OracleChat(broken=1.0)
    questions = [Question(f"{n}", (), "objects", {}, photo(0).truth) for n in range(12)]
    assert set(chat.answer(questions)) <= set(BROKEN)
    again = Question("0", (), "objects", {}, photo(0).truth, attempt=1)
    assert json.loads(chat.answer([again])[0])["object_list"]


def test_questions_that_no_oracle_knows():
    with pytest.raises(ValueError, match="the oracle chat was asked for 'poem': it answers caption, objects"):
        ask("poem", photo(0))
    about = dict.fromkeys(("class_origin", "class_target", "detailed_origin", "detailed_target"), "a ghost")
    with pytest.raises(ValueError, match="the oracle cannot tell where .* is: it reads its own detailed captions"):
        ask("reasoning", photo(0), task="remove", **about)


def test_truth_is_json():
    truth = open_scenes(InputConfig(kind="scenes", count=8))[7].truth
    assert json.loads(json.dumps(truth)) == dict(truth) and truth["index"] == 7
