"""MGIE's expressive instructions: asked, cut, summarised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from data_recipes.backends.base import Question, load_backend
from data_recipes.backends.chat import Seq2SeqSummariser
from data_recipes.mgie_expressive import SUMMARY_PROMPT, Describe, Summarise, cut_answer
from data_recipes.runner.records import Record, Rejected
from data_recipes.runner.steps import Context
from tests.recipes.recipe_runs import oracles, run_steps, same_records, scenes, world
from tests.recipes.test_recipe_mige_addition import Said

RECIPE = "mgie_expressive"


def test_every_pair_gets_the_scenes_own_expressive_instruction():
    pairs = [pair.but(instructions={"simple": pair.wordings[:1]}) for pair in scenes("scene_pairs", 10)]
    records, rejected = run_steps(RECIPE, pairs)
    assert len(records) == 10 and not rejected
    for record, pair in zip(records, pairs, strict=True):
        sample = world(record).sample
        assert record.instructions["expressive"] == (sample.expressive_instruction,)
        assert record.instructions["simple"] == pair.instructions["simple"]
        assert sample.expressive_instruction in record.notes["description"]
        assert np.array_equal(record.source, pair.source) and record.key == pair.key
    assert same_records(records, run_steps(RECIPE, pairs, batch=1)[0])


def pair(**changed: Any) -> Record:
    grey = np.full((30, 40, 3), 9, dtype=np.uint8)
    given = {
        "task": "edit",
        "source": grey,
        "target": grey + 1,
        "instructions": {"simple": ("make it  night",)},
        **changed,
    }
    return Record("a", **given)


def asked(step: Any, record: Record, backend: Any) -> Any:
    return step([record], Context(0, step.name, dict.fromkeys(step.needs, backend)))[0][0]


def test_the_texts_are_those_of_the_command_line():
    long = "The sky is dark. Stars are seen. A moon, too."
    chat = Said("Alternatively, no.", long)
    found = asked(Describe(), pair(), chat)
    question = "What will the picture look like after this edit: make it night (in a short paragraph)"
    assert chat.asked[0].prompt == question and len(chat.asked) == 2
    assert chat.asked[1].prompt.startswith(question)
    assert found.notes["description"] == cut_answer(long) == "The sky is dark. Stars are seen."
    summariser = Said(" a dark\nsky ")
    done = asked(Summarise(), found, summariser)
    assert done.instructions == {"simple": ("make it  night",), "expressive": ("a dark sky",)}
    assert summariser.asked[0].prompt == SUMMARY_PROMPT.format(text=found.notes["description"])
    assert Describe().prompts["describe_edit"].endswith("(in a short paragraph)")


def test_what_gives_no_text_is_refused():
    for changed in ({"source": None}, {"target": None}, {"instructions": {}}):
        found = asked(Describe(), pair(**changed), Said())
        assert found == Rejected("a", "describe", "is no pair with a source and an instruction")
    found = asked(Describe(), pair(), Said("", "Alternative: no."))
    told = "the answer holds no sentence"
    assert found == Rejected("a", "describe", "no sentence is left of the answer", told)
    assert asked(Summarise(), pair(), Said()) == Rejected("a", "summarise", "has no description")
    found = asked(Summarise(), pair(notes={"description": "Dark."}), Said("", " "))
    assert found == Rejected("a", "summarise", "the summariser wrote nothing", "the answer is empty")


def test_settings_out_of_range():
    for step in (Describe, Summarise):
        with pytest.raises(ValueError, match="attempts is 0"):
            step(attempts=0)
    with pytest.raises(ValueError, match="dtype is 'half'"):
        Seq2SeqSummariser("m", dtype="half")
    with pytest.raises(ValueError, match="batch_size is 0"):
        Seq2SeqSummariser("m", batch_size=0)


@pytest.fixture(scope="module")
def flan(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny T5 with random weights."""
    folder = tmp_path_factory.mktemp("models") / "flan"
    words = ["<pad>", "</s>", "<unk>", "the", "sky", "is", "dark", "a", "moon", "rises", "stars"]
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def test_the_published_kind_of_summariser(flan: str):
    made = load_backend("summariser", {"kind": "seq2seq", "model": flan, "device": "cpu", "batch_size": 2})
    texts = ["the sky is dark", "a moon rises", "stars"]
    questions = [Question(SUMMARY_PROMPT.format(text=t), (), "summarise", {"text": t}) for t in texts]
    summaries = made.answer(questions)
    assert summaries == [*made.answer(questions[:2]), *made.answer(questions[2:])] and all(summaries)
    assert (made.name, made.settings) == (Path(flan).name, {"dtype": "auto"})
    assert made.usage.calls == made.usage.asked == 6
    with pytest.raises(ValueError, match="a summariser was asked for 'caption': it only shortens texts"):
        made.answer([Question("what?", (), "caption")])
    assert oracles()["summariser"].name == "oracle"
