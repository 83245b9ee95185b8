"""MIGE's tasks in scenes: exact, unambiguous, the same bytes for ever, with what is held out kept out."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest

from insightedit.scenes import (
    Assets,
    SceneSampler,
    SubjectEditSampler,
    SubjectSampler,
    is_held_out_combination,
    is_held_out_subject,
    subject_corpus,
)
from insightedit.scenes.render import BACKDROP_COLOURS, PAPERS, TINTS, Backdrop, Renderer, Subject
from insightedit.scenes.scene import HEIGHTS, SLOT_CENTRES, SLOTS
from insightedit.scenes.subjects import MIN_CLEAR, stands_out
from insightedit.scenes.wordings import BOOK, PICTURE_TEMPLATES, PLACEHOLDER, PLACES
from insightedit.types import REFERENCE_PLACEHOLDER

SPLITS = ("train", "val", "test")
SAMPLERS = {"subjects": SubjectSampler, "subject_edits": SubjectEditSampler}
COUNT = 400
# `python -c "from tests.data_recipes.test_subjects import *; print(digest('subjects', 'train', 64, 0, 0))"`
PINNED = {
    ("subjects", "train", 64, 0, 0): "f3e5ce97442a37d3f4fe05ad",
    ("subjects", "train", 64, 3, 123456): "bd42f97a5e06899ca38e53cf",
    ("subjects", "val", 128, 0, 2): "0098e5e0e15e726ecc759e2b",
    ("subjects", "test", 64, 0, 0): "e250b5f3433526415edd10e9",
    ("subjects", "test", 64, 0, 599): "baccff2b21032002af6fb363",
    ("subjects", "test", 32, 2, 3): "80f180e5b19adf7aa9d0e25e",
    ("subject_edits", "train", 64, 0, 0): "91f46ae3dff64f85767447df",
    ("subject_edits", "train", 64, 3, 123456): "f1f063d841961b7f236108fd",
    ("subject_edits", "val", 128, 0, 2): "af050bb35d7e7b4341797a6e",
    ("subject_edits", "test", 64, 0, 0): "ef045d8f0d3469bea049fb42",
    ("subject_edits", "test", 64, 0, 599): "1b49ac7718119843981c4762",
    ("subject_edits", "test", 32, 2, 3): "1dc26a84dedb32549863e3ce",
}


def digest(kind: str, split: str, size: int, seed: int, index: int) -> str:
    sample = SAMPLERS[kind](split, size, seed)[index]
    source = () if sample.source is None else (sample.source,)
    pictures = (*source, sample.target, sample.mask, *sample.references)
    texts = (
        sample.instruction, sample.expressive_instruction, sample.caption_target, sample.template_id, sample.task,
        sample.category,
    )  # fmt: skip
    pixels = b"".join(picture.tobytes() for picture in pictures)
    return hashlib.sha256(pixels + "\n".join(texts).encode()).hexdigest()[:24]


@pytest.fixture(scope="module")
def new() -> dict[str, list]:
    return {split: [SubjectSampler(split, 32)[i] for i in range(COUNT)] for split in SPLITS}


@pytest.fixture(scope="module")
def edits() -> dict[str, list]:
    return {split: [SubjectEditSampler(split, 32)[i] for i in range(COUNT)] for split in SPLITS}


@pytest.fixture(scope="module")
def both(new, edits) -> list:
    return [sample for split in SPLITS for sample in new[split] + edits[split]]


@pytest.mark.parametrize("numbers", PINNED, ids=str)
def test_a_sample_never_changes(numbers):
    assert digest(*numbers) == PINNED[numbers], "models and results were made with these bytes: keep them"


@pytest.mark.parametrize("kind", SAMPLERS)
def test_samples_do_not_depend_on_the_order_they_are_asked_for(kind):
    there, back = SAMPLERS[kind]("val", 32), SAMPLERS[kind]("val", 32)
    forward = [there[i].target.tobytes() for i in range(5)]
    assert forward == [back[i].target.tobytes() for i in reversed(range(5))][::-1]
    assert forward != [SAMPLERS[kind]("val", 32, seed=1)[i].target.tobytes() for i in range(5)]


def test_the_three_kinds_draw_numbers_of_their_own():
    scenes = [SceneSampler("val", 32)[i].scene for i in range(5)]
    assert scenes != [SubjectEditSampler("val", 32)[i].scene for i in range(5)]
    backdrops = [SubjectSampler("val", 32)[i].backdrop.photo for i in range(60)]
    others = {s.scene.background for s in map(SubjectEditSampler("val", 32).__getitem__, range(60))}
    assert any(backdrops) and not set(backdrops) & others


def test_the_placeholder_is_the_one_that_records_use():
    assert PLACEHOLDER == REFERENCE_PLACEHOLDER


def test_every_placeholder_has_its_picture(both):
    for sample in both:
        assert sample.instruction.count(PLACEHOLDER) == len(sample.references) in (1, 2)
        assert PLACEHOLDER not in sample.expressive_instruction + sample.caption_target
        assert "{" not in sample.instruction + sample.expressive_instruction
        for picture in sample.references:
            assert picture.shape == (32, 32, 3) and picture.dtype == np.uint8


def test_no_word_tells_what_the_picture_shows(both):
    for sample in both:
        subjects = [sample.subject] if hasattr(sample, "subject") else sample.subjects
        for subject in subjects:
            assert not re.search(rf"\b{subject.name}\b", sample.instruction)
            assert subject.name in sample.expressive_instruction
            if subject.colour:
                assert f"{subject.colour} {subject.name}" in sample.expressive_instruction


def test_half_of_the_subjects_are_tinted(both):
    colours = [(s.subject if hasattr(s, "subject") else s.subjects[0]).colour for s in both]
    assert 0.4 < sum(c is not None for c in colours) / len(colours) < 0.6
    assert set(colours) == set(TINTS)


def box(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Height and width, centre, and mean colour of what stands on white."""
    rows, columns = np.nonzero((picture != 255).any(-1))
    low, high = np.array([rows.min(), columns.min()]), np.array([rows.max(), columns.max()])
    return high - low + 1, (low + high) / 2, picture[rows, columns].mean(0)


