"""A language model of transformers on this machine: batches, pictures, and models that only read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data_recipes.backends.base import Question
from data_recipes.backends.chat import LocalChat
from insightedit.chat.local import quantized

TEMPLATE = "{% for m in messages %}<s> {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}says{% endif %}"
WORDS = ["says", "a", "red", "dog", "sits", "on", "the", "grass", "what", "is", "it", "there", "cat", "and", "blue"]


SEEING = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


@pytest.fixture(scope="module")
def llava(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalChat:
    """The tiny LLaVA, with a chat template as LLaVA-1.5 has one."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llava"
    shutil.copytree(tiny_root / "llava", folder)
    (folder / "chat_template.jinja").write_text(SEEING)
    return LocalChat(str(folder), device="cpu", max_new_tokens=6, batch_size=3)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny Llama with random weights and a chat template; it has no padding token."""
    folder = tmp_path_factory.mktemp("llama")
    vocabulary = {word: number for number, word in enumerate(["<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=TEMPLATE
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=1.0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def picture(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_batch_answers_as_single_questions_do(llava: LocalChat):
    questions = [
        Question("what is this?", (picture(0),)),
        Question("what is it, and what stands beside it at the left?"),
        Question("say what you see in this photo and where it stands", (picture(1, 50, 20),)),
        Question("is it?", (picture(2),)),
        Question("which of the two?", (picture(3), picture(4))),
        Question("x", (picture(0),)),
    ]
    before = llava.usage
    together = llava.answer(questions)
    assert together == [llava.answer([question])[0] for question in questions]
    assert len(set(together)) > 2, "answers depend on questions and pictures"
    other = Question("what is this?", (picture(9),))
    assert len({*llava.answer([questions[0], other, questions[5]])}) > 1
    used = llava.usage
    assert used.calls - before.calls == used.asked - before.asked == 15
    assert used.output_tokens > 0 and used.input_tokens > used.output_tokens
    assert used.cost == 0.0 and used.seconds > before.seconds


def test_its_name_and_settings_are_known_before_it_is_loaded():
    model = LocalChat("org/model", revision="abc", quantization="4bit", max_new_tokens=9)
    assert model.name == "org/model@abc"
    assert model.settings == {"dtype": "auto", "quantization": "4bit", "max_new_tokens": 9}
    assert model.answer([]) == [] and model.usage.calls == 0


def test_a_model_that_only_reads(reader: str):
    model = LocalChat(reader, device="cpu", max_new_tokens=5, batch_size=2)
    questions = [Question("what is it"), Question("the red dog sits on the grass what is there"), Question("a")]
    answers = model.answer(questions)
    assert answers == [model.answer([question])[0] for question in questions] and len(set(answers)) == 3

    loaded = LlamaForCausalLM.from_pretrained(reader)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(reader)
    ids = tokenizer("<s> what is it says", return_tensors="pt").input_ids
    assert ids.tolist() == [[0, *(3 + WORDS.index(word) for word in ["what", "is", "it", "says"])]]
    written = loaded.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=1)[0, ids.shape[1] :]
    assert answers[0] == tokenizer.decode(written, skip_special_tokens=True).strip() != ""
    assert model.name == Path(reader).name
    with pytest.raises(ValueError, match=r"reads text only, and a question \('what is it'\) shows it a picture"):
        model.answer([Question("what is it", (picture(0),), task="caption")])


def test_tokens_are_counted_up_to_the_end_of_each_answer(reader: str):
    model = LocalChat(reader, device="cpu", max_new_tokens=7, batch_size=1)
    for prompt in ("what is it", "a", "blue cat"):
        before = model.usage
        model.answer([Question(prompt)])
        used = model.usage
        assert used.input_tokens - before.input_tokens == 2 + len(prompt.split())
        assert 1 <= used.output_tokens - before.output_tokens <= 7


def test_a_quantised_model_answers(reader: str):
    model = LocalChat(reader, device="cpu", quantization="4bit", max_new_tokens=3)
    assert len(model.answer([Question("what is it"), Question("a")])) == 2
    linear = model.client.model.model.layers[0].mlp.up_proj
    assert type(linear).__name__ == "Linear4bit" and type(model.client.model.lm_head).__name__ == "Linear"


def test_what_bitsandbytes_is_told():
    assert quantized("none", torch.device("cpu"), torch.float32) == {}
    four = quantized("4bit", torch.device("cpu"), torch.float32)["quantization_config"]
    eight = quantized("8bit", torch.device("cpu"), torch.float32)["quantization_config"]
    assert four.load_in_4bit and four.bnb_4bit_quant_type == "nf4" and eight.load_in_8bit


def test_a_model_without_a_chat_template(reader: str, tmp_path: Path):
    PreTrainedTokenizerFast.from_pretrained(reader, chat_template=None).save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    LlamaConfig.from_pretrained(reader).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no chat template: take a model that follows instructions"):
        LocalChat(str(tmp_path), device="cpu").answer([Question("a")])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"dtype": "float8"}, "dtype is 'float8': choose one of auto, float32, float16, bfloat16"),
        ({"quantization": "2bit"}, "quantization is '2bit': choose one of none, 4bit, 8bit"),
        ({"batch_size": 0}, "batch_size is 0: give a number above 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0: give a number above 0"),
    ],
)
def test_settings_out_of_range(wrong: dict, told: str):
    with pytest.raises(ValueError, match=told):
        LocalChat("m", **wrong)


def test_a_device_that_is_not_there(reader: str):
    with pytest.raises(ValueError, match="`device` 'gpu' is no device: use cpu"):
        LocalChat(reader, device="gpu").answer([Question("a")])
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="`device` cuda:9 is not there on this machine"):
            LocalChat(reader, device="cuda:9").answer([Question("a")])
