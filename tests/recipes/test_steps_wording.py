"""Wordings: the published templates, what models write, and what becomes of what they should not write."""

from __future__ import annotations

import json
from itertools import count

import numpy as np
import pytest

from data_recipes.oracle.world import world_of
from data_recipes.runner.records import Record
from data_recipes.steps.wording import ADVANCED_TEMPLATES, KINDS, PROMPTS, SIMPLE_TEMPLATES, TEMPLATES, Wording
from tests.recipes.stand_ins import Script, only, oracles, photo, run

PICTURE = np.zeros((32, 32, 3), np.uint8)


def pair(task="replace", **changes):
    told = {
        "key": "7/0-x",
        "task": task,
        "source": PICTURE,
        "target": PICTURE,
        "class_origin": "" if task == "add" else "blue teapot",
        "class_target": "" if task == "remove" else "brass lantern",
        "detailed_origin": "" if task == "add" else "A blue enamel teapot on the windowsill.",
        "detailed_target": "" if task == "remove" else "a small brass lantern on the windowsill",
    }
    return Record(**{**told, **changes})


def answer(*texts):
    return json.dumps({"instructions": texts})


PLAIN = Wording(by_chat=False, kinds=["simple", "advanced"])
CHAT = {
    "simple": answer("swap the blue teapot for a brass lantern"),
    "advanced": answer("let a small brass lantern stand on the windowsill"),
    "reasoning": answer("What pours tea? Replace it.", "Make the vessel a source of light."),
}


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("remove", "remove the blue teapot"),
        ("add", "add the brass lantern"),
        ("replace", "replace the blue teapot with the brass lantern"),
    ],
)
def test_the_first_wording_is_the_published_template(task, text):
    found = only(run(PLAIN, [pair(task)], {}))
    assert found.instructions["template"] == (text,)
    assert found.wordings[0] == text


def test_templates_without_a_model():
    found = only(run(PLAIN, [pair()], {}))
    words = {"origin": "blue teapot", "target": "brass lantern"}
    long = {"origin": "blue enamel teapot on the windowsill", "target": "small brass lantern on the windowsill"}
    assert found.instructions["simple"][0] in {one.format(**words) for one in SIMPLE_TEMPLATES["replace"]}
    assert found.instructions["advanced"][0] in {one.format(**long) for one in ADVANCED_TEMPLATES["replace"]}
    assert PLAIN.needs == ()
    assert PLAIN.prompts == {}


def test_templates_vary_with_key_and_seed_only():
    def simple(key, seed=0):
        return only(run(PLAIN, [pair(key=key)], {}, seed)).instructions["simple"]

    drawn = {simple(f"{number}/0-x") for number in range(40)}
    assert len(drawn) == len(SIMPLE_TEMPLATES["replace"])
    assert simple("3/0-x") == simple("3/0-x")
    assert len({simple("3/0-x", seed) for seed in range(20)}) > 1


def test_articles_of_captions_do_not_stand_twice():
    found = only(run(PLAIN, [pair("remove", class_origin="the blue teapot")], {}))
    assert found.wordings[0] == "remove the blue teapot"


def test_without_detailed_captions_the_simple_ones_are_used():
    found = only(run(PLAIN, [pair("remove", detailed_origin="")], {}))
    assert "blue teapot" in found.instructions["advanced"][0]


def test_the_model_writes_every_kind():
    chat = Script(**CHAT)
    found = only(run(Wording(), [pair()], {"chat": chat}))
    assert list(found.instructions) == ["template", "simple", "advanced", "reasoning"]
    assert found.instructions["simple"][1] == "swap the blue teapot for a brass lantern"
    assert found.instructions["reasoning"] == ("What pours tea? Replace it.", "Make the vessel a source of light.")
    asked = {question.task: question for question in chat.asked}
    assert "replace the blue teapot with the brass lantern" in asked["simple"].prompt
    assert "What is edited: A blue enamel teapot on the windowsill." in asked["advanced"].prompt
    assert '{"instructions": ["...", "..."]}' in asked["reasoning"].prompt
    assert len(asked["reasoning"].pictures) == 1
    assert not asked["simple"].pictures
    assert asked["reasoning"].about["task"] == "replace"


def test_the_same_words_stand_once():
    same = only(run(PLAIN, [pair("remove")], {})).instructions["simple"][0]
    found = only(run(Wording(kinds=["simple"]), [pair("remove")], {"chat": Script(simple=answer(same))}))
    assert found.instructions["simple"] == (same,)


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("simple", answer("swap the pot for a lamp"), "an instruction does not name 'blue teapot'"),
        ("simple", answer(), "instructions: list should have at least 1 item"),
        ("advanced", answer("word " * 70), "an instruction has 70 words, more than 60"),
        ("reasoning", answer("one"), "there are 1 instructions, not 2"),
        ("reasoning", "```json\n[1]\n```", "the answer holds no JSON object"),
    ],
)
def test_what_a_model_should_not_write(kind, text, why):
    chat = Script(**{**CHAT, kind: text})
    kept = only(run(Wording(attempts=2), [pair()], {"chat": chat}))
    assert kept.notes["wordings_missing"] == [kind]
    assert len(kept.instructions.get(kind, ())) == (0 if kind == "reasoning" else 1)
    assert [question.task for question in chat.asked].count(kind) == 2
    refused = only(run(Wording(attempts=2, on_failure="reject"), [pair()], {"chat": chat}))
    assert (refused.step, refused.reason) == ("wording", f"no usable {kind} wording")
    assert refused.detail.startswith(why)


def test_what_has_no_template_is_refused_beside_others():
    backends = {"chat": Script(**CHAT)}
    first, second, third = run(Wording(), [pair(task="recolour"), pair(), photo(0)], backends)
    assert (first.reason, first.detail) == ("no wording for the task", "recolour")
    assert second.wordings
    assert (third.reason, third.detail) == ("no wording for the task", "no pair")


def test_prompts_are_told_for_the_kinds_that_are_written():
    assert set(Wording(kinds=["advanced"]).prompts) == {"advanced"}
    assert set(PROMPTS) == set(KINDS)
    assert Wording().needs == ("chat",)
    assert json.loads(json.dumps(Wording().settings))["kinds"] == list(KINDS)
    assert set(TEMPLATES) == set(SIMPLE_TEMPLATES) == set(ADVANCED_TEMPLATES)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"kinds": ["short"]}, "steps.wording.kinds has 'short': choose of simple, advanced, reasoning."),
        ({"on_failure": "stop"}, "steps.wording.on_failure is 'stop': choose keep or reject."),
        ({"max_words": 0}, "steps.wording.max_words is 0: it has to be at least 1."),
        ({"attempts": 0}, "steps.wording.attempts is 0"),
        ({"by_chat": False}, "kinds has reasoning and by_chat is false: only a language model can write it; take"),
    ],
)
def test_wrong_settings_are_told(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        Wording(**setting)


def test_oracle_writes_all_kinds():
    shown = (world_of(photo(number).truth) for number in count())  # one without anything that is beaten
    truth = next(photo(n).truth for n, world in enumerate(shown) if not world.find("drum"))
    record = pair("remove", class_origin="drum", detailed_origin="a small drum at the top left", truth=truth)
    found = only(run(Wording(), [record], oracles()))
    assert found.instructions["reasoning"] == (
        "What is at the top left? Remove it.",
        "Find the thing you beat and take it out of the picture.",
    )
