from __future__ import annotations

import pytest

from insightedit.comprehension.prompts import (
    CAPTION_TEMPLATES,
    EDIT_TEMPLATES,
    TEMPLATE_SETS,
    all_template_texts,
    caption_turn,
    chat_turn,
    edit_turn,
    question_turn,
)


@pytest.mark.parametrize("templates", [EDIT_TEMPLATES, CAPTION_TEMPLATES])
def test_ten_different_templates_with_one_slot_each(templates: tuple[tuple[str, str], ...]) -> None:
    assert len(set(templates)) >= 10
    assert all(user.count("{instruction}") == 1 and answer for user, answer in templates)


@pytest.mark.parametrize("templates", [TEMPLATE_SETS["thirty"].edits, TEMPLATE_SETS["thirty"].captions])
def test_thirty_different_templates_as_smartedit_has(templates: tuple[tuple[str, str], ...]) -> None:
    assert len({user for user, _ in templates}) == len(templates) == 30
    assert all(user.count("{instruction}") == 1 and answer for user, answer in templates)


def test_all_sets_say_the_same_at_inference() -> None:
    assert {chosen.edits[0] for chosen in TEMPLATE_SETS.values()} == {EDIT_TEMPLATES[0]}
    assert {chosen.captions[0] for chosen in TEMPLATE_SETS.values()} == {CAPTION_TEMPLATES[0]}


def test_a_chat_draws_nothing() -> None:
    turn = chat_turn("What is it?", "A dog.")
    assert not turn.draws
    assert turn.prompt + turn.reply == "USER: <image>\nWhat is it? ASSISTANT: A dog."
    assert edit_turn("x").draws


def test_template_0_is_the_plain_question() -> None:
    turn = edit_turn("Remove the dog.")
    assert turn.prompt == "USER: <image>\nRemove the dog. ASSISTANT:"
    assert turn.reply == " The edited picture:"
    assert turn.prompt == question_turn("Remove the dog.").prompt


def test_templates_follow_the_index() -> None:
    assert edit_turn("x", 3) == edit_turn("x", 3 + len(EDIT_TEMPLATES)) != edit_turn("x", 4)
    assert len({edit_turn("x", i).prompt for i in range(len(EDIT_TEMPLATES))}) == len(EDIT_TEMPLATES)


def test_text_only_turns_have_no_placeholder() -> None:
    turns = [edit_turn("x", has_image=False), caption_turn("x"), question_turn("x", has_image=False)]
    assert not any("<image>" in turn.prompt for turn in turns)


def test_a_reply_replaces_the_templates_answer() -> None:
    assert edit_turn("x", reply="The dog goes.").reply == " The dog goes."
    assert caption_turn("x", reply="").reply == ""


def test_braces_in_an_instruction_are_text() -> None:
    assert edit_turn("draw {instruction} {0}").prompt == "USER: <image>\ndraw {instruction} {0} ASSISTANT:"


def test_all_template_texts_are_every_question_and_answer() -> None:
    texts = all_template_texts()
    assert len(texts) == len(EDIT_TEMPLATES) + len(CAPTION_TEMPLATES)
    assert all(text.startswith("USER:") and "ASSISTANT:" in text and "{" not in text for text in texts)
