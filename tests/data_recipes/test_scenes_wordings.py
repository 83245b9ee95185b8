"""What people say: families, held-out ones, slips, many requests for one scene, and what cannot be done."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from insightedit.images.tones import OPERATIONS, TONES
from insightedit.pipelines.warnings import split_words
from insightedit.scenes import COLOURS, Assets, SceneSampler, known_words
from insightedit.scenes import wordings as told
from insightedit.scenes.draws import near_words, neighbours, refer, told_apart_by
from insightedit.scenes.scene import SLOTS, Background, Scene, SceneObject

CLASSES = Assets.embedded().classes


def thing(name: str, slot: int, height: int = 280, colour: str | None = None) -> SceneObject:
    return SceneObject(name, slot, 0, 0, height, colour=colour)


def test_every_task_has_sixty_wordings_and_all_have_families_of_their_own_for_the_test() -> None:
    for task in ("remove", "replace", "recolour", "add", "resize", "decline"):
        known = [t for t in told.TEMPLATES[task] if t.split == "train"]
        assert len({text for t in known for text in t.variants()}) >= 60, task
    for words in map(told.tone_words, OPERATIONS):
        assert len(words["look"]) + len(words["deed"]) >= 16 and words["complaint"] and words["secret"]
    held_out = [t for group in told.TEMPLATES.values() for t in group if t.held_out]
    assert len({t.text for t in held_out}) >= 15
    assert all(any(t.held_out for t in group) for group in told.TEMPLATES.values())


def test_held_out_words_are_told_nowhere_in_training() -> None:
    rng = np.random.default_rng(0)
    secrets = {re.sub(r"[^\w ]", "", s) for words in map(told.tone_words, OPERATIONS) for s in words["secret"]}
    for _ in range(1500):
        text = told.tone_request(rng, TONES[int(rng.integers(len(TONES)))])
        assert not any(secret in text for secret in secrets), text
    assert not set(told.unknown_things()) & set(told.unknown_things("test"))
    assert not {*told.unknown_things("val")} & {*told.unknown_things(), *told.unknown_things("test")}
    assert (
        len(told.unknown_things()) > 250
        and len(told.unknown_things("val")) > 60
        and len(told.unknown_things("test")) > 80
    )


def test_half_of_the_validation_is_told_in_words_of_its_own() -> None:
    """A confidence that is fitted on taught words alone cannot know what words nobody taught are worth."""
    known, sampler = set(known_words()), SceneSampler("val", size=32, declines=0.2)
    samples = [sampler[i] for i in range(300)]
    own = ["-val-" in sample.template_id for sample in samples if sample.task != "decline"]
    assert 0.35 < np.mean(own) < 0.65
    strange = [any(word not in known for word in split_words(sample.instruction)) for sample in samples]
    assert 0.3 < np.mean(strange) < 0.75
    for split in ("train", "test"):
        assert not any("-val-" in SceneSampler(split, size=32)[i].template_id for i in range(60))


def _by_grammar(phrase: str, split: str = "train", count: int = 30) -> list[str]:
    """Requests that no saying is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(told.SHARES, "saying", 0)
        return [told.tone_request(np.random.default_rng(i), phrase, split) for i in range(count)]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_tone_can_be_asked_for_with_its_degree(split: str) -> None:
    degrees = told.BOOK["tones"]["degrees"]
    weak, strong = (
        {*degrees["slight"], *degrees["slightly"]},
        {*degrees["much"], *degrees["very"], *degrees["strongly"]},
    )
    rng = np.random.default_rng(1)
    for phrase in TONES:
        for _ in range(20):
            text = told.tone_request(rng, phrase, split)
            assert "{" not in text and "$" not in text and "|" not in text and text == text.lower(), text
        words = _by_grammar(phrase, split)
        if phrase.startswith("slightly"):
            assert sum(any(w in text for w in weak) or "slightly" in text for text in words) > 20, words
        elif phrase.startswith(("much", "very")):
            assert sum(any(w in text for w in strong) or "too" in text for text in words) > 20, words


def test_an_order_takes_beginnings_and_ends_and_a_sentence_does_not() -> None:
    order = told.Template("x", "simple", "remove {ref}")
    sentence = told.Template("x", "advanced", "i do not want {ref}")
    rng = np.random.default_rng(0)
    texts = [told.say(rng, order, {"ref": "the dog"}) for _ in range(900)]
    assert 0.25 < sum("remove the dog" in t and not t.startswith("remove") for t in texts) / 900 < 0.6
    assert {"remove the dog", "pls remove the dog"} <= {t.rstrip(".!") for t in texts} and len(set(texts)) > 100
    plain = {told.say(rng, sentence, {"ref": "the dog"}).rstrip(".!?") for _ in range(100)}
    assert all(len(t.split()) == 6 for t in plain)