@pytest.mark.parametrize("subject", [Subject("dog", "red"), Subject("bus"), Subject("banana", "blue", True)])
def test_a_subject_stands_as_its_reference_shows_it(subject):
    renderer = Renderer(Assets.embedded(), 64)
    white = Backdrop("plain", ((255, 255, 255),), ("white",))
    size, centre, colour = box(renderer.draw(renderer.backdrop(white), (subject.standing_at(4),)))
    shown_size, shown_centre, shown_colour = box(renderer.reference(subject))
    assert np.abs(shown_size - 2 * size).max() <= 4, "twice as large in the reference, each rounded"
    assert np.abs(centre - 31.5).max() <= 1 and np.abs(shown_centre - 31.5).max() <= 1, "in the middle of both"
    assert np.abs(colour - shown_colour).max() < 16, "but for the soft edge"
    other_way = renderer.reference(replace(subject, flip=not subject.flip))
    assert not np.array_equal(other_way, renderer.reference(subject))
    on_blue = renderer.reference(replace(subject, paper=2))
    assert tuple(on_blue[0, 0]) == PAPERS[2] != PAPERS[0]


def test_new_pictures_follow_from_words_and_references(new):
    for sample in new["test"][:150]:
        backdrop, slots = sample.backdrop, sample.slots
        assert sample.source is None
        assert len(sample.subjects) == len(slots) == len(set(slots))
        assert sample.task == ("one_subject", "two_subjects")[len(slots) - 1]
        for slot in slots:
            assert f"{PLACEHOLDER} {tuple(PLACES.values())[slot]}" in sample.instruction
        order = [sample.instruction.index(f"{PLACEHOLDER} {tuple(PLACES.values())[s]}") for s in slots]
        assert order == sorted(order)
        assert all((o.x, o.y) == SLOT_CENTRES[o.slot] and o.height == HEIGHTS["medium"] for o in sample.things)
        if backdrop.is_pictured:
            first = sample.instruction.index(PLACEHOLDER)
            leads = not sample.instruction[first:].startswith(f"{PLACEHOLDER} {tuple(PLACES.values())[slots[0]]}")
            assert np.array_equal(sample.references[0 if leads else -1], sample.empty)
        else:
            assert all(BACKDROP_COLOURS[n] == c for n, c in zip(backdrop.names, backdrop.colours, strict=True))
            assert backdrop.words in sample.instruction
        assert np.array_equal(sample.mask, (sample.empty != sample.target).any(-1))
        drawn = sample.renderer.draw(sample.renderer.backdrop(backdrop), sample.things)
        assert np.array_equal(sample.target, drawn)


