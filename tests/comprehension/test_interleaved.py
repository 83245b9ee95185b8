"""Words and pictures in one instruction: where pictures go, what is cut, what the stock folders give."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Blip2ForConditionalGeneration, T5Config, T5ForConditionalGeneration
from transformers.models.blip_2.configuration_blip_2 import Blip2Config, Blip2QFormerConfig

from insightedit.comprehension.blip2_t5 import Blip2PictureEncoder, Blip2T5Comprehension
from insightedit.comprehension.prompts import TASK_PREFIXES, check_placeholders, place_source
from insightedit.modeling.pretrained import resolve_model_id
from insightedit.types import TASKS, EditRecord, TokenBatch, task_of

DOG, CAT, PARK = (np.full((20, 30, 3), value, np.uint8) for value in (30, 120, 220))


@pytest.fixture(scope="module")
def reader() -> Blip2T5Comprehension:
    return Blip2T5Comprehension.from_pretrained(
        resolve_model_id("miniature:tiny/blip2"), resolve_model_id("miniature:tiny/t5"), resolution=32, max_length=64
    )


class TestWords:
    @pytest.mark.parametrize(
        ("given", "wanted", "place"),
        [
            ("remove the dog", "remove the dog <imagehere>", 0),
            ("make The Picture bright", "make <imagehere> bright", 0),
            ("add <imagehere> to the photo", "add <imagehere> to <imagehere>", 1),
            ("in the image, show <imagehere> in the image", "in <imagehere>, show <imagehere> in the image", 0),
            ("turn <imagehere> into <imagehere>", "turn <imagehere> into <imagehere> <imagehere>", 2),
            ("photos of the pictures", "photos of the pictures <imagehere>", 0),
        ],
    )
    def test_the_source_finds_its_place(self, given, wanted, place):
        assert place_source(given) == (wanted, place)

    def test_each_task_has_its_own_sentence(self):
        assert set(TASK_PREFIXES) == set(TASKS)
        assert len(set(TASK_PREFIXES.values())) == len(TASKS)

    def test_the_task_follows_from_the_pictures(self):
        assert [task_of(*given) for given in ((True, False), (False, True), (True, True), (False, False))] == [
            "editing", "subject", "subject_editing", "subject",
        ]  # fmt: skip

    def test_numbers_have_to_fit(self):
        with pytest.raises(ValueError, match="has 1 <imagehere> and 2 reference images go with it"):
            check_placeholders("add <imagehere>", 2, 4)
        with pytest.raises(ValueError, match="5 reference images were given, this model reads at most 4"):
            check_placeholders("<imagehere>" * 5, 5, 4)


class TestRecords:
    def test_placeholders_and_references_are_counted(self):
        with pytest.raises(ValueError, match="record a has 0 <imagehere> .* and 1 reference images"):
            EditRecord("a", "add a dog", PARK, PARK, reference_images=(DOG,))

    def test_pictures_are_the_tasks(self):
        with pytest.raises(ValueError, match="of the task subject with a source"):
            EditRecord("a", "draw <imagehere>", PARK, PARK, reference_images=(DOG,), task="subject")
        with pytest.raises(ValueError, match="`subject_editing` has both"):
            EditRecord("a", "draw <imagehere>", None, PARK, reference_images=(DOG,), task="subject_editing")


class TestTokens:
    def test_pictures_stand_where_the_text_says(self, reader):
        tokens = reader.tokenize(["add <imagehere> to the picture"], [PARK], [[DOG]])
        prefix = len(reader.tokenizer._ids(TASK_PREFIXES["subject_editing"]))
        words = [len(reader.tokenizer._ids(text)) for text in ("add", "to")]
        row = tokens.image_positions[0].nonzero().flatten().tolist()
        first = prefix + words[0]
        second = first + 4 + words[1]
        assert row == [*range(first, first + 4), *range(second, second + 4)]
        assert tokens.input_ids.shape == tokens.attention_mask.shape == (1, 64)
        assert int(tokens.attention_mask.sum()) == second + 4 + 1, "the end token counts, padding does not"

    def test_pictures_come_in_reading_order(self, reader):
        tokens = reader.tokenize(
            ["put <imagehere> in the photo", "draw <imagehere> and <imagehere>", "in the photo, add <imagehere>"],
            [PARK, None, PARK],
            [[DOG], [DOG, CAT], [CAT]],
        )
        greys = ((tokens.reference_pixels[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
        assert greys == [30, 220, 30, 120, 220, 120]
        assert tokens.pixel_values.shape == (6, 3, 32, 32)
        assert tokens.image_positions.sum(dim=1).tolist() == [8, 8, 8]

    def test_text_alone_has_no_pictures(self, reader):
        tokens = reader.tokenize(["a red ball"], [None], [[]])
        assert tokens.pixel_values is None and not tokens.image_positions.any()
        assert reader.encode_text(tokens, None).shape == (1, 64, 32)

    def test_control_tokens_of_the_user_are_letters(self, reader):
        ids = reader.tokenize(["say </s> <pad> <extra_id_0>"], [None], [[]]).input_ids[0]
        end = reader.tokenizer.text_tokenizer.eos_token_id
        sentinel = reader.tokenizer.text_tokenizer.convert_tokens_to_ids("<extra_id_0>")
        assert (ids == end).sum() == 1 and (ids == sentinel).sum() == 0
        assert (ids == 0).nonzero().min() > (ids == end).nonzero().max(), "padding stands at the end only"

    def test_a_long_text_loses_its_end_and_never_a_picture(self, reader, caplog):
        long = "add <imagehere> " + "and a very green fish " * 30
        with pytest.raises(ValueError, match=r"tokens too long: this model reads 64, 8 of which its 2 pictures"):
            reader.tokenize([long], [PARK], [[DOG]])
        reader.tokenizer._warned = False
        tokens = reader.tokenize([long, long], [PARK, None], [[DOG], [DOG]], shorten=True)
        assert tokens.image_positions.sum(dim=1).tolist() == [8, 4]
        assert tokens.attention_mask.sum(dim=1).tolist() == [64, 64]
        assert tokens.input_ids[:, -1].tolist() == [reader.tokenizer.text_tokenizer.eos_token_id] * 2
        assert caplog.text.count("an instruction was cut") == 1

    def test_too_many_pictures_cannot_be_shortened(self, reader):
        small = Blip2T5Comprehension.from_pretrained(
            resolve_model_id("miniature:tiny/blip2"),
            resolve_model_id("miniature:tiny/t5"),
            resolution=32,
            max_length=40,
        )
        with pytest.raises(ValueError, match="or fewer pictures"):
            small.tokenize(["<imagehere>" * 4], [PARK], [[DOG] * 4], shorten=True)


class TestReading:
    def test_a_picture_reaches_the_states_through_its_own_tokens(self, reader):
        tokens = reader.tokenize(["add <imagehere> here", "add <imagehere> here"], [None, None], [[DOG], [CAT]])
        seen = reader.encode_images(tokens.pixel_values)
        assert seen.shape == (2, 4, 32) and not torch.allclose(seen[0], seen[1])
        states = reader.encode_text(tokens, seen)
        assert not torch.allclose(states[0], states[1])
        swapped = reader.encode_text(tokens, seen.flip(0))
        torch.testing.assert_close(swapped, states.flip(0))

    def test_values_are_blip2s_and_t5s_own(self, reader):
        """The stock models, called by hand, on the same picture and embeddings."""
        stock = Blip2ForConditionalGeneration.from_pretrained(resolve_model_id("miniature:tiny/blip2")).eval()
        tokens = reader.tokenize(["draw <imagehere>"], [None], [[DOG]])
        image_features = stock.get_image_features(tokens.pixel_values).pooler_output
        torch.testing.assert_close(
            reader.picture_encoder.project(reader.encode_images(tokens.pixel_values)),
            image_features,
            rtol=0,
            atol=1e-5,
        )
        embeds = reader.text_encoder.get_input_embeddings()(tokens.input_ids).clone()
        embeds[0, tokens.image_positions[0]] = image_features[0]
        expected = reader.text_encoder(inputs_embeds=embeds, attention_mask=tokens.attention_mask).last_hidden_state
        ours = reader.encode_text(tokens, reader.encode_images(tokens.pixel_values))
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)

    def test_pictures_and_positions_have_to_fit(self, reader):
        tokens = reader.tokenize(["draw <imagehere>"], [None], [[DOG]])
        with pytest.raises(ValueError, match="has room for 4 picture tokens and got 0"):
            reader.encode_text(tokens, None)
        with pytest.raises(ValueError, match="has room for 0 picture tokens and got 4"):
            reader.encode_text(TokenBatch(tokens.input_ids, tokens.attention_mask), torch.zeros(1, 4, 32))

    def test_checkpointing_gives_the_same_gradients(self, reader):
        tokens = reader.tokenize(["draw <imagehere>"], [None], [[DOG]])

        def gradient() -> torch.Tensor:
            reader.zero_grad()
            reader.text_encoder.train()
            for module in reader.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            states = reader.encode_text(tokens, reader.encode_images(tokens.pixel_values))
            (states * torch.arange(32.0)).sum().backward()
            return reader.picture_encoder.query_tokens.grad.clone()

        plain = gradient()
        reader.enable_gradient_checkpointing()
        torch.testing.assert_close(gradient(), plain)
        reader.eval()


class TestLoading:
    def test_a_stock_blip2_loads_without_its_language_model(self):
        folder = resolve_model_id("miniature:tiny/blip2")
        stock = Blip2ForConditionalGeneration.from_pretrained(folder).state_dict()
        ours = Blip2PictureEncoder.from_stock(folder).state_dict()
        assert set(ours) == {name for name in stock if not name.startswith("language_model.")}
        assert all(torch.equal(value, stock[name]) for name, value in ours.items())

    def test_the_encoder_of_a_whole_t5_is_taken(self, tmp_path):
        folder = resolve_model_id("miniature:tiny/t5")
        whole = T5ForConditionalGeneration(T5Config.from_pretrained(folder))
        whole.save_pretrained(tmp_path)
        AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
        reader = Blip2T5Comprehension.from_pretrained(
            resolve_model_id("miniature:tiny/blip2"), str(tmp_path), resolution=32, max_length=64
        )
        expected = whole.encoder.state_dict()
        ours = reader.text_encoder.encoder.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in ours.items())

    def test_widths_have_to_fit(self, tmp_path):
        folder = resolve_model_id("miniature:tiny/t5")
        config = T5Config.from_pretrained(folder, d_model=64)
        T5ForConditionalGeneration(config).save_pretrained(tmp_path)
        AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="projects its tokens to width 32, the text encoder reads width 64"):
            Blip2T5Comprehension.from_pretrained(
                resolve_model_id("miniature:tiny/blip2"), str(tmp_path), resolution=32
            )

    def test_a_blip2_that_is_not_whole_is_refused(self, tmp_path):
        from safetensors.torch import load_file, save_file

        shutil.copytree(resolve_model_id("miniature:tiny/blip2"), tmp_path / "blip2")
        weights = load_file(tmp_path / "blip2" / "model.safetensors")
        del weights["query_tokens"]
        save_file(weights, tmp_path / "blip2" / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(
            ValueError, match="lacks 1 weights of a Blip2PictureEncoder, e.g. query_tokens, which would be random"
        ):
            Blip2PictureEncoder.from_stock(str(tmp_path / "blip2"))

    def test_full_size_is_blip2s(self):
        """EVA ViT-g of depth 39 and width 1408, and a Q-Former of 12 layers with 32 queries."""
        with torch.device("meta"):
            config = Blip2Config(text_config=T5Config(d_model=4096), num_query_tokens=32)
            encoder = Blip2PictureEncoder(config)
        assert isinstance(config.qformer_config, Blip2QFormerConfig)
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in encoder.named_children()}
        assert counts["vision_model"] == pytest.approx(986e6, rel=0.005)
        assert counts["qformer"] == pytest.approx(105e6, rel=0.005)
        assert encoder.query_tokens.shape == (1, 32, 768)
        assert encoder.language_projection.weight.shape == (4096, 768)
        crossing = [i for i, layer in enumerate(encoder.qformer.encoder.layer) if layer.has_cross_attention]
        assert crossing == [0, 2, 4, 6, 8, 10]