def test_choices_lists_and_sizes_are_filled_in() -> None:
    rng = np.random.default_rng(0)
    family = told.Template("x", "advanced", "(a|b) $pic {ref}")
    assert len(family.variants()) == 2 * len(told.BOOK["lists"]["pic"])
    assert told.expand(rng, "(one|)").strip() in ("one", "")
    sized = told.Template("x", "advanced", "$sizeverb {ref}")
    verbs = {told.say(rng, sized, {"ref": ""}, "smaller").strip(" .!") for _ in range(200)}
    assert {"shrink", "scale down"} <= verbs and "enlarge" not in verbs


def test_a_slip_changes_one_word() -> None:
    rng = np.random.default_rng(0)
    found = {told.misspell(rng, "remove the elephant") for _ in range(200)}
    assert len(found) > 20 and all(len(text.split()) == 3 and "the" in text.split() for text in found)
    assert told.misspell(rng, "a b c") == "a b c"


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        ("dog", "dogs"),
        ("fox", "foxes"),
        ("bus", "buses"),
        ("butterfly", "butterflies"),
        ("toy", "toys"),
        ("maple leaf", "maple leaves"),
        ("snowman", "snowmen"),
        ("blowfish", "blowfish"),
        ("house", "houses"),
    ],
)
def test_plurals(noun: str, many: str) -> None:
    assert told.plural(noun) == many


def test_declined_requests_leave_the_picture_and_say_why() -> None:
    sampler = SceneSampler("train", 32, declines=1.0)
    found = [sampler[i] for i in range(200)]
    absent = [s for s in found if s.edit.name]
    assert 0.4 < len(absent) / len(found) < 0.7
    for sample in found:
        assert sample.task == "decline" and not sample.mask.any() and sample.target_scene == sample.scene
        wrong = sample.candidates()
        assert len(wrong) == 2 + len(sample.scene.objects), "whatever is there is taken away instead"
        assert not any(np.array_equal(picture, sample.source) for picture in list(wrong.values())[2:])
        assert "{" not in sample.instruction and told.REFERENCE not in sample.instruction
    for sample in absent:
        assert sample.expressive_instruction == f"there is no {sample.edit.name}"
        assert all(sample.edit.name not in (o.name, f"{o.colour} {o.name}") for o in sample.scene.objects)
    assert {s.expressive_instruction for s in found if not s.edit.name} == {"i cannot do that"}
    assert {bool(s.scene.objects) for s in found} == {True, False}
    share = sum(SceneSampler("val", 32, declines=0.25)[i].task == "decline" for i in range(400)) / 400
    assert share == pytest.approx(0.25, abs=0.08)
    with pytest.raises(ValueError, match="declines is 2: it is a share of the samples, from 0 to 1"):
        SceneSampler(declines=2)


def test_many_requests_for_one_scene_are_told_without_drawing() -> None:
    sampler = SceneSampler("train", 32, declines=0.2)
    found = [pair for i in range(40) for pair in sampler.requests(sampler[i], 6)]
    assert len(found) == 240 and sampler.requests(sampler[3], 6) == sampler.requests(sampler[3], 6)
    starts = {answer.split()[0] for _, answer in found}
    assert starts == {"remove", "replace", "paint", "add", "make", "there", "i"}
    assert all("{" not in text and told.REFERENCE not in text for text, _ in found)


def test_requests_that_need_no_look_come_behind_the_others() -> None:
    sampler = SceneSampler("train", 32, declines=0.2)
    sample = sampler[3]
    assert sampler.requests(sample, 4, whole=3)[:4] == sampler.requests(sample, 4)
    answers = [answer for i in range(60) for _, answer in sampler.requests(sampler[i], 0, whole=5)]
    tones = sum(answer.startswith("make the whole picture ") for answer in answers)
    assert len(answers) == 300 and 160 < tones < 240
    plain = sum(answer.removeprefix("make the whole picture ") in OPERATIONS for answer in answers)
    assert 0.55 < plain / tones < 0.85, "half without a degree, and of the others some have none"
    assert {a for a in answers if not a.startswith("make the whole picture ")} == {told.CANNOT}


def test_things_are_told_apart_as_the_scene_allows() -> None:
    scene = Scene(Background("x", 0, 0, 500), (thing("dog", 0, colour="red"), thing("dog", 2, 360), thing("cat", 1)))
    assert {"left_right", "relative_size", "colour", "position"} <= set(told_apart_by(scene, 0, Assets.embedded()))
    assert {"plain", "position", "relation"} <= set(told_apart_by(scene, 2, Assets.embedded())) | {"relation"}
    assert "plain" not in told_apart_by(scene, 0, Assets.embedded())


def ways(scene: Scene, target: int, category: str) -> set[str]:
    """Many people's words for one thing of a scene."""
    return {refer(scene, (target,), category, rng=np.random.default_rng(i)) for i in range(400)}


def test_a_word_for_a_side_means_one_of_two_only() -> None:
    backdrop = Background("0")
    stacked = Scene(backdrop, (thing("dog", 1), thing("dog", 7), thing("cat", 3)))
    assert {"the top dog", "the upper dog", "of the two dogs the higher one"} <= ways(stacked, 0, "position")
    assert {"the bottom dog", "the lower dog"} <= ways(stacked, 1, "position")
    in_a_row = Scene(backdrop, (thing("dog", 1), thing("dog", 2), thing("cat", 3)))
    assert not {"the top dog", "the upper dog"} & ways(in_a_row, 0, "position")  # the other one is at the top, too
    assert {"the top right dog", "the upper right dog"} <= ways(in_a_row, 1, "position")
    assert refer(in_a_row, (0,), "position") == "the dog at the top"


