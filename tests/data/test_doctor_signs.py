"""What the doctor reads from pixels, words and signatures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from data_recipes.doctor import pixels, wordings
from data_recipes.doctor.signatures import Signatures, near, signature
from insightedit.images.tones import TONES
from insightedit.scenes import SceneSampler
from insightedit.scenes import wordings as told
from insightedit.scenes.wordings import PLAIN_TEMPLATES

SAMPLER = SceneSampler("val", 96, plain=True)


def photo(seed: int, size: int = 96) -> np.ndarray:
    return SceneSampler("train", size, seed=seed)[0].source


def rescaled(picture: np.ndarray, side: int, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize("shift", [(1, 0), (0, -2), (6, 9), (-20, 4)])
def test_shifts_are_measured_in_pixels(shift):
    right, down = shift
    told = []
    for seed in range(6):
        big = photo(seed, 160)
        one, other = big[32:-32, 32:-32], big[32 - down : 128 - down, 32 - right : 128 - right]
        told.append(pixels.shift_between(one, other))
    found = [one for one in told if one is not None]
    assert {(one.right, one.down) for one in found} == {shift}
    assert len(found) >= 5


def test_shifts_of_large_pictures_are_measured_in_their_own_pixels():
    fine = np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (330, 330, 3), np.uint8)).resize((660, 660))
    )
    told = pixels.shift_between(fine[30:-30, 30:-30], fine[23:-37, 41:-19])
    assert (told.right, told.down) == (-11, 7)
    assert told.match > 0.99


def test_edits_are_no_shifts():
    samples = [SAMPLER[number] for number in range(60)]
    assert not [s.instruction for s in samples if pixels.shift_between(s.source, s.target)]
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert pixels.shift_between(flat, flat + 20) is None


def test_compression_changes_nothing_and_the_smallest_edit_does():
    same = 0
    for number in range(25):
        sample = SAMPLER[number]
        same += pixels.is_identical(sample.source, rescaled(sample.source, 96, 95))
        assert not pixels.is_identical(sample.source, sample.target)
        assert not pixels.is_identical(rescaled(sample.source, 96, 95), rescaled(sample.target, 96, 95))
    assert same == 25


def test_masks_of_edits_of_the_whole_picture_may_be_full():
    picture = photo(0)
    darker = (picture * 0.6).astype(np.uint8)
    full = np.ones(picture.shape[:2], bool)
    assert pixels.mask_fault(full, picture, darker) is None
    local = picture.copy()
    local[10:30, 10:30] = 0
    assert pixels.mask_fault(full, picture, local) == ("full_mask", pixels.mask_fault(full, picture, local)[1])
    assert pixels.mask_fault(~full, picture, local) == ("empty_mask", "")
    assert pixels.mask_fault(~full, None, local) == ("empty_mask", "")
    assert pixels.mask_fault(full, None, local) is None
    corner = np.zeros_like(full)
    corner[60:80, 60:80] = True
    assert pixels.mask_fault(corner, picture, local) == ("mask_elsewhere", "0 % of what changes lies within it")


def test_the_direction_of_most_removals_additions_colours_and_tones_shows():
    told = {"remove": [], "add": [], "recolour": [], "photometric": []}
    for number in range(250):
        sample = SAMPLER[number]
        if sample.task in told:
            told[sample.task].append(pixels.direction(sample.instruction, sample.task, sample.source, sample.target))
    for task, ways in told.items():
        known = np.array([way for way in ways if way is not None])
        assert known.min() > -pixels.EVIDENCE, task
        share = 0.25 if task == "photometric" else 0.5  # most operations are no change of light or colour alone
        assert (known > pixels.EVIDENCE).sum() >= share * len(ways), task


def test_a_slight_tone_is_no_copy():
    grey = np.random.default_rng(0).integers(90, 160, (64, 64, 3), dtype=np.uint8)
    assert pixels.is_identical(grey, np.clip(grey + np.array([[[1, 0, -1]]]), 0, 255).astype(np.uint8))
    assert not pixels.is_identical(grey, np.clip(grey + np.array([[[2, 0, -2]]]), 0, 255).astype(np.uint8))


def test_the_colour_that_is_there_is_not_the_one_that_comes():
    assert wordings.named_colour("the shade of the giraffe whose colour is orange ought to be blue") == "blue"
    assert wordings.named_colour("the shade of the giraffe whose colour is orange ought to be bleu") is None
    assert wordings.named_colour("the giraffe that is orange should be blue") == "blue"


def test_what_cannot_be_told_is_not_guessed():
    sample = next(SAMPLER[n] for n in range(50) if SAMPLER[n].task == "replace")
    assert pixels.direction(sample.instruction, "replace", sample.source, sample.target) is None
    assert pixels.direction("remove it", "remove", sample.source, sample.source) is None
    assert pixels.direction("make it brighter", "photometric", sample.source, sample.source) is None
    assert pixels.direction("make the cat red", "recolour", sample.source, sample.source) is None


@pytest.mark.parametrize("task", [task for task in told.TEMPLATES if task != "decline"])
def test_no_wording_that_people_would_use_contradicts_its_own_task(task, monkeypatch):
    monkeypatch.setitem(told.SHARES, "slip", 0)  # nobody knows what "add bllur" is
    monkeypatch.setitem(told.SHARES, "saying", 0)
    rng = np.random.default_rng(0)
    fill = {"ref": "that cat", "other": "the dog", "new": "fox", "colour": "red", "place": "at the top"}
    for template in told.TEMPLATES[task]:
        for number in range(12):
            if task == "photometric":
                text = told.tone_request(rng, TONES[number * 7 % len(TONES)], template=template)
            else:
                size = ("bigger", "smaller")[number % 2]
                text = told.say(rng, template, {**fill, "size": told.BOOK["sizes"][size][number % 5]}, size)
            assert wordings.contradiction(text, task) == "", (template.key, text)


def test_hardly_a_saying_contradicts_its_task():
    texts = [
        text for split in ("train", "val", "test") for tone in TONES for text in told.sayings(split).get(tone, ())
    ]
    wrong = [text for text in texts if wordings.contradiction(text, "photometric")]
    assert len(texts) > 8000 and len(wrong) < 0.01 * len(texts), wrong


@pytest.mark.parametrize("task", list(PLAIN_TEMPLATES))
def test_no_wording_of_scenes_contradicts_its_own_task(task):
    fill = {
        "ref": "the blue cat",
        "new": "fox",
        "colour": "red",
        "size": "bigger",
        "op": "brighter",
        "place": "at the top",
    }
    for template in PLAIN_TEMPLATES[task]:
        assert wordings.contradiction(template.text.format(**fill), task) == "", template.text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("remove the dog", {"remove"}),
        ("Take the red ball out of the photo", {"remove"}),
        ("get rid of the sign", {"remove"}),
        ("add a hat to the man", {"add"}),
        ("put a lamp on the table", {"add"}),
        ("remove the cat and put a fox there", set()),
        ("replace the cat with a fox", {"replace"}),
        ("turn the cat into a fox", {"replace"}),
        ("turn the car red", set()),
        ("make the whole picture brighter", {"photometric"}),
        ("what a nice day", set()),
    ],
)
def test_tasks_are_named_where_words_leave_no_doubt(text, named):
    assert wordings.tasks_named(text) == named


@pytest.mark.parametrize(
    ("text", "task", "told"),
    [
        ("delete the dog", "replace", "remove, not replace"),
        ("insert a cup", "remove", "add, not remove"),
        ("swap the cup for a bowl", "add", "replace, not add"),
        ("paint the door blue", "remove", "recolour, not remove"),
        ("make the photo darker", "add", "photometric, not add"),
        ("delete the dog", "edit", ""),
        ("delete the dog", "reasoning", ""),
    ],
)
def test_contradictions_are_told(text, task, told):
    assert wordings.contradiction(text, task) == told


def test_replacements_that_name_their_classes_backwards_are_noticed():
    assert wordings.goes_backwards("replace the lantern with a teapot", "blue teapot", "lantern") is False
    assert wordings.goes_backwards("replace the lantern with a teapot", "teapot", "lantern") is True
    assert wordings.goes_backwards("replace the teapot with a lantern", "teapot", "lantern") is False
    assert wordings.goes_backwards("replace it", "teapot", "lantern") is False
    assert wordings.goes_backwards("change the red car to a blue car", "red car", "blue car") is False


def test_colours_and_tones_are_read_where_one_is_meant():
    assert wordings.named_colour("paint the cat red") == "red"
    assert wordings.named_colour("make the red cat white") is None
    assert wordings.named_colour("make the white cat red") == "red"
    assert wordings.named_colour("give the red cat a blue colour and keep the rest") is None
    assert wordings.named_tone("make it black and white") == "grey"
    assert wordings.named_tone("brighter but blurry") is None


def test_signatures_survive_scaling_and_compression_and_tell_pictures_apart():
    sampler = SceneSampler("train", 96)
    pictures = [sampler[number].source for number in range(60)]
    known = Signatures()
    for number, picture in enumerate(pictures):
        known.add(signature(picture), str(number))
    again = {number: [] for number in range(60)}
    for number, picture in enumerate(pictures):
        assert near(signature(picture), known.all).sum() == 1
        again[number] = [known.find(signature(rescaled(picture, *how))) for how in ((64, 80), (200, 70), (96, 90))]
    told = [hit for number, hits in again.items() for hit in hits if hit == str(number)]
    assert len(told) >= 177  # of 180
    assert not [hit for number, hits in again.items() for hit in hits if hit not in (None, str(number))]
    assert known.find(signature(photo(999))) is None
    assert [known.find(one) for one in known.all] == [str(n) for n in range(60)]


def test_other_colours_are_another_picture_and_flat_ones_have_no_signature():
    picture = photo(5)
    assert near(signature(picture), signature(picture[..., ::-1])[None]).tolist() == [False]
    assert signature(np.full((40, 40, 3), 128, np.uint8)) is None
    many = Signatures()
    for number in range(2500):
        many.add(signature(picture), str(number))
    assert len(many.all) == 2500


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Find the thing you beat and put an animal that people ride there.", "replace"),
        ("Look for the bus at the top left, then place a teapot there.", "replace"),
        ("Make the fruit an orange.", "replace"),
        ("Please put a ball on the table.", "add"),
    ],
)
def test_good_wordings_are_no_other_task(text, task):
    assert wordings.contradiction(text, task) == ""


def test_a_plain_addition_is_no_replacement():
    assert wordings.contradiction("Please put a ball on the table.", "replace") == "add, not replace"


def test_a_frame_has_no_direction():
    for seed in range(8):
        source = photo(seed)
        target = source.copy()
        target[:12], target[-12:], target[:, :12], target[:, -12:] = 0, 0, 0, 0
        assert pixels.direction("add a black frame", "add", source, target) is None


def test_a_border_within_gravel_accuses_nobody():
    """A soft spot in a picture full of edges: the source's edges there are its own, not those of a thing."""
    rng = np.random.default_rng(0)
    gravel = (rng.random((96, 96, 3)).repeat(2, 0).repeat(2, 1)[:96, :96] * 60).astype(np.uint8)
    rows, columns = np.mgrid[:96, :96]
    soft = np.exp(-((rows - 48) ** 2 + (columns - 48) ** 2) / 200.0)[..., None]
    target = (gravel * (1 - soft) + 90 * soft).astype(np.uint8)
    way = pixels.direction("add a ball", "add", gravel, target)
    assert way is None or way > -pixels.EVIDENCE
