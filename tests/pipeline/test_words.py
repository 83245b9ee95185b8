"""Instructions made clean, and warnings where the picture may not be what was asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from insightedit.pipelines.loading import DEFAULT_MODEL
from insightedit.pipelines.warnings import EditWarning, agrees, clean_instruction, find_warnings, split_words

KNOWN = frozenset(json.loads((DEFAULT_MODEL / "model_index.json").read_text())["known_words"].split())


def kinds(instruction: str, understood: str | None = None, **options: object) -> list[str]:
    return [warning.kind for warning in find_warnings(instruction, understood, **options)]  # type: ignore[arg-type]


class Speller:
    """A tokenizer that knows Latin letters only, as T5's does."""

    unk_token_id = 2

    def __call__(self, text, add_special_tokens):
        return type("Encoding", (), {"input_ids": [3 if letter.isascii() else 2 for letter in text]})


class TestClean:
    @pytest.mark.parametrize("text", ["remove it", "fünf Äpfel", "把鱼去掉", "أزل", "می\u200cخواهم", "🐟", "a\nb"])
    def test_text_stays_as_it_is(self, text):
        assert clean_instruction(text) == text

    def test_letters_are_composed_and_invisible_ones_go(self):
        assert clean_instruction("cafe\u0301 \u200b\ufeffred\u202e") == "café red"

    @pytest.mark.parametrize(
        ("text", "named"), [("a\x1b[31m", "001B"), ("a\udcff", "DCFF"), ("a\x00", "0000"), ("a\uffff", "FFFF")]
    )  # fmt: skip
    def test_what_is_no_text_is_refused(self, text, named):
        with pytest.raises(ValueError, match=rf"`instruction` holds the character U\+{named}, which is no"):
            clean_instruction(text)

    @pytest.mark.parametrize("text", ["", "  ", "\u200b", "\ufeff \u2060", "\u200d"])
    def test_empty_is_refused(self, text):
        with pytest.raises(ValueError, match="`instruction` is empty"):
            clean_instruction(text)

    def test_what_is_not_a_text_is_refused(self):
        with pytest.raises(TypeError, match="`instruction` is a int: give a text"):
            clean_instruction(3)  # type: ignore[arg-type]

    def test_capitals_go_only_where_the_model_has_none(self):
        assert clean_instruction("REMOVE the Fish", lowercase=True) == "remove the fish"
        assert clean_instruction("REMOVE the Fish") == "REMOVE the Fish"
        assert clean_instruction("Waaaay too darkkk, 1000 times", lowercase=True) == "way too dark, 1000 times"
        assert clean_instruction("soon: a cool, wooow", lowercase=True) == "soon: a cool, wow"
        assert clean_instruction("Waaaay too dark") == "Waaaay too dark"


class TestUnknownWords:
    def test_they_are_named_with_what_was_understood(self):
        (warning,) = find_warnings("make it look like winter", "make the ladybug smaller", known=KNOWN - {"like"})
        assert warning == EditWarning(
            "words", 'the model does not know the words "like", "winter"; it understood: make the ladybug smaller'
        )

    def test_many_are_counted(self):
        (warning,) = find_warnings("q w e r t z u", known=KNOWN)
        assert warning.message == 'the model does not know the words "q", "w", "e", "r", "t" and 2 more'

    @pytest.mark.parametrize("text", ["把鱼去掉", "أزل السمكة", "🐟", "?!", "put <imagehere> here", "<img_0>"])
    def test_other_scripts(self, text):
        assert kinds(text, known=KNOWN) == ["words"]

    @pytest.mark.parametrize("text", ["remove the fish", "Remove the dog's hat."[:14], "make it black-and-white!"])
    def test_taught_words(self, text):
        assert kinds(text, known=KNOWN) == []

    def test_a_model_of_a_whole_language_is_believed(self):
        class WithBytes(Speller):
            unk_token_id = None

        for text in ("make it look like winter", "把鱼去掉", "🐟"):
            assert kinds(text, tokenizer=WithBytes()) == []
        assert kinds("?!", tokenizer=WithBytes()) == ["words"]

    def test_words_that_ask_for_nothing_are_told_by_what_was_understood(self):
        text = "Could you kindly remove the fish and show the background?"
        assert kinds(text, "remove the fish at the top", known=KNOWN) == []
        assert kinds(text, "remove the dog at the top", known=KNOWN) == ["understood"]
        assert kinds(text, known=KNOWN) == ["words"]

    def test_what_a_tokenizer_cannot_spell(self):
        assert kinds("make it look like winter {}", tokenizer=Speller()) == []
        (warning,) = find_warnings("把鱼 now", tokenizer=Speller())
        assert warning.message == 'the model does not know the word "把鱼"'

    def test_words_of_a_text(self):
        assert split_words("The dog’s light-blue HAT, \U0001f41f ...!") == ["the", "dog", "light", "blue", "hat"]


