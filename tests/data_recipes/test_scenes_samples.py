from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from insightedit.images.tones import TONES
from insightedit.scenes import (
    CATEGORIES,
    COLOURS,
    TASKS,
    Assets,
    Edit,
    SceneSampler,
    apply_edit,
    is_held_out_combination,
    text_corpus,
)
from insightedit.scenes.draws import draw_texture, neighbours, refer
from insightedit.scenes.render import Renderer
from insightedit.scenes.scene import HEIGHTS, SLOT_CENTRES, Background, Texture
from insightedit.scenes.textures import TEXTURES
from insightedit.scenes.textures import draw_texture as draw_pixels
from insightedit.scenes.wordings import PLACES, TEMPLATES, plural

SPLITS = ("train", "val", "test")
# `python -c "from tests.data_recipes.test_scenes_samples import *; print(digest('train', 64, 0, 0))"`
PINNED = {
    ("train", 64, 0, 0): "712e8b7ca8d334a31c967951",
    ("train", 64, 0, 7): "d3a941f994472ca9ff07daa7",
    ("train", 64, 3, 123456): "cfb59b85083a91a1355fce8c",
    ("train", 128, 0, 11): "12d9fc9bac5bb46d5644eb84",
    ("val", 64, 0, 1): "ded0eea16813d8d5ad144a8d",
    ("val", 128, 0, 2): "8dbbd9d2558b5739cfda05f6",
    ("test", 64, 0, 0): "08e942ca4503a94cd36b7629",
    ("test", 64, 0, 599): "7434f52476634b888b772f7f",
    ("test", 128, 1, 5): "ef2858df5f756469ef51a9e0",
    ("test", 32, 2, 3): "10ef5b9fe62e5b983d178201",
}


def digest(split: str, size: int, seed: int, index: int) -> str:
    sample = SceneSampler(split, size, seed)[index]
    pixels = sample.source.tobytes() + sample.target.tobytes() + sample.mask.tobytes()
    texts = (
        sample.instruction, sample.expressive_instruction, sample.caption_source, sample.caption_target,
        sample.template_id,
    )  # fmt: skip
    return hashlib.sha256(pixels + "\n".join(texts).encode()).hexdigest()[:24]


@pytest.mark.parametrize("numbers", PINNED, ids=str)
def test_a_sample_never_changes(numbers):
    assert digest(*numbers) == PINNED[numbers], "models and results were made with these bytes: keep them"


def test_only_training_photographs_are_disguised(samples):
    worn = {split: [s.scene.background for s in samples[split][:120]] for split in SPLITS}
    assert {b.channels for b in worn["train"]} >= {(0, 1, 2), (2, 1, 0)}
    assert any(b.veil for b in worn["train"]) and not all(b.veil for b in worn["train"])
    train = {p.name for p in Assets.embedded().photos_of("train")}
    assert {b.veil for b in worn["train"]} - {None} <= train, "a veil of another split would leak it"
    for name in ("turns", "gains", "lift", "tone", "texture"):
        assert len({getattr(b, name) for b in worn["train"]}) > 2, name
    for b in (*worn["val"], *worn["test"]):
        assert b == Background(b.photo, b.left, b.top, b.side, b.flip) and b.side >= 550


def test_textures_are_drawn_in_their_colours_and_alike_at_every_size():
    rng = np.random.Generator(np.random.Philox(3))
    drawn = [draw_texture(rng) for _ in range(200)]
    assert {texture.kind for texture in drawn} == set(TEXTURES)
    for texture in drawn:
        small, large = (Renderer(Assets.embedded(), n).background(Background("", texture=texture)) for n in (32, 128))
        assert small.shape == (32, 32, 3) and small.dtype == np.uint8
        colours = np.array(texture.colours)
        assert (large >= colours.min(0)).all() and (large <= colours.max(0)).all()
        shrunk = large.reshape(32, 4, 32, 4, 3).mean((1, 3))
        assert np.abs(shrunk.mean((0, 1)) - small.mean((0, 1))).max() < 12, texture
        if texture.kind not in ("stripes", "checks", "dots", "sand", "wood", "blobs"):  # finer than a small pixel
            assert np.abs(shrunk - small).mean() < 6, texture
    assert drawn[0] != drawn[1] and np.array_equal(draw_pixels(drawn[0], 16), draw_pixels(drawn[0], 16))


