"""Replies in all the shapes that judges give them, and the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from insightedit.chat.replies import Reply, ReplyKey, ReplyStore
from insightedit.chat.scores import Missing, Parsed, Scale, parse_reply

TWO = Scale(("success", "restraint"))
ONE = Scale(("success",))
RECORDED = [json.loads(line) for line in (Path(__file__).parent / "replies.jsonl").read_text("utf-8").splitlines()]
SETTINGS = {"temperature": 0.0}


def test_there_are_25_recorded_replies() -> None:
    assert len(RECORDED) == 25 and len({one["text"] for one in RECORDED}) == 25


@pytest.mark.parametrize("recorded", RECORDED, ids=[one["name"] for one in RECORDED])
def test_recorded_reply(recorded: dict) -> None:
    parsed = parse_reply(recorded["text"], TWO)
    assert parsed.scores == (None if recorded["scores"] is None else tuple(recorded["scores"]))
    assert parsed.missing == recorded["missing"]


@pytest.mark.parametrize(
    ("text", "scale", "reason", "expected"),
    [
        ("7", ONE, "", (7.0,)),
        ('{"score": 7}', ONE, "", (7.0,)),
        ("0", Scale(("a",), 1, 5), "", Missing.OUT_OF_RANGE),
        ("[1, 5]", Scale(("a", "b"), 1, 5), "", (1.0, 5.0)),
        ("[1, 6]", Scale(("a", "b"), 1, 5), "", Missing.OUT_OF_RANGE),
        ("[8, 7]", TWO, "content_filter", Missing.REFUSAL),
        ("I can't assist with that.", TWO, "refusal", Missing.REFUSAL),
        ("", TWO, "length", Missing.TRUNCATED),
        ("<think>hmm, [8, 7] or", TWO, "length", Missing.TRUNCATED),
        ("The picture shows", TWO, "length", Missing.TRUNCATED),
        ("8/10 and 7/10", TWO, "stop", Missing.NO_SCORES),
        ('{"score": [8, 7]} and so on, cut', TWO, "length", (8.0, 7.0)),
        ("||V^=^V||[8, 7]||V^=^V|| or ||V^=^V||[1, 2]", TWO, "", (8.0, 7.0)),  # the last is not closed
        ('{"score": [8, 7], "score": [1, 1]}', TWO, "", Missing.MALFORMED),
        ('{"score": [NaN, 7]}', TWO, "", Missing.MALFORMED),
        ('{"score": [[8], [7]]}', TWO, "", Missing.NOT_NUMBERS),
        ('{"score": null}', TWO, "", Missing.NOT_NUMBERS),
        ('"[8, 7]"', TWO, "", Missing.NOT_NUMBERS),
        ("{'score': {8, 7}}", TWO, "", Missing.NOT_NUMBERS),
        ("{'score': [8, 7], 'reasoning': 'a\\d'}", TWO, "", Missing.MALFORMED),
        ("[" * 5000 + "'" + "]" * 5000, TWO, "", Missing.NO_SCORES),
        ('```\n{"score": [8, 7]}\n``` or ```\n[8, 7]\n```', TWO, "", (8.0, 7.0)),
        ('```\n{"score": [8, 7]}\n``` or ```\n[11, 7]\n```', TWO, "", Missing.AMBIGUOUS),
    ],
)
def test_other_scales_and_finish_reasons(text: str, scale: Scale, reason: str, expected: object) -> None:
    parsed = parse_reply(text, scale, finish_reason=reason)
    assert (parsed.missing if parsed.scores is None else parsed.scores) == expected


HONEST = [
    "Unfortunately, I see no change between the two pictures.",
    "Unfortunately I cannot see any edit.",
    "Unfortunately, I can't judge this edit a success: the cat is still there.",
    "Sorry state of the edit: the cat remains.",
    "Sorry-looking dog stays; no edit.",
    "Sorry, but the instruction was ignored.",
    "I'm sorry to say that nothing changed.",
    "I am sorry, the fish is still there.",
    "I cannot see any change.",
    "I cannot see the cat that was asked for.",
    "I can't find a difference.",
    "I cannot rate this edit above the lowest score.",
    "I cannot rate this higher, for nothing was removed.",
    "I can't score it highly.",
    "I am unable to detect the requested object.",
    "I will not call this an edit.",
    "I cannot help but notice the edited artefacts.",
    "As an AI-made picture it fails.",
    "My apologies to the editor, but this is a copy.",
    "No, the picture is unable to load the mind with anything new.",
]
REFUSING = [
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, I cannot help with that request.",
    "Sorry, I can't evaluate images of people.",
    "I am sorry, but I am unable to process these images.",
    "Unfortunately, I cannot view the images.",
    "Unfortunately, I am not able to access the pictures.",
    "I cannot evaluate these images because they did not load.",
    "I can't comply.",
    "I won't rate this content.",
    "As an AI language model, I cannot judge pictures of people.",
    "My apologies, but I cannot open the files.",
    "I'm not able to see the images.",
]


@pytest.mark.parametrize("scores", [(0, 0), (0, 9), (2, 9)])
@pytest.mark.parametrize("reasoning", HONEST)
def test_honest_low_scores_count_whatever_their_tone(reasoning: str, scores: tuple[int, int]) -> None:
    text = json.dumps({"score": scores, "reasoning": reasoning})
    assert parse_reply(text, TWO) == Parsed(scores, None, reasoning)


@pytest.mark.parametrize("reasoning", REFUSING)
def test_lowest_scores_of_a_judge_that_cannot_judge_are_a_refusal(reasoning: str) -> None:
    filled, judged = (json.dumps({"score": s, "reasoning": reasoning}) for s in ([0, 0], [3, 9]))
    assert parse_reply(filled, TWO) == Parsed(None, Missing.REFUSAL, reasoning)
    assert parse_reply(judged, TWO).scores == (3, 9)
    assert parse_reply(json.dumps({"score": [1, 1], "reasoning": reasoning}), Scale(("a", "b"), 1, 5)).scores is None
    assert parse_reply(reasoning, TWO).missing == Missing.REFUSAL


def test_reasoning_is_kept_whatever_it_is() -> None:
    assert parse_reply('{"score": [8, 7], "reasoning": "good"}', TWO).reasoning == "good"
    assert parse_reply('{"score": [8, 7], "reasoning": ["a", "b"]}', TWO).reasoning == '["a", "b"]'
    assert parse_reply('{"score": [8], "reasoning": "half"}', TWO).reasoning == "half"


def picture(colour: str = "red", size: tuple[int, int] = (3, 2)) -> Image.Image:
    return Image.new("RGB", size, colour)


def key(**changed: object) -> ReplyKey:
    fields = {"model": "m", "prompt": "p", "pictures": [picture(), picture("blue")]}
    return ReplyKey.of(**{**fields, **changed})  # type: ignore[arg-type]


def test_a_key_depends_on_model_prompt_pictures_repeat_and_attempt() -> None:
    others = [
        key(model="n"),
        key(prompt="q"),
        key(pictures=[picture("blue"), picture()]),
        key(pictures=[picture()]),
        key(pictures=[picture(), picture("blue", (2, 3))]),
        key(repeat=1),
        key(attempt=1),
    ]
    assert len({one.hash for one in [key(), *others]}) == 1 + len(others)
    assert key() == key() and key().hash == key().hash
    with pytest.raises(ValueError, match="a judge was given a picture of mode RGBA: convert it to RGB first"):
        key(pictures=[Image.new("RGBA", (2, 2))])


def test_a_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "made" / "replies.jsonl"
    store = ReplyStore(path)
    assert len(store) == 0 and store.settings("m") is None and not path.exists()
    reply = Reply('{"score": [8, 7]}\nzwölf', "stop", 900, 20, "2026-01-02T03:04:05+00:00")
    assert store.add(key(), reply, settings=SETTINGS) == reply
    assert store.add(key(), Reply("another"), settings=SETTINGS) == reply  # the first one counts
    store.add(key(repeat=1), Reply("again"), settings=SETTINGS)
    for one in (store, ReplyStore(path)):
        assert len(one) == 2 and one.get(key()) == reply and one.get(key(repeat=2)) is None
        assert one.settings("m") == SETTINGS
    assert len(path.read_text("utf-8").splitlines()) == 2
    assert "2 replies" in repr(store)


def test_a_cut_line_is_not_read_and_goes_with_the_next_reply(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    ReplyStore(path).add(key(), Reply("one"), settings=SETTINGS)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    store = ReplyStore(path)
    assert len(store) == 1 and path.stat().st_size > len(whole)  # reading changes nothing
    store.add(key(repeat=1), Reply("two"), settings=SETTINGS)
    assert path.read_bytes().startswith(whole) and len(ReplyStore(path)) == 2


def test_damaged_stores_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    ReplyStore(path).add(key(), Reply("one"), settings=SETTINGS)
    line = path.read_text("utf-8")
    for damaged, reason in [
        (line + "{}\n", "jsonl:2 is no stored reply"),
        (line + line, "jsonl:2 is no stored reply .replies.jsonl holds a reply of m to this question already"),
        (line.replace('"repeat":0', '"repeat":1'), "jsonl:1 is no stored reply .its key does not belong"),
    ]:
        path.write_text(damaged, "utf-8")
        with pytest.raises(ValueError, match=reason):
            ReplyStore(path)


def test_settings_of_a_judge_stay_the_same(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "replies.jsonl")
    store.add(key(), Reply("one"), settings=SETTINGS)
    store.add(key(model="other"), Reply("one"), settings={"temperature": 1.0})
    with pytest.raises(
        ValueError, match="begun with other settings of m: temperature was 0.0, is 0.7. Use the old ones"
    ):
        store.add(key(repeat=1), Reply("two"), settings={"temperature": 0.7})
    assert len(ReplyStore(store.path)) == 2