class TestUnderstood:
    @pytest.mark.parametrize(
        ("instruction", "understood"),
        [
            ("get rid of the fish", "remove the fish at the top"),
            ("remove the animal that barks", "remove the dog in the mirror at the left side"),
            ("remove both cats", "remove the cat at the top and the cat at the bottom"),
            ("make it look as if a fox had been there and not the dog", "replace the dog at the top with a fox"),
            ("i want the colour of the left bus to be white", "paint the bus at the bottom left white"),
            ("there is nothing at the top so put an owl there", "add an owl at the top"),
            ("make both buses red", "paint the bus at the top and the bus at the left side red"),
            ("turn the red tree into a bigger one", "make the red tree in the middle bigger"),
            ("make the photo sepia", "make the whole picture sepia"),
            ("remove the dog left of the cat", "remove the dog at the top"),
            ("make it look like winter", "The trees are covered with snow and the sky is grey."),
            ("anything", ""),
        ],
    )  # fmt: skip
    def test_the_same(self, instruction, understood):
        assert agrees(instruction, understood)
        assert kinds(instruction, understood, known=set(split_words(instruction))) == []

    @pytest.mark.parametrize(
        ("instruction", "understood"),
        [
            ("make it rain", "make the ladybug smaller"),
            ("make the fish red", "remove the fish at the top"),
            ("make the fish red", "paint the fish at the top blue"),
            ("make the fish red", "paint the ladybug at the top red"),
            ("make the fish bigger", "make the fish at the top smaller"),
            ("make the photo darker", "make the whole picture warmer"),
            ("remove the fish and put an owl there", "remove the fish at the top"),
            ("replace the dog with a fox", "replace the dog in the middle with a dog"),
            ("put a dog here", "add a fox at the top"),
            ("paint the fish and the dog red", "paint the fish at the top and the fish at the left side red"),
        ],
    )
    def test_something_else(self, instruction, understood):
        assert not agrees(instruction, understood)
        (warning,) = find_warnings(instruction, understood, known=set(split_words(instruction)))
        assert warning == EditWarning("understood", f"the model understood something else: {understood}")

    def test_what_a_model_writes_breaks_no_note(self):
        (warning,) = find_warnings("make it rain", "make the\x1b[31m dog\x07 smaller\ud800", known=KNOWN)
        assert warning.message == "the model understood something else: make the [31m dog  smaller"

    def test_a_model_of_a_whole_language_is_not_judged_by_our_few_words(self):
        assert kinds("plant a lawn", "add a meadow") == []


