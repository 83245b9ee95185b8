"""From replies to numbers: rubrics, retries, averages worked out by hand."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from insightedit.chat.clients import ChatClient, ChatError, EndpointClient, RecordedClient, RecordingClient
from insightedit.chat.replies import Reply, ReplyStore
from insightedit.chat.rubrics import IMGEDIT_TYPES, RUBRICS, Rubric, RubricQuestion
from insightedit.evaluation.judge.viescore import ColumnMean, Verdict, judge_edit, summarise
from tests.evaluation.judge.chat_server import ChatServer, completion

VIESCORE, GEDIT, INSIGHTEDIT, IMGEDIT = (RUBRICS[n] for n in ("viescore", "gedit", "insightedit", "imgedit"))
SOURCE, EDITED = Image.new("RGB", (60, 40), "white"), Image.new("RGB", (30, 20), "green")


class Scripted:
    """A judge that says what it was told to, one reply after the other."""

    name = "scripted"

    def __init__(self, *replies: str, **settings: Any) -> None:
        self.replies, self.settings = list(replies), settings
        self.asked: list[tuple[str, list[tuple[int, int]], int, int]] = []

    def ask(self, prompt: str, pictures: Sequence[Image.Image], *, repeat: int = 0, attempt: int = 0) -> Reply:
        self.asked.append((prompt, [picture.size for picture in pictures], repeat, attempt))
        return Reply(self.replies.pop(0), date=f"2026-01-0{1 + repeat}T00:00:00+00:00")


def score(*numbers: float) -> str:
    return json.dumps({"score": list(numbers), "reasoning": "as seen"})


def judged(judge: Scripted, rubric: Rubric = VIESCORE, **changed: Any) -> list[Verdict]:
    arguments: dict[str, Any] = {"instruction": "remove the fish", "sample_id": "a", "repeats": 1, **changed}
    return judge_edit(judge, rubric, SOURCE, EDITED, **arguments)


def test_one_edit_by_hand() -> None:
    judge = Scripted(score(8, 6), score(9, 4))
    (verdict,) = judged(judge)
    assert verdict.values == {"O": math.sqrt(6 * 4), "SC": 6, "PQ": 4}
    assert verdict.scores == {"success": 8, "restraint": 6, "naturalness": 9, "cleanness": 4}
    assert verdict.missing == {} and verdict.attempts == {"SC": 1, "PQ": 1}
    assert (verdict.judge, verdict.rubric, verdict.rubric_hash) == ("scripted", "viescore", VIESCORE.hash)
    (sc, both, _, _), (pq, edited, _, _) = judge.asked
    assert both == [SOURCE.size, EDITED.size] and edited == [EDITED.size]
    assert "The instruction: remove the fish\n" in sc and "remove the fish" not in pq


def test_unreadable_replies_are_asked_again_and_then_missing() -> None:
    judge = Scripted("Sorry, I can't.", score(8, 11), score(8, 7), "hm", "[9", score(9))
    (verdict,) = judged(judge)
    assert verdict.values == {"O": None, "SC": 7, "PQ": None}
    assert verdict.missing == {"PQ": "wrong count"}  # the last reason
    assert verdict.attempts == {"SC": 3, "PQ": 3}
    assert verdict.scores["success"] == 8 and verdict.scores["cleanness"] is None
    assert [attempt for *_, attempt in judge.asked] == [0, 1, 2, 0, 1, 2]


def test_three_repeats_by_default_and_one_of_a_deterministic_judge() -> None:
    judge = Scripted(*[score(5, 5)] * 6)
    verdicts = judge_edit(judge, VIESCORE, SOURCE, EDITED, instruction="x")
    assert [one.repeat for one in verdicts] == [0, 1, 2]
    assert [repeat for _, _, repeat, _ in judge.asked] == [0, 0, 1, 1, 2, 2]
    sure = Scripted("hm", score(5, 5), deterministic=True)
    (verdict,) = judge_edit(sure, VIESCORE, SOURCE, EDITED, instruction="x")
    assert verdict.missing == {"SC": "no scores"} and not sure.replies


def test_pictures_are_shown_as_each_benchmark_shows_them() -> None:
    large, larger = Image.new("RGB", (3000, 1000)), Image.new("RGB", (2000, 1900))
    assert [p.size for p in VIESCORE.prepare(large, larger)] == [(3000, 1000), (2000, 1900)]
    assert [p.size for p in GEDIT.prepare(SOURCE, EDITED)] == [SOURCE.size, SOURCE.size]
    assert [p.size for p in INSIGHTEDIT.prepare(large, larger)] == [(1500, 500), (1500, 500)]
    assert [p.size for p in INSIGHTEDIT.prepare(SOURCE, EDITED)] == [EDITED.size, EDITED.size]
    assert [p.size for p in IMGEDIT.prepare(SOURCE, EDITED)] == [SOURCE.size, EDITED.size]


def test_insightedit_asks_on_a_scale_to_five() -> None:
    (verdict,) = judged(Scripted(score(5, 4), score(3, 6), score(3, 5)), INSIGHTEDIT)
    assert verdict.values == {"O": math.sqrt(4 * 3), "SC": 4, "PQ": 3} and verdict.attempts["PQ"] == 2


def test_imgedit_asks_by_type_and_averages_three() -> None:
    judge = Scripted(score(5, 4, 4), score(1, 1, 0), score(1, 2, 3, 4), "5, 4, 3")
    (verdict,) = judged(judge, IMGEDIT, category="remove")
    assert verdict.values == {"mean": 4.33} and "It asks to take something away." in judge.asked[0][0]
    (verdict,) = judged(judge, IMGEDIT, category="add")
    assert verdict.values == {"mean": None} and verdict.missing == {"mean": "no scores"}
    with pytest.raises(ValueError, match="imgedit has no questions about edits of type 'sharpen'; it has add, adj"):
        judged(judge, IMGEDIT, category="sharpen")
    assert len(IMGEDIT_TYPES) == 9


@pytest.mark.parametrize("rubric", RUBRICS.values(), ids=list(RUBRICS))
def test_prompts_are_whole(rubric: Rubric) -> None:
    for category, questions in rubric.questions.items():
        for question in questions:
            prompt = question.ask("make {it} red")
            left = ("HIGH", "SCORES", "ASKED", "COMPLIANCE", "SEAMLESSNESS", "INTEGRITY", "{instruction}")
            assert not [mark for mark in left if mark in prompt], (category, prompt)
            assert ("make {it} red" in prompt) == question.sees_source
            assert f'{{"score": [{", ".join(question.scale.names)}], "reasoning"' in prompt
            assert f"from {question.scale.low:.0f} to {question.scale.high:.0f}" in prompt


def test_a_rubrics_hash_follows_every_word() -> None:
    assert len({rubric.hash for rubric in RUBRICS.values()}) == len(RUBRICS)
    (sc, pq) = VIESCORE.questions[""]
    changed = replace(VIESCORE, questions={"": (replace(sc, prompt=sc.prompt + " "), pq)})
    assert changed.hash != VIESCORE.hash == replace(VIESCORE).hash and len(VIESCORE.hash) == 16


def verdict(
    name: str, repeat: int, sc: float | None, pq: float | None, category: str = "add", **changed: Any
) -> Verdict:
    values = VIESCORE.values({"SC": None if sc is None else (sc, 10), "PQ": None if pq is None else (pq, 10)})
    missing = {part: "refusal" for part, value in (("SC", sc), ("PQ", pq)) if value is None}
    scores = {"success": sc, "naturalness": pq}
    return Verdict(name, category, repeat, values, scores, missing, **changed)


HAND = [
    verdict("a", 0, 4, 9),  # 6
    verdict("a", 1, 9, 9),  # 9
    verdict("b", 0, 4, 4),  # 4
    verdict("b", 1, None, 9),
    verdict("c", 0, None, None, "remove"),
    verdict("c", 1, None, None, "remove"),
    verdict("d", 0, 1, 1, "remove"),
    verdict("d", 1, 1, 1, "remove"),
]


def test_averages_by_hand() -> None:
    summary = summarise(HAND)
    assert (summary.n, summary.repeats, summary.missing_samples) == (4, 2, 1)
    assert summary.columns["O"] == ColumnMean((7.5 + 4 + 1) / 3, (7.5 + 2 + 0 + 1) / 4, 3)
    assert summary.columns["SC"] == ColumnMean((6.5 + 4 + 1) / 3, (6.5 + 2 + 0 + 1) / 4, 3)
    assert summary.columns["PQ"] == ColumnMean((9 + 6.5 + 1) / 3, (9 + 6.5 + 0 + 1) / 4, 3)
    for category, wanted in (("add", ColumnMean(5.75, 4.75, 2)), ("remove", ColumnMean(1.0, 0.5, 1))):
        assert summarise([one for one in HAND if one.category == category]).columns["O"] == wanted
    assert summary.macro["O"] == ColumnMean((5.75 + 1) / 2, (4.75 + 0.5) / 2, 2)
    assert summary.reasons == {"refusal": 5}
    # success: a 4 9, d 1 1 are whole; categories 1, 4, 9 have shares 1/2, 1/4, 1/4
    assert summary.repeat_kappa["success"] == pytest.approx((0.5 - 0.375) / (1 - 0.375))


def test_a_group_without_values_counts_only_pessimistically() -> None:
    summary = summarise([one for one in HAND if one.sample_id != "d"])
    assert summary.macro["O"] == ColumnMean(5.75, 4.75 / 2, 1)
    nothing = summarise([one for one in HAND if one.sample_id == "c"])
    assert nothing.columns["O"] == ColumnMean(None, 0.0, 0) and nothing.repeat_kappa["success"] is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: summarise([]), "there is no verdict to average: judge at least one edit"),
        (lambda: summarise(HAND[:-1]), "samples have 1 to 2 verdicts: finish the run"),
        (
            lambda: summarise([verdict("a", 0, 1, 1), verdict("b", 0, 1, 1, judge="gpt", rubric="r")]),
            "of different kinds .*gpt by r.*: average each alone",
        ),
        (lambda: judged(Scripted(), repeats=0), "repeats is 0: a judge gives at least one verdict"),
        (lambda: judged(Scripted(), instruction=" "), "the instruction is empty: a judge of edits needs"),
    ],
)
def test_errors_teach(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def judged_in_turn(judge: ChatClient) -> list[Verdict]:
    """Three edits of two categories."""
    verdicts = []
    for number, (name, category) in enumerate([("x", "add"), ("y", "add"), ("z", "remove")]):
        source, edited = (Image.new("RGB", size, (40 * number, 9, 9)) for size in ((8, 6), (4, 3)))
        verdicts += judge_edit(
            judge, GEDIT, source, edited, instruction=f"edit {name}", sample_id=name, category=category
        )
    return verdicts


def test_from_an_endpoint_to_a_table_and_again_without_it(tmp_path: Path) -> None:
    with ChatServer() as chat:
        endpoint = EndpointClient("seer-1", base_url=chat.base_url, key_variable=None, max_attempts=1)
        chat.plan += [(200, completion(score(9, 9)), {})] * 7 + [(500, b"", {})]
        judge = RecordingClient(endpoint, ReplyStore(tmp_path / "replies.jsonl"))
        with pytest.raises(ChatError, match="Replies so far are kept if they are recorded; run again later"):
            judged_in_turn(judge)
        assert len(chat.bodies) == 8
        chat.plan += [(200, completion("no"), {})] * 3 + [(200, completion(score(4, 9)), {})] * 10
        live = judged_in_turn(judge)  # goes on at the eighth question
        endpoint.close()
    assert len(chat.bodies) == 8 + 13 and not chat.plan
    replayed = judged_in_turn(RecordedClient(ReplyStore(tmp_path / "replies.jsonl"), "seer-1"))
    assert replayed == live and [one.sample_id for one in live] == [name for name in "xyz" for _ in range(3)]
    assert Counter(reason for one in live for reason in one.missing.values()) == {"no scores": 1}
    summary = summarise(replayed)
    assert summary.judge == "seer-1" and summary.rubric_hash == GEDIT.hash and summary.dates[0] >= "2026"
    removals = summarise([one for one in replayed if one.category == "remove"])
    assert removals.columns["O"].mean == pytest.approx(4.0)


def test_a_question_without_a_place_for_the_instruction_needs_none() -> None:
    (_, pq) = VIESCORE.questions[""]
    assert isinstance(pq, RubricQuestion) and pq.ask("") == pq.prompt
