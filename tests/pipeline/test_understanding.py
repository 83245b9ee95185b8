"""What a model refuses, and how sure one may be of what it does not refuse."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from insightedit.comprehension.llava import LlavaComprehension
from insightedit.images.background import EditComparison, compute_edit_map
from insightedit.images.reading import read_picture
from insightedit.pipelines.edit import InsightEditPipeline
from insightedit.pipelines.report import build_report, render_report
from insightedit.pipelines.understanding import (
    SIGNS,
    Calibration,
    Signs,
    Understanding,
    agreement,
    check_refusals,
    is_refusal,
    refuses,
    understand_request,
)
from insightedit.types import Answer

REFUSALS = "there is no|i cannot"
PLACE_ONLY = {"weights": {"place": 10.0}, "bias": -5.0, "threshold": 0.6}


class TestRefusals:
    @pytest.mark.parametrize("said", ["there is no ladybug", "There is no ladybug.", "i cannot do that", "I cannot"])
    def test_what_begins_so_is_one(self, said):
        assert is_refusal(said, REFUSALS)

    @pytest.mark.parametrize("said", ["there is nothing", "remove the dog", "well, i cannot", "there is", "", None])
    def test_what_does_not_is_none(self, said):
        assert not is_refusal(said, REFUSALS)

    def test_a_model_that_never_learnt_it_refuses_nothing(self):
        assert not is_refusal("i cannot do that", None)

    @pytest.mark.parametrize(
        ("said", "known", "expected"),
        [
            ("2", "remove dog", True),  # it answered a question
            ("", "remove dog", True),
            ("additions are not the removed dog", "remove dog", True),
            ("I cannot do that", "remove dog", True),
            (" Remove the dog", "remove dog", False),
            ("paint the dog red", "remove dog", False),
            ("2", None, False),  # of others' words nobody knows how an edit begins
            (None, "remove dog", False),
        ],
    )
    def test_what_names_no_edit_is_none(self, said, known, expected):
        assert refuses(said, {"refusals": REFUSALS, "known_words": known}) is expected
        assert not refuses(said, {"known_words": known}), "it never learnt to refuse"

    @pytest.mark.parametrize("given", ["", "there is no||i cannot", "a|?!", 3, "x" * 1001])
    def test_what_is_no_list_of_beginnings_is_refused(self, given):
        with pytest.raises(ValueError, match="`refusals` is .*: give how refusing sentences begin, parted by |"):
            check_refusals(given)


def drawing(rows: slice, columns: slice, strength: float = 200.0, side: int = 30) -> EditComparison:
    """A comparison of a grey picture with one in which a rectangle is brighter."""
    grey = np.full((side, side, 3), 20.0, np.float32)
    edited = grey.copy()
    edited[rows, columns] += strength
    return compute_edit_map(edited, grey)


ALL = slice(None)


class TestAgreement:
    @pytest.mark.parametrize(
        ("said", "low", "high"),
        [
            ("remove the dog at the top left", 0.99, 1.0),
            ("remove the dog at the top", 0.0, 0.5),
            ("remove the dog at the bottom right", 0.0, 0.0),
            ("paint the dog at the bottom right and the cat at the top left red", 0.99, 1.0),
            ("remove the dog", 0.0, 0.0),
            ("make the whole picture warmer", 1 / 9, 0.2),
        ],
    )
    def test_of_a_drawing_at_the_top_left(self, said, low, high):
        assert low <= agreement(said, drawing(slice(2, 8), slice(2, 8))) <= high

    def test_of_a_drawing_in_two_places_it_is_the_share(self):
        both = drawing(slice(2, 8), slice(2, 8))
        other = drawing(slice(22, 28), slice(22, 28))
        joined = EditComparison(
            both.edited, both.round_trip, np.maximum(both.edit_map, other.edit_map), both.mask | other.mask
        )
        assert agreement("remove the dog at the top left", joined) == pytest.approx(0.5, abs=0.02)

    @pytest.mark.parametrize("strength", [1.0, 5.0, 200.0])
    def test_of_an_even_change_it_is_one_however_strong(self, strength):
        assert agreement("make the whole picture warmer", drawing(ALL, ALL, strength)) == pytest.approx(1.0, abs=0.01)

    def test_of_a_half_it_is_about_a_half(self):
        assert agreement("make the whole picture warmer", drawing(ALL, slice(0, 15))) == pytest.approx(0.6, abs=0.03)

    @pytest.mark.parametrize("said", ["make the whole picture warmer", "remove the dog at the top"])
    def test_of_nothing_it_is_nothing(self, said):
        assert agreement(said, drawing(ALL, ALL, 0.0)) == 0.0


class TestCalibration:
    def test_the_confidence_is_logistic(self):
        found = Calibration.of({"weights": {"mean_log_prob": 2.0, "place": 3.0}, "bias": -1.0, "threshold": 0.5})
        assert found is not None
        assert found.confidence(Signs(-0.5, -2.0, 1.0, 0.0, 1.0)) == pytest.approx(1 / (1 + math.exp(-1.0)))
        assert Calibration.of(None) is None
        sure = Calibration.of({"weights": {"place": 1e300}, "bias": 0.0, "threshold": 0.5})
        assert sure is not None
        assert sure.confidence(Signs(0, 0, 1.0, 0, 0)) == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ("x", "needs finite numbers"),
            ({}, "needs finite numbers"),
            ({"weights": {}, "bias": 0.0}, "needs finite numbers"),
            ({"weights": {"place": "1"}, "bias": 0.0, "threshold": 0.5}, "needs finite numbers"),
            ({"weights": {"place": math.nan}, "bias": 0.0, "threshold": 0.5}, "needs finite numbers"),
            ({"weights": {"luck": 1.0}, "bias": 0.0, "threshold": 0.5}, "weighs 'luck', which is no sign: mean_log_"),
            ({"weights": {}, "bias": 0.0, "threshold": 1.5}, "has the threshold 1.5: it lies in 0 to 1"),
        ],
    )
    def test_what_is_none_is_refused(self, given, told):
        with pytest.raises(ValueError, match=f"`confidence_calibration` {told}"):
            Calibration.of(given)

    def test_the_signs_of_a_request(self):
        answer = Answer("remove the dog at the top left", (-0.1, -0.5, -0.3))
        evidence = drawing(slice(2, 8), slice(2, 8))
        settings = {"refusals": None, "confidence_calibration": PLACE_ONLY}
        told = understand_request("could you zorp the dog", answer, evidence, settings, ["could", "you", "zorp"])
        assert told.signs == Signs(pytest.approx(-0.3), -0.5, pytest.approx(1.0, abs=0.01), pytest.approx(2 / 5), 0.0)
        assert told.confidence == pytest.approx(1 / (1 + math.exp(-5)), abs=0.01)
        assert told.is_understood
        assert understand_request("remove the dog", answer, evidence, {}).confidence is None
        assert understand_request("remove the dog", answer, evidence, {}).signs.agrees == 1.0
        assert understand_request("remove the dog", answer, None, settings) == Understanding(answer.text)
        assert understand_request("remove the dog", None, evidence, settings) == Understanding()
        assert SIGNS == ("mean_log_prob", "min_log_prob", "place", "unknown_words", "agrees")


class TestWarnings:
    @pytest.mark.parametrize(
        ("said", "unknown", "forced", "message"),
        [
            ("there is no ladybug", [], False, "there is no ladybug in this picture, so nothing was changed"),
            ("there is no ladybug", [], True, "there is no ladybug in this picture, but it was forced to draw"),
            ("i cannot do that", [], False, 'the model says "i cannot do that", so nothing was changed'),
            (
                "i cannot do that", ["winter"], False,
                'the model says "i cannot do that", and does not know the word "winter", so nothing was changed',
            ),
        ],
    )  # fmt: skip
    def test_of_a_refusal(self, said, unknown, forced, message):
        (warning,) = Understanding(said, is_refusal=True).warnings(unknown, forced)
        assert (warning.kind, warning.message) == ("refused", message)

    @pytest.mark.parametrize(
        ("forced", "end"),
        [
            (False, 'it would have done "remove the\u00a0dog"; nothing was changed, force=True (--force) insists'),
            (True, 'it was forced to do "remove the\u00a0dog"'),
        ],
    )
    def test_of_an_unsure_edit(self, forced, end):
        told = Understanding("remove the\u00a0dog", False, None, 0.314, 0.6)
        (warning,) = told.warnings(["winter"], forced)
        assert warning.kind == "unsure"
        start = "the model is not sure that it understood (31 %, and 60 % are needed), and does not know the word"
        assert warning.message == f'{start} "winter": {end}'

    def test_of_what_was_understood_there_are_none(self):
        assert Understanding("remove the dog", False, None, 0.7, 0.6).warnings(["winter"]) == []
        assert Understanding().warnings() == []


class Speaking(LlavaComprehension):
    """Says what it is told to say, `words` by instruction, and reads as it does."""

    words: dict[str, str]

    def answer(self, questions, images, max_new_tokens=64, no_repeat_ngram_size=0):
        return [Answer(self.words[question], (-0.2, -0.4)) for question in questions]


@pytest.fixture
def speaking(tiny_pipeline):
    """`speaking({instruction: words}, **settings)`: the tiny pipeline that says these before it edits."""

    def build(words, **settings) -> InsightEditPipeline:
        given = {k: v for k, v in tiny_pipeline.config.items() if k in InsightEditPipeline._settings}
        given |= {"expressive": True, "describe_prompt": "{instruction}", "refusals": REFUSALS, **settings}
        pipeline = InsightEditPipeline(**{**tiny_pipeline.components, **given})
        pipeline.set_progress_bar_config(disable=True)
        reader = Speaking(pipeline.mllm, pipeline.processor, num_edit_tokens=4)
        reader.words = words
        pipeline.use_comprehension(reader)
        return pipeline

    return build


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)


WORDS = {"remove the dog": "remove the dog at the top", "remove the ladybug": "there is no ladybug"}


class TestPipeline:
    def test_a_refused_picture_comes_back_and_is_not_drawn(self, speaking, photo):
        pipeline = speaking(WORDS)
        steps = []
        watch = {"callback_on_step_end": lambda *given: steps.append(given[1]) or {}}
        pipeline(photo, "remove the dog", seed=0, **watch)
        assert steps == [0, 1]
        result = pipeline(photo, "remove the ladybug", seed=0, output_type="np", **watch)
        assert steps == [0, 1]
        np.testing.assert_array_equal(np.rint(result.images[0] * 255).astype(np.uint8), photo)
        assert not result.masks[0].any()
        assert not result.edit_maps[0].any()
        assert (result.understood, result.confidence, result.signs) == ([False], [None], [None])
        assert result.expressive_instructions == ["there is no ladybug"]
        assert [warning.kind for warning in result.warnings[0]] == ["refused"]
        assert not result.evidence[0].mask.any()
        np.testing.assert_array_equal(result.evidence[0].edited, result.evidence[0].round_trip)

    @pytest.mark.parametrize("batch_size", [1, 2, 3])
    def test_in_a_batch_the_others_are_drawn_as_alone(self, speaking, photo, batch_size):
        pipeline = speaking(WORDS)
        texts = ["remove the ladybug", "remove the dog", "remove the ladybug"]
        result = pipeline(photo, texts, seed=[1, 2, 3], batch_size=batch_size)
        alone = np.asarray(pipeline(photo, "remove the dog", seed=2).images[0])
        assert result.understood == [False, True, False]
        # the autoencoder has the others beside it, which rounds otherwise
        np.testing.assert_allclose(np.asarray(result.images[1]).astype(int), alone, atol=0 if batch_size == 1 else 1)
        assert [np.array_equal(np.asarray(image), photo) for image in result.images] == [True, False, True]
        noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5))
        drawn = np.asarray(pipeline(photo, texts, latents=noise, batch_size=batch_size).images[1])
        alone = np.asarray(pipeline(photo, texts[1], latents=noise[1:2]).images[0])
        np.testing.assert_allclose(drawn.astype(int), alone, atol=1)

    def test_forced_it_draws_what_it_makes_of_it(self, speaking, photo):
        pipeline = speaking(WORDS)
        result = pipeline(photo, "remove the ladybug", seed=0, force=True)
        assert not np.array_equal(np.asarray(result.images[0]), photo)
        assert result.understood == [False]
        assert result.warnings[0][0].message.endswith("but it was forced to draw")
        assert result.settings["force"] is True

    def test_latents_of_a_refusal_are_the_sources(self, speaking, photo):
        pipeline = speaking(WORDS)
        calls = ["remove the ladybug", "remove the dog"]
        result = pipeline(photo, calls, seed=0, output_type="latent", batch_size=2)
        assert result.images.shape == (2, 4, 8, 8)
        assert result.understood == [False, True]
        single = pipeline(photo, calls[0], seed=9, output_type="latent")
        torch.testing.assert_close(result.images[:1], single.images)

    def test_without_the_setting_nothing_is_refused(self, speaking, photo):
        result = speaking(WORDS, refusals=None)(photo, "remove the ladybug", seed=0)
        assert result.understood == [True]
        assert not np.array_equal(np.asarray(result.images[0]), photo)

    def test_even_a_mask_and_no_lock_change_nothing_of_a_refused_picture(self, speaking, photo):
        for options in ({"background_lock": False}, {"mask": np.ones((30, 50), bool)}):
            result = speaking(WORDS)(photo, "remove the ladybug", seed=0, **options)
            np.testing.assert_array_equal(np.asarray(result.images[0]), photo)
            assert not result.masks[0].any()

    def test_below_the_threshold_the_picture_comes_back_and_the_drawing_is_told(self, speaking, photo):
        unsure = {"weights": {"mean_log_prob": 1.0}, "bias": 0.0, "threshold": 0.5}
        pipeline = speaking(WORDS, confidence_calibration=unsure)
        result = pipeline(photo, "remove the dog", seed=0)
        np.testing.assert_array_equal(np.asarray(result.images[0]), photo)
        assert result.confidence == [pytest.approx(1 / (1 + math.exp(0.3)))]
        assert result.understood == [False]
        assert not result.masks[0].any()
        assert not result.edit_maps[0].any()
        assert result.evidence[0].mask.any()
        assert [w.kind for w in result.warnings[0]] == ["unsure"]
        forced = pipeline(photo, "remove the dog", seed=0, force=True)
        free = speaking(WORDS)(photo, "remove the dog", seed=0)
        assert forced.images[0].tobytes() == free.images[0].tobytes()
        assert (forced.understood, free.understood, free.confidence) == ([False], [True], [None])
        assert (forced.warnings[0][0].kind, free.warnings) == ("unsure", [[]])
        sure = speaking(WORDS, confidence_calibration={**unsure, "threshold": 0.4})(photo, "remove the dog", seed=0)
        assert sure.understood == [True]
        assert sure.images[0].tobytes() == free.images[0].tobytes()

    def test_a_sure_model_is_not_judged_by_known_wordings(self, speaking, photo):
        words = {"remove the cat": "remove the dog at the top"}
        settings = {"known_words": "remove the cat dog"}
        said = speaking(words, **settings)(photo, "remove the cat", seed=0).warnings[0]
        assert [w.kind for w in said] == ["understood"]
        sure = {"weights": {}, "bias": 2.0, "threshold": 0.5}
        told = speaking(words, **settings, confidence_calibration=sure)(photo, "remove the cat", seed=0)
        assert told.warnings == [[]]
        assert told.confidence == [pytest.approx(1 / (1 + math.exp(-2.0)))]
        assert told.signs[0].agrees == 0.0

    def test_a_report_shows_what_would_have_been_drawn(self, speaking, photo):
        unsure = {"weights": {"mean_log_prob": 1.0}, "bias": 0.0, "threshold": 0.5}
        result = speaking(WORDS, confidence_calibration=unsure)(photo, "remove the dog", seed=0)
        report = build_report(photo, result, instruction="remove the dog")
        assert (report.understood, report.confidence) == (False, result.confidence[0])
        assert report.signs == {**asdict(result.signs[0])}
        assert report.signs["mean_log_prob"] == pytest.approx(-0.3)
        assert (report.changed_ratio, report.different_ratio) == (0.0, 0.0)
        page = render_report(report, read_picture(photo), result)
        for told in (
            "Not understood",
            "What the model would have drawn<",
            "42.56 %",
            "The model says: remove the dog at",
        ):
            assert told in page

    def test_a_model_without_words_is_believed(self, tiny_pipeline, photo):
        result = tiny_pipeline(photo, "remove the dog", seed=0)
        assert (result.understood, result.confidence, result.signs) == ([True], [None], [None])

    def test_the_settings_are_kept_in_the_folder_and_checked(self, speaking, tmp_path, photo):
        pipeline = speaking(WORDS, confidence_calibration=PLACE_ONLY)
        pipeline.save_pretrained(tmp_path)
        index = json.loads((tmp_path / "model_index.json").read_text())
        assert (index["refusals"], index["confidence_calibration"]) == (REFUSALS, PLACE_ONLY)
        again = InsightEditPipeline.from_pretrained(tmp_path)
        assert dict(again.config["confidence_calibration"]) == PLACE_ONLY
        (tmp_path / "model_index.json").write_text(json.dumps({**index, "refusals": "|"}))
        with pytest.raises(ValueError, match="model_index.json: `refusals` is '|'"):
            InsightEditPipeline.from_pretrained(tmp_path)
        with pytest.raises(ValueError, match="`refusals` is ''"):
            speaking(WORDS, refusals="")
        with pytest.raises(ValueError, match="`confidence_calibration` needs finite numbers"):
            speaking(WORDS, confidence_calibration={"weights": 3})