def test_textures_have_the_values_that_their_kinds_say():
    black_to_white = ((0, 0, 0), (255, 255, 255))
    stripes = draw_pixels(Texture("stripes", black_to_white, period=500), 8)[..., 0]
    assert stripes.tolist() == [[0, 0, 255, 255, 0, 0, 255, 255]] * 8
    checks = draw_pixels(Texture("checks", black_to_white, period=500), 8)[..., 0]
    assert np.array_equal(checks, np.kron(np.indices((4, 4)).sum(0) % 2 * 255, np.ones((2, 2))))
    gradient = draw_pixels(Texture("gradient", ((255, 0, 0), (0, 255, 0), (0, 0, 255)), way=4), 64)
    assert (gradient == gradient[:, :1]).all() and (np.diff(gradient[:, 0, 0].astype(int)) <= 0).all()
    assert gradient[0, 0].argmax() == 0 and gradient[32, 0].argmax() == 1 and gradient[-1, 0].argmax() == 2
    assert (draw_pixels(Texture("plain", ((1, 2, 3), (4, 5, 6))), 4) == (1, 2, 3)).all()


def test_a_photograph_is_turned_lit_and_toned_in_this_order(samples):
    renderer = samples["train"][0].renderer
    plain = Background(renderer.assets.photos_of("train")[0].name, 100, 200, 700)
    pixels = renderer.background(plain)
    worn = replace(plain, turns=1, gains=(1100, 1000, 500), lift=10, tone="inverted")
    lit = np.clip(np.rot90(pixels) * np.array((1100, 1000, 500)) // 1000 + 10, 0, 255)
    assert np.array_equal(renderer.background(worn), 255 - lit)
    close = renderer.background(replace(plain, side=60)).astype(int)  # 15 pixels of the photograph: no blocks
    assert (np.diff(close[0], axis=0) == 0).all(axis=1).mean() < 0.2


def test_a_disguise_is_a_mix_of_photographs_with_their_channels_reordered(samples):
    renderer = samples["train"][0].renderer
    first, second = (p.name for p in renderer.assets.photos_of("train")[:2])
    plain = Background(first, 100, 200, 700)
    one, two = (renderer.background(replace(plain, photo=name)).astype(int) for name in (first, second))
    mixed = renderer.background(replace(plain, channels=(2, 0, 1), veil=second, veil_share=300, flip=True))
    wanted = np.rint((one * 700 + two * 300) / 1000)[:, ::-1, [2, 0, 1]]
    assert np.abs(mixed - wanted).max() <= 1


def test_samples_do_not_depend_on_the_order_they_are_asked_for():
    there, back = SceneSampler("val", 32), SceneSampler("val", 32)
    forward = [there[i].instruction for i in range(5)]
    assert forward == [back[i].instruction for i in reversed(range(5))][::-1]
    assert forward != [SceneSampler("val", 32, seed=1)[i].instruction for i in range(5)]


def test_pictures_and_mask_are_exact(samples):
    for sample in samples["test"][:60]:
        renderer = Renderer(Assets.embedded(), 32)
        source, target = renderer.render(sample.scene), renderer.render(apply_edit(sample.scene, sample.edit))
        assert source.shape == target.shape == (32, 32, 3)
        assert source.dtype == target.dtype == np.uint8
        assert np.array_equal(sample.source, source)
        assert np.array_equal(sample.target, target)
        assert sample.mask.dtype == bool and sample.mask.any()
        assert np.array_equal(sample.mask, (source != target).any(-1))
        assert sample.target_scene == apply_edit(sample.scene, sample.edit)


@pytest.mark.parametrize("split", SPLITS)
def test_every_task_and_category_occurs(samples, split):
    assert {s.task for s in samples[split]} == set(TASKS) - {"decline"}
    assert {s.category for s in samples[split]} == set(CATEGORIES)
    assert {s.style for s in samples[split]} == {"simple", "advanced"}
    operations = {s.edit.operation for s in samples[split]} - {None}
    assert operations < set(TONES) and len(operations) > 25


def test_the_target_follows_from_source_and_instruction(plain_samples):
    for sample in plain_samples["train"] + plain_samples["test"]:
        before, after, edit = sample.scene, sample.target_scene, sample.edit
        assert after.background == before.background
        touched = [o for i, o in enumerate(before.objects) if i in edit.targets]
        if edit.task == "add":
            new = after.objects[-1]
            assert after.objects[:-1] == before.objects
            assert new.name not in {o.name for o in before.objects}
            assert new.slot == edit.slot not in {o.slot for o in before.objects}
            assert (new.x, new.y) == SLOT_CENTRES[edit.slot]
            assert (new.height, new.flip, new.colour) == (HEIGHTS["medium"], False, None)
            assert PLACES[tuple(PLACES)[edit.slot]] in sample.instruction
            assert new.name in sample.instruction
        elif edit.task == "photometric":
            assert after.objects == before.objects
            assert after.photometric == edit.operation
        elif edit.task == "remove":
            assert set(before.objects) - set(after.objects) == set(touched)
        else:
            check_changed(sample, edit)


def check_changed(sample, edit) -> None:
    for number, (old, new) in enumerate(zip(sample.scene.objects, sample.target_scene.objects, strict=True)):
        if number not in edit.targets:
            assert old == new
            continue
        assert (new.x, new.y, new.slot) == (old.x, old.y, old.slot)
        if edit.task == "replace":
            assert (new.name, new.height, new.flip, new.colour) == (edit.name, old.height, False, None)
            assert edit.name in sample.instruction and edit.name != old.name
        elif edit.task == "recolour":
            assert new.colour == edit.colour != old.colour
            assert edit.colour in sample.instruction
        else:
            assert new.height == old.height * (1400 if edit.bigger else 700) // 1000
            assert ("bigger" if edit.bigger else "smaller") in sample.instruction


def matches(sample, number: int) -> bool:
    """Whether object `number` fits the words that the instruction has for its object, read from scratch."""
    objects, targets = sample.scene.objects, sample.edit.targets
    thing, name = objects[number], objects[targets[0]].name
    twins = [o for o in objects if o.name == thing.name]
    reference = refer(sample.scene, targets, sample.category)
    assert reference in sample.instruction
    if sample.category == "reasoning":
        return reference == f"the {Assets.embedded().sprites[thing.name].fact}"
    if sample.category == "multiple_objects":
        return reference == f"both {plural(thing.name)}" or thing.name in reference[4:].split(" and the ")
    if thing.name != name:
        return False
    if sample.category == "left_right":
        column = min if "the left " in reference else max
        return thing.slot % 3 == column(o.slot % 3 for o in twins)
    if sample.category == "relative_size":
        size = min if "smaller" in reference else max
        return thing.height == size(o.height for o in twins)
    if sample.category == "mirror":
        return thing.in_mirror == ("in the mirror" in reference)
    if sample.category == "colour":
        return reference == f"the {thing.colour} {thing.name}"
    if sample.category == "position":
        return reference == f"the {thing.name} {tuple(PLACES.values())[thing.slot]}"
    if sample.category == "relation":
        return any(
            objects[near].name == reference.split(" the ")[1] for _, near in neighbours(sample.scene, thing.slot)
        )
    return reference == f"the {thing.name}"


@pytest.mark.parametrize("split", SPLITS)
def test_every_reference_is_unambiguous(plain_samples, split):
    for sample in plain_samples[split]:
        if sample.edit.targets:
            fitting = tuple(i for i in range(len(sample.scene.objects)) if matches(sample, i))
            assert fitting == sample.edit.targets, (sample.index, sample.instruction)


def test_twins_differ_visibly(samples):
    for sample in samples["train"]:
        if sample.category not in ("left_right", "relative_size", "colour"):
            continue
        name = sample.scene.objects[sample.edit.targets[0]].name
        first, second = (o for o in sample.scene.objects if o.name == name)
        if sample.category == "left_right":
            assert abs(first.x - second.x) >= 200
        elif sample.category == "relative_size":
            assert max(first.height, second.height) >= 1.5 * min(first.height, second.height)
        else:
            assert None not in (first.colour, second.colour) and first.colour != second.colour


def test_objects_stand_in_cells_of_their_own(samples):
    for sample in samples["val"]:
        slots = [o.slot for o in sample.scene.objects]
        assert len(set(slots)) == len(slots) in range(5)


def test_what_is_held_out_stays_out(samples):
    classes = Assets.embedded().classes
    photos = {s: {sample.scene.background.photo for sample in samples[s]} for s in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not photos[one] & photos[other]
    for split in SPLITS:
        held_out = [("heldout" in s.template_id, held_out_pair(s, classes)) for s in samples[split]]
        wordings, pairs = (sum(column) for column in zip(*held_out, strict=True))
        if split == "test":
            assert wordings == len(held_out), "the test split tells held-out families alone"
            assert pairs > 20
        else:
            assert wordings == pairs == 0


def held_out_pair(sample, classes) -> bool:
    names = [sample.scene.objects[i].name for i in sample.edit.targets]
    names += [sample.edit.name] if sample.edit.name else []
    return any(is_held_out_combination(name, sample.task, classes) for name in names)


def test_held_out_wordings_are_no_wordings_of_training():
    for templates in TEMPLATES.values():
        known = {t.text for t in templates if t.split == "train"}
        assert known and not known & {t.text for t in templates if t.split != "train"}
        assert len({t.key for t in templates}) == len(templates)


def test_candidates_differ_from_the_target_and_from_each_other(samples):
    seen = set()
    for sample in samples["test"][:80]:
        pictures = sample.candidates()
        assert np.array_equal(pictures["source"], sample.source)
        assert np.array_equal(pictures["target"], sample.target)
        assert len({picture.tobytes() for picture in pictures.values()}) == len(pictures) >= 3
        kinds = {name.partition(":")[0] for name in pictures}
        if sample.task in ("add", "replace"):
            assert sum(name.startswith("wrong_class:") for name in pictures) >= 3
        seen |= kinds
    assert seen == {
        "source", "target", "wrong_object", "only_object", "wrong_class", "wrong_place", "wrong_colour",
        "wrong_operation", "wrong_degree", "wrong_direction", "wrong_task",
    }  # fmt: skip


def test_minimal_pairs_differ_in_one_word():
    sampler, plain = SceneSampler("test", 32), SceneSampler("test", 32, plain=True)
    for index in range(40):
        one, other = sampler.pair(index)
        words = list(zip(one.instruction.split(), other.instruction.split(), strict=True))
        assert sum(a != b for a, b in words) == 1, (one.instruction, other.instruction)
        one, other = plain.pair(index)
        words = list(zip(one.instruction.split(), other.instruction.split(), strict=True))
        assert sum(a != b for a, b in words) == 1, (one.instruction, other.instruction)
        assert np.array_equal(one.source, other.source)
        assert not set(one.edit.targets) & set(other.edit.targets)
        assert not np.array_equal(one.target, other.target)
        assert matches(one, one.edit.targets[0]) and not matches(one, other.edit.targets[0])


@pytest.mark.parametrize("index", [150, 180, 198, 278])
def test_both_halves_of_a_pair_change_something(index):
    """Here the first draw asks to paint the twin in the colour that it has already."""
    for sample in SceneSampler("test", 64).pair(index):
        assert sample.mask.mean() > 0.004, sample.instruction


def test_a_pair_that_can_not_be_drawn_is_told(monkeypatch):
    sampler = SceneSampler("test", 16)
    monkeypatch.setattr(sampler, "_of_twin", lambda first: replace(first, edit=Edit("remove")))
    with pytest.raises(RuntimeError, match="no minimal pair of .* edits in 200 tries: the pack is too small"):
        sampler.pair(0)


def test_segmentation_paints_the_objects(samples):
    sample = next(s for s in samples["test"] if s.task == "remove" and s.category == "left_right")
    painted = sample.segmentation_sample("blue")
    assert np.array_equal(painted.mask, sample.mask), "removing an object changes the pixels it covered"
    assert np.array_equal(painted.source, sample.source)
    assert np.array_equal(painted.target[~painted.mask], sample.source[~painted.mask])
    half = (sample.source[painted.mask].astype(int) + np.array(COLOURS["blue"])) // 2
    assert np.array_equal(painted.target[painted.mask], half)
    assert painted.instruction.startswith("mark the ") and painted.instruction.endswith(" in blue")
    whole = next(s for s in samples["test"] if s.task == "photometric")
    with pytest.raises(ValueError, match="a photometric edit points at no object: segmentation needs one of remove"):
        whole.segmentation_sample()


def test_questions_are_answered_by_the_scene(samples):
    for sample in samples["val"][:100]:
        answers = dict(sample.qa())
        for thing in sample.scene.objects:
            assert thing.name in answers[f"what is {tuple(PLACES.values())[thing.slot]}?"]
            total = sum(o.name == thing.name for o in sample.scene.objects)
            assert answers[f"how many {plural(thing.name)} are there?"] == str(total)
            assert thing.name in sample.caption_source


def test_the_corpus_holds_every_kind_of_sentence():
    sentences = list(text_corpus(30, seed=4))
    assert sentences == list(text_corpus(30, seed=4)) != list(text_corpus(30, seed=5))
    assert all(s and s == s.lower() and "{" not in s for s in sentences)
    for words in ("a photo with", "where is the", "how many", "which object should change?"):
        assert any(words in s for s in sentences)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="unknown split 'dev': choose one of train, val, test"):
        SceneSampler("dev")
    with pytest.raises(IndexError, match="sample -1 does not exist: indices start at 0"):
        SceneSampler("train")[-1]
    with pytest.raises(ValueError, match="size is 8 px, scenes need at least 16 px: choose 64 or 128"):
        Renderer(Assets.embedded(), 8)
    with pytest.raises(ValueError, match="needs at least one target object"):
        refer(SceneSampler("train", 32)[0].scene, (), "plain")


def test_sprites_are_cut_off_at_the_border():
    sampler = SceneSampler("train", 32)
    scene = sampler[0].scene
    far = [type(o)(o.name, o.slot, 2000, -2000, o.height) for o in scene.objects]
    away = type(scene)(scene.background, tuple(far))
    empty = type(scene)(scene.background, ())
    assert np.array_equal(sampler.renderer.render(away), sampler.renderer.render(empty))


def test_assets_are_small_and_free():
    folder = Path(Assets.embedded().folder)
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 2e6