def test_backdrops_are_exact():
    renderer = Renderer(Assets.embedded(), 16)
    red, blue = (200, 0, 10), (0, 100, 250)
    plain = renderer.backdrop(Backdrop("plain", (red,), ("red",)))
    assert plain.shape == (16, 16, 3) and (plain == red).all()
    down = renderer.backdrop(Backdrop("gradient", (red, blue), ("red", "blue")))
    assert (down[0] == red).all() and (down[-1] == blue).all()
    assert np.abs(down[:, 0] - np.linspace(red, blue, 16)).max() <= 0.5
    across = renderer.backdrop(Backdrop("gradient", (red, blue), ("red", "blue"), across=True))
    assert np.array_equal(across, down.transpose(1, 0, 2))
    words = Backdrop("gradient", (red, blue), ("red", "blue")).words
    assert words == "a background from red at the top to blue at the bottom"
    turned = Backdrop("gradient", (red, blue), ("red", "blue"), across=True).words
    assert turned == "a background from red at the left to blue at the right"
    assert Backdrop("plain", (red,), ("orange",)).words == "an orange background"
    assert Backdrop("swatch", (red,)).words == PLACEHOLDER


@pytest.mark.parametrize("split", SPLITS)
def test_every_kind_occurs(new, edits, split):
    assert {s.category for s in new[split]} == {"plain", "gradient", "swatch", "photo"}
    assert {s.task for s in new[split]} == {"one_subject", "two_subjects"}
    kinds = {s.category for s in edits[split]}
    assert kinds == {"plain", "left_right", "relative_size", "colour", "reasoning"}
    adds = sum(s.task == "add" for s in edits[split])
    assert 0.4 < adds / COUNT < 0.6, "subject addition and replacement 1:1"
    assert {s.style for s in new[split] + edits[split]} == {"simple", "advanced"}


def test_twins_differ_in_tint_only(new):
    twins = [s for s in new["train"] if len({t.name for t in s.subjects}) < len(s.subjects)]
    assert twins
    for sample in twins:
        assert sample.subjects[0].colour != sample.subjects[1].colour


def test_edits_put_the_subject_in(edits):
    for sample in edits["train"] + edits["test"]:
        before, after, edit, subject = sample.scene, sample.target_scene, sample.edit, sample.subject
        assert after.background == before.background and not before.mirror
        assert subject.name not in {o.name for o in before.objects}
        new = after.objects[-1] if sample.task == "add" else after.objects[edit.targets[0]]
        assert (new.name, new.colour, new.flip) == (subject.name, subject.colour, subject.flip)
        if sample.task == "add":
            assert after.objects[:-1] == before.objects
            assert (new.x, new.y, new.height) == (*SLOT_CENTRES[edit.slot], HEIGHTS["medium"])
            assert new.slot == edit.slot not in {o.slot for o in before.objects}
            said = BOOK["places"][SLOTS[edit.slot]] + BOOK["held_out_places"][SLOTS[edit.slot]]
            for part in ("sides", "held_out_sides", "neighbours"):
                said = [*said, *(text.split(" {")[0] for texts in BOOK[part].values() for text in texts)]
            assert any(words in sample.instruction for words in said)
        else:
            old = before.objects[edit.targets[0]]
            assert (new.x, new.y, new.height) == (old.x, old.y, old.height)
            assert [a for a in after.objects if a is not new] == [b for b in before.objects if b is not old]


def test_subjects_can_be_seen(both):
    for sample in both:
        if sample.source is None:
            for thing in sample.things:
                drawn = sample.renderer.draw(sample.empty.copy(), (thing,))
                assert stands_out(sample.empty, drawn) >= MIN_CLEAR
        else:
            assert stands_out(sample.source, sample.target) >= MIN_CLEAR


def test_what_is_held_out_stays_out(new, edits):
    classes = Assets.embedded().classes
    shown = {split: {p.name for p in Assets.embedded().photos_of(split)} for split in SPLITS}
    for split in SPLITS:
        photos = {s.backdrop.photo.photo for s in new[split] if s.backdrop.photo and not s.backdrop.photo.texture}
        photos |= {s.scene.background.photo for s in edits[split] if not s.scene.background.texture}
        assert photos <= shown[split]
        subjects = [t for s in new[split] for t in s.subjects] + [s.subject for s in edits[split]]
        pairs = sum(is_held_out_subject(t.name, t.colour, classes) for t in subjects)
        combinations = sum(
            is_held_out_combination(name, s.task, classes)
            for s in edits[split]
            for name in (s.subject.name, *(s.scene.objects[i].name for i in s.edit.targets))
        )
        wordings = sum("heldout" in s.template_id for s in new[split] + edits[split]) / (2 * COUNT)
        if split == "test":
            assert pairs > 40 and combinations > 20 and wordings == 1
        else:
            assert pairs == combinations == wordings == 0
    held_out = sum(is_held_out_subject(n, t, classes) for n in classes for t in TINTS)
    assert held_out / (len(classes) * len(TINTS)) == pytest.approx(1 / 11, abs=0.01)