def test_a_thing_and_its_reflection_have_names_of_their_own() -> None:
    dog = thing("dog", 3)
    scene = Scene(Background("0"), (dog, replace(dog, slot=5, in_mirror=True)), mirror=True)
    real, reflection = ways(scene, 0, "mirror"), ways(scene, 1, "mirror")
    assert {"the real dog", "the dog in front of the mirror"} <= real
    assert {"the dog's reflection", "the dog in the mirror", "the mirrored dog"} <= reflection
    assert not real & reflection
    assert refer(scene, (0,), "mirror") == "the dog in front of the mirror"


@pytest.mark.parametrize(
    ("reference", "wanted"),
    [
        ("the dog", "make the dog's colour red"),
        ("the blue dog", "make the blue dog's colour red"),
        ("the dog at the top", "make the colour of the dog at the top red"),
        ("the animal that barks", "make the colour of the animal that barks red"),
        ("the dog next to the cat", "make the colour of the dog next to the cat red"),
    ],
)
def test_only_a_name_owns_something(reference: str, wanted: str) -> None:
    assert told.with_reference(f"make {told.REFERENCE}'s colour red", reference) == wanted
    assert told.with_reference(f"remove {told.REFERENCE}", reference) == f"remove {reference}"


def test_what_has_a_noun_is_asked_for_by_it() -> None:
    texts = _by_grammar("slightly more teal", count=300)
    assert any("hint of teal " in text for text in texts) and not any("strong teal" in text for text in texts)
    texts = _by_grammar("much more teal", count=300)
    assert any("strong teal" in text for text in texts) and not any("hint of" in text for text in texts)


def test_an_absent_thing_is_called_by_its_other_names_and_answered_by_its_own() -> None:
    sampler, found = SceneSampler("train", 64, declines=1.0), set()
    for index in range(400):
        text, answer = sampler.requests(sampler[index], 1)[0]
        name = answer.removeprefix(told.NOT_THERE)
        found |= {name for alias in told.ALIASES.get(name, ()) if answer != name and alias in text}
    assert len(found) > 5


def test_neighbours_say_where_a_place_lies() -> None:
    scene = Scene(Background("x", 0, 0, 500), (thing("dog", 0), thing("cat", 2), thing("cow", 4)))
    assert neighbours(scene, 1) == [("right", 0), ("left", 1), ("above", 2)]
    texts = {near_words(np.random.default_rng(i), scene, 1, held_out=False) for i in range(200)}
    assert "between the dog and the cat" in texts and "next to the dog" in texts
    assert "above the cow" in texts and "to the left of the cat" in texts
    assert not any(text and text.startswith("next to the cow") for text in texts - {None})
    assert near_words(np.random.default_rng(0), Scene(scene.background, ()), 1, held_out=False) is None


def test_what_is_outside_of_this_world_has_many_faces() -> None:
    rng = np.random.default_rng(0)
    texts = {told.outside_request(rng, names=CLASSES) for _ in range(500)}
    assert len(texts) > 400 and all("{" not in text and text.strip() for text in texts)
    kept = {told.outside_request(rng, "test", names=CLASSES) for _ in range(300)}
    assert not texts & kept


def test_known_words_are_all_that_training_says() -> None:
    known = set(known_words())
    sampler = SceneSampler("train", 32, declines=0.3)
    rng, unknown = np.random.default_rng(0), 0
    for i in range(150):
        words = re.findall(r"[\w']+", sampler[i].instruction)
        unknown += sum(word.strip("'") not in known and word not in known and not word.isdigit() for word in words)
    assert unknown < 60, "slips and nonsense alone"
    assert {*COLOURS, "remove", "brighten", "lighthouse"} <= known and rng is not None
    assert all(place in told.BOOK["places"] for place in SLOTS)


def test_sayings_are_many_peoples_sentences_each_with_its_tone_and_told_in_one_split() -> None:
    found = {split: told.sayings(split) for split in ("train", "val", "test")}
    for split, share in (("train", 0.75), ("val", 0.05), ("test", 0.05)):
        assert set(found["train"]) == {*TONES, "decline"} and set(found[split]) <= {*TONES, "decline"}
        texts = [text for group in found[split].values() for text in group]
        assert len(texts) == len(set(texts)) > share * 4500
        assert all(text == text.lower().strip() for text in texts)
        assert not any(set("{}()|$\\") & set(text.replace("{name}", "")) for text in texts)
    assert not any({*found["train"].get(tone, ())} & {*found["test"][tone]} for tone in found["test"])
    assert not any("{name}" in text for tone in TONES for text in found["train"][tone])
    rng = np.random.default_rng(0)
    heard = {told.tone_request(rng, "sepia", "test") for _ in range(200)}
    assert sum(any(text in one for one in heard) for text in found["test"]["sepia"]) > 8