class TestPipeline:
    @pytest.fixture
    def photo(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)

    def test_one_list_per_picture(self, tiny_pipeline, photo):
        result = tiny_pipeline(photo, ["remove the dog", "?!"], seed=0)
        assert [[w.kind for w in own] for own in result.warnings] == [[], ["words"]]
        assert len(tiny_pipeline(photo, "?!", seed=0, output_type="latent").warnings) == 1

    def test_nothing_changed(self, tiny_pipeline, photo):
        result = tiny_pipeline(photo, "remove the dog", seed=0, mask_threshold=1.0)
        assert [w.kind for w in result.warnings[0]] == ["unchanged"]
        assert result.warnings[0][0].message == "the model changed nothing"

    def test_an_edit_under_full_transparency(self, tiny_pipeline, photo):
        alpha = np.full((30, 50), 255, np.uint8)
        alpha[:, 5:] = 0
        result = tiny_pipeline(np.dstack([photo, alpha]), "remove the dog", seed=0)
        assert not result.masks[0][:, 5:].any()
        (warning,) = result.warnings[0]
        assert warning.kind == "unseen"
        assert "% of the edit lies where the picture is fully transparent" in warning.message
        np.testing.assert_array_equal(np.asarray(result.images[0])[:, 5:, :3], photo[:, 5:])

    def test_the_models_own_words_and_case(self, tiny_root, tiny_pipeline, photo):
        from insightedit.pipelines.edit import InsightEditPipeline

        settings = {k: v for k, v in tiny_pipeline.config.items() if not k.startswith("_")}
        settings |= tiny_pipeline.components
        settings |= {"known_words": "remove the dog", "lowercase_instructions": True}
        strict = InsightEditPipeline(**settings)
        strict.set_progress_bar_config(disable=True)
        loud, plain = (strict(photo, text, seed=0) for text in ("REMOVE the Dog", "remove the dog"))
        assert loud.images[0].tobytes() == plain.images[0].tobytes()
        assert loud.warnings == [[]]
        (warning,) = strict(photo, "remove the cat", seed=0).warnings[0]
        assert warning.message == 'the model does not know the word "cat"'

    def test_no_text_is_refused(self, tiny_pipeline, photo):
        with pytest.raises(ValueError, match=r"holds the character U\+001B"):
            tiny_pipeline(photo, "remove\x1b[31m the fish")


class TestTaughtWords:
    def test_the_embedded_model_names_the_words_of_what_it_draws(self):
        from insightedit.scenes import CLASSES, COLOURS, SceneSampler, known_words

        assert set(" ".join((*CLASSES, *COLOURS)).split()) <= KNOWN  # scenes of today may say more than it learnt
        known, sampler = frozenset(known_words()), SceneSampler("train", size=32, plain=True)
        assert len(known) > 1000
        told = [(sampler[i].instruction, sampler[i].expressive_instruction) for i in range(300)]
        assert [pair for pair in told if find_warnings(*pair, known=known)] == []

    @pytest.fixture
    def taught(self, tmp_path):
        """`taught(*overrides)`: what an export of such a run would say about its words."""
        from insightedit.config.load import dump_config, load_config
        from insightedit.export.checks import taught_words

        def call(*overrides: str, recipe: str = "insightedit") -> dict:
            folder = tmp_path / "stage3"
            folder.mkdir(exist_ok=True)
            dump_config(load_config(recipe, 3, ["tiny"], list(overrides)), folder / "config.yaml")
            return taught_words(folder)

        return call

    @pytest.mark.parametrize("recipe", ["insightedit", "mige"])
    def test_an_export_names_them(self, taught, recipe):
        told = taught(recipe=recipe)
        assert told["lowercase_instructions"] is True
        assert {"remove", "ladybug"} < set(told["known_words"].split())

    def test_an_export_says_how_a_model_refuses_that_was_taught_to(self, taught):
        taught_to = ("comprehension.expressive=true", "data.sources=[{kind: descriptions}]")
        assert taught(*taught_to)["refusals"] == "there is no|i cannot do that"
        assert "refusals" not in taught(taught_to[1]), "it says nothing before it edits"
        assert "refusals" not in taught(taught_to[0], "data.sources=[{kind: scenes}]")

    @pytest.mark.parametrize(
        "override", ["comprehension.model=llava-hf/llava-1.5-7b-hf", "data.sources=[{kind: editing, path: own/pairs}]"]
    )
    def test_an_export_of_other_words_names_none(self, taught, override):
        assert taught(override) == {}

    def test_a_model_that_goes_on_refuses_as_before(self, taught, tmp_path):
        said = {"refusals": "there is no|i cannot do that"}
        (tmp_path / "model_index.json").write_text(json.dumps(said))
        assert taught(f"init_from={tmp_path}", "data.sources=[{kind: scenes}]") == said

    def test_a_model_that_goes_on_keeps_its_words(self, taught, tmp_path):
        told = taught(f"init_from={DEFAULT_MODEL}", f"comprehension.model={DEFAULT_MODEL}/mllm")
        assert told == {"known_words": " ".join(sorted(KNOWN)), "lowercase_instructions": True}
        (tmp_path / "model_index.json").write_text("{}")
        assert taught(f"init_from={tmp_path}") == {}