def test_held_out_wordings_are_no_wordings_of_training():
    assert set(PICTURE_TEMPLATES) == {"add", "replace", "create"}
    for templates in PICTURE_TEMPLATES.values():
        known = {t.text for t in templates if t.split == "train"}
        assert known and not known & {t.text for t in templates if t.held_out}
        assert len({t.key for t in templates}) == len(templates)
        assert all(PLACEHOLDER in t.text or "{things}" in t.text for t in templates)


def test_candidates_differ_from_the_target_and_from_each_other(new, edits):
    seen: dict[str, set[str]] = {}
    for kind, samples in (("new", new["test"][:60]), ("edit", edits["test"][:60])):
        for sample in samples:
            pictures = sample.candidates()
            start = sample.empty if sample.source is None else sample.source
            assert np.array_equal(pictures["source"], start)
            assert np.array_equal(pictures["target"], sample.target)
            assert len({p.tobytes() for p in pictures.values()}) == len(pictures) > 10
            assert sum(name.startswith("wrong_tint:") for name in pictures) >= 8
            assert sum(name.startswith("wrong_subject:") for name in pictures) >= 3
            seen.setdefault(kind, set()).update(name.partition(":")[0] for name in pictures)
    assert seen["new"] == {
        "source", "target", "blank_canvas", "copy_reference", "wrong_subject", "wrong_tint", "wrong_place",
        "wrong_backdrop", "only_subject",
    }  # fmt: skip
    assert seen["edit"] == {
        "source", "target", "copy_reference", "wrong_subject", "wrong_tint", "wrong_place", "wrong_object",
        "wrong_task",
    }  # fmt: skip


def test_a_wrong_tint_is_the_right_picture_but_for_the_tint(new):
    sample = next(s for s in new["test"] if s.task == "one_subject" and s.subjects[0].colour is None)
    other = replace(sample, subjects=(replace(sample.subjects[0], colour="blue"),))
    assert np.array_equal(sample.candidates()["wrong_tint:0:blue"], other.target)
    back = other.candidates()["wrong_tint:0:its own"]
    assert np.array_equal(back, sample.target)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_minimal_pairs_differ_in_the_tint_of_one_reference(kind):
    sampler = SAMPLERS[kind]("test", 32)
    for index in range(30):
        one, other = sampler.pair(index)
        assert one.instruction == other.instruction
        assert one.source is other.source is None or np.array_equal(one.source, other.source)
        assert stands_out(one.target, other.target) > 0
        differ = [not np.array_equal(a, b) for a, b in zip(one.references, other.references, strict=True)]
        assert sum(differ) == 1
        assert one.expressive_instruction != other.expressive_instruction


def test_the_corpus_holds_every_kind_of_sentence():
    sentences = list(subject_corpus(20, seed=4))
    assert len(sentences) == 2 * 20 * 3
    assert sentences == list(subject_corpus(20, seed=4)) != list(subject_corpus(20, seed=5))
    for words in (PLACEHOLDER, "background", "a photo with", "replace the", "draw a"):
        assert any(words in sentence for sentence in sentences), words


@pytest.mark.parametrize("kind", SAMPLERS)
def test_bad_arguments_are_refused(kind):
    with pytest.raises(ValueError, match="unknown split 'dev': choose one of train, val, test"):
        SAMPLERS[kind]("dev")
    with pytest.raises(IndexError, match="sample -1 does not exist: indices start at 0"):
        SAMPLERS[kind]("train")[-1]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_pack_of_ones_own(kind, pack):
    sampler = SAMPLERS[kind]("train", 32, assets=Assets.from_folder(pack))
    for index in range(20):
        assert sampler[index].category != "reasoning", "this pack tells no facts"
        assert len(sampler[index].references) in (1, 2)


@pytest.mark.parametrize(
    ("kind", "what"), [("subjects", "new picture of subjects"), ("subject_edits", "edit of a subject")]
)
def test_a_world_too_small_is_told(kind, what, monkeypatch):
    sampler = SAMPLERS[kind]("train", 32)
    monkeypatch.setattr(sampler, "_attempt", lambda *arguments: None)
    with pytest.raises(RuntimeError, match=f"no valid .*{what} in 200 tries: the pack at .* has too few sprites"):
        sampler[0]


@pytest.mark.parametrize(
    ("kind", "what"), [("subjects", "pair of new pictures"), ("subject_edits", "pair of subject edits")]
)
def test_a_pair_that_can_not_be_drawn_is_told(kind, what, monkeypatch):
    sampler = SAMPLERS[kind]("train", 16)
    sample = sampler[0]
    monkeypatch.setattr(sampler, "_attempt", lambda *arguments: sample)
    monkeypatch.setattr("insightedit.scenes.subjects.stands_out", lambda before, after: 0.0)
    with pytest.raises(RuntimeError, match=f"no valid minimal {what} in 200 tries"):
        sampler.pair(0)
