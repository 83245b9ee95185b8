"""Answers of language models: what is read of broken ones, what is asked again, what is said about them."""

from __future__ import annotations

import json

import pytest

from data_recipes.backends.base import Question
from data_recipes.steps.asking import AGAIN, UnusableError, ask_all, bare, read_form, read_instructions, read_text
from data_recipes.steps.captions import ObjectList
from tests.recipes.stand_ins import Script

GOOD = {"object_list": [{"category": "dog", "obj_simple_caption": "red dog", "obj_detailed_caption": "a red dog"}]}
TEXT = json.dumps(GOOD)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}",
        f"Sure! Here is the list:\n{TEXT}\nAnything else?",
        f"<think>{{not this}}</think>{TEXT}",
        str(GOOD),
        TEXT[:-1] + ', "img_caption": "x"}',
    ],
    ids=["plain", "fence", "open fence", "chatter", "thoughts", "single quotes", "more keys"],
)
def test_a_list_is_read_however_it_is_wrapped(text):
    (one,) = read_form(text, ObjectList).object_list
    assert (one.category, one.obj_simple_caption, one.obj_detailed_caption) == ("dog", "red dog", "a red dog")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the answer is empty"),
        ("  \n", "the answer is empty"),
        ("I cannot see a picture.", "the answer holds no JSON object"),
        ('["dog"]', "the answer holds no JSON object"),
        ('{"object_list": [}', "the answer is not JSON"),
        ('{"object_list": [{"category": "dog"', "the answer holds no JSON object"),
        ("<think>the dog", "the answer ends within its thoughts"),
        ('{"objects": []}', "object_list: field required"),
        ('{"object_list": "dog"}', "object_list: input should be a valid list"),
        ('{"object_list": ["dog"]}', "object_list.0: input should be"),
        (TEXT.replace('"red dog"', "7"), "object_list.0.obj_simple_caption: input should be a valid string"),
        (TEXT.replace('"red dog"', '""'), "object_list.0.obj_simple_caption: string should have at least 1"),
        (TEXT.replace('"red dog"', '"  "'), "object_list.0.obj_simple_caption: string should have at least 1"),
    ],
)
def test_unusable_answers_are_refused_with_the_reason(text, why):
    with pytest.raises(UnusableError) as caught:
        read_form(text, ObjectList)
    assert str(caught.value).startswith(why)


def test_plain_words_come_on_one_line():
    assert read_text(' "A dog\n stands here." ') == "A dog stands here."
    for text, why in (
        ("", "the answer is empty"),
        (" ... ", "the answer is empty"),
        ("<think>a</think> ", "the answer is empty"),
        ('{"caption": "A dog."}', "the answer is not plain text"),
        ("I'm sorry, but I cannot see a picture.", "the model declines"),
        ("As an AI, I have no eyes.", "the model declines"),
    ):
        with pytest.raises(UnusableError, match=why):
            read_text(text)


def test_instructions_are_counted_and_measured():
    text = '{"instructions": ["swap  the dog for a fox", "another", "a third"]}'
    assert read_instructions(text, 2, 10) == ("swap the dog for a fox", "another")
    for given, why in (
        ((text, 4, 10), "there are 3 instructions, not 4"),
        ((text, 1, 5), "an instruction has 6 words, more than 5"),
        (('{"instructions": [" . "]}', 1, 5), "an instruction is empty"),
        (('{"instructions": []}', 1, 5), "instructions: list should have at least 1 item"),
    ):
        with pytest.raises(UnusableError) as caught:
            read_instructions(*given)
        assert str(caught.value).startswith(why)


def test_instructions_have_to_name_what_they_are_about():
    text = '{"instructions": ["swap the Dog for a fox"]}'
    assert read_instructions(text, 1, 10, ("a dog", "fox"))
    with pytest.raises(UnusableError, match="an instruction does not name 'cat'"):
        read_instructions(text, 1, 10, ("the cat",))


def test_articles_are_taken_off():
    assert [bare(words) for words in ("the dog", "A dog", "an  apple", "theatre", "dog")] == [
        "dog", "dog", "apple", "theatre", "dog",
    ]  # fmt: skip


def test_only_unusable_answers_are_asked_for_again_with_what_was_wrong():
    chat = Script(caption=["", "good", "..."])
    questions = [Question(prompt, task="caption") for prompt in ("first", "second")]
    answers = ask_all(chat, [(question, read_text) for question in questions], 3)
    assert isinstance(answers[0], UnusableError) and [str(one) for one in answers] == ["the answer is empty", "good"]
    assert [(q.prompt, q.attempt) for q in chat.asked] == [
        ("first", 0),
        ("second", 0),
        (f"first\n\n{AGAIN.format(fault='the answer is empty')}", 1),
        (f"first\n\n{AGAIN.format(fault='the answer is empty')}", 2),
    ]


def test_nothing_is_asked_without_questions():
    chat = Script()
    assert ask_all(chat, [], 3) == []
    assert chat.asked == []
