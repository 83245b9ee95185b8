"""Quality: what pixels say, what a judge says, and every reason for a refusal."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from data_recipes.runner.records import Record
from data_recipes.steps.quality import Quality, changed_pixels
from insightedit.chat.rubrics import RUBRICS
from tests.recipes.stand_ins import Script, only, run

SIDE = 40


def pair(**changes):
    source = np.full((SIDE, SIDE, 3), 100, np.uint8)
    target, mask = source.copy(), np.zeros((SIDE, SIDE), dtype=bool)
    target[10:20, 10:20] = 200
    mask[8:22, 8:22] = True
    told = {
        "key": "7/0-remove",
        "task": "remove",
        "source": source,
        "target": target,
        "mask": mask,
        "instructions": {"template": ("remove the dog",), "simple": ("erase the dog", "drop the dog")},
    }
    return Record(**{**told, **changes})


def scores(*values):
    return json.dumps({"score": values, "reasoning": "because"})


GOOD = scores(5, 5)


def judged(step, record, sc=GOOD, pq=GOOD):
    judge = Script(sc=sc, pq=pq)
    return only(run(step, [record], {"judge": judge})), judge


def test_scores_are_kept():
    found, judge = judged(Quality(), pair(), sc=scores(4, 5), pq=scores(5, 3))
    assert found.scores == {
        "PQ": 3, "naturalness": 5, "cleanness": 3, "SC": 4, "success": 4, "restraint": 5, "O": math.sqrt(12),
    }  # fmt: skip
    assert [(question.task, len(question.pictures)) for question in judge.asked] == [
        ("pq", 1), ("sc", 2), ("sc", 2), ("sc", 2),
    ]  # fmt: skip
    sc = judge.asked[1]
    assert sc.about == {"instruction": "remove the dog"}
    assert sc.prompt == RUBRICS["insightedit"].questions_for("")[0].ask("remove the dog")
    np.testing.assert_array_equal(sc.pictures[1], pair().target)
    np.testing.assert_array_equal(judge.asked[0].pictures[0], pair().target)


def test_wordings_that_do_not_fit_are_taken_out():
    found, _ = judged(Quality(), pair(), sc=[scores(5, 5), scores(1, 5), scores(4, 5)])
    assert found.instructions == {"template": ("remove the dog",), "simple": ("drop the dog",)}
    assert found.notes["wordings_refused"] == ["erase the dog"]
    assert found.scores["SC"] == 4


def test_a_kind_without_wordings_goes():
    found, _ = judged(Quality(), pair(), sc=[scores(5, 5), scores(1, 5), scores(1, 5)])
    assert found.instructions == {"template": ("remove the dog",)}


def test_the_first_wording_has_to_fit():
    first_wrong = [scores(3, 5), scores(5, 5), scores(5, 5)]
    refused, _ = judged(Quality(), pair(), sc=first_wrong)
    assert (refused.step, refused.reason) == ("quality", "SC is too low")
    assert refused.detail == "success 3, restraint 5"
    kept, _ = judged(Quality(first_must_fit=False), pair(), sc=first_wrong)
    assert kept.wordings == ("erase the dog", "drop the dog")


def test_one_wording_may_stand_for_all():
    found, judge = judged(Quality(judged="first"), pair())
    assert [question.task for question in judge.asked] == ["pq", "sc"]
    assert found.wordings == pair().wordings


@pytest.mark.parametrize(
    ("changes", "sc", "pq", "reason", "detail"),
    [
        ({"target": None}, scores(5, 5), scores(5, 5), "is no pair", ""),
        ({"instructions": {}}, scores(5, 5), scores(5, 5), "no instruction", ""),
        ({}, scores(5, 5), scores(2, 5), "PQ is too low", "naturalness 2, cleanness 5"),
        ({}, scores(5, 3.5), scores(5, 5), "SC is too low", "success 5, restraint 3.5"),
        ({}, "no", scores(5, 5), "judge failed", "SC: no scores"),
        ({}, scores(5, 5), "", "judge failed", "PQ: empty"),
        ({}, scores(5, 5), scores(6, 5), "judge failed", "PQ: out of range"),
        ({}, scores(5), scores(5, 5), "judge failed", "SC: wrong count"),
        ({}, scores(5, 5), '{"score": ["5", "5"]}', "judge failed", "PQ: not numbers"),
    ],
)
def test_refusals(changes, sc, pq, reason, detail):
    refused, _ = judged(Quality(attempts=1), pair(**changes), sc, pq)
    assert (refused.step, refused.reason, refused.detail) == ("quality", reason, detail)


def blank(value=100):
    return np.full((SIDE, SIDE, 3), value, np.uint8)


def spread():
    target = pair().target.copy()
    target[30:33, 30:33] = 0
    return target


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"mask": np.zeros((SIDE, SIDE), dtype=bool)}, "mask is empty", ""),
        ({"mask": np.ones((SIDE, SIDE), dtype=bool)}, "mask is loose", "6.2% of it changed"),
        ({"target": blank()}, "nothing was changed", "0.000% of the picture"),
        ({"target": blank(112)}, "nothing was changed", "0.000% of the picture"),  # within the tolerance
        ({"target": spread()}, "changed outside the mask", "0.56% of the picture"),
        ({"source": np.zeros((8, 8, 3), np.uint8)}, "sizes differ", "(8, 8) and (40, 40)"),
    ],
)
def test_pixels_are_looked_at_before_anyone_is_asked(changes, reason, detail):
    refused, judge = judged(Quality(), pair(**changes))
    assert (refused.reason, refused.detail) == (reason, detail)
    assert judge.asked == []


def test_pairs_without_mask_or_source_are_judged():
    assert judged(Quality(), pair(mask=None))[0].scores
    reference = np.zeros((16, 16, 3), np.uint8)
    drawn = pair(source=None, mask=None, references=(reference,), task="subject")
    found, judge = judged(Quality(), drawn)
    assert found.scores["SC"] == 5
    assert [picture.shape[0] for picture in judge.asked[1].pictures] == [16, SIDE]


def test_a_judge_that_fails_may_be_overlooked():
    found, _ = judged(Quality(on_missing="keep", attempts=1), pair(), sc="", pq="")
    assert found.notes["judge_failed"] == ["PQ", "SC"]
    assert found.scores == {}
    assert found.wordings == pair().wordings


def test_a_wording_without_an_answer_is_taken_out_unless_overlooked():
    answers = [scores(5, 5), "", scores(5, 5)]
    found, _ = judged(Quality(attempts=1), pair(), sc=answers)
    assert found.wordings == ("remove the dog", "drop the dog")
    kept, _ = judged(Quality(attempts=1, on_missing="keep"), pair(), sc=answers)
    assert kept.wordings == pair().wordings


def test_unreadable_answers_are_asked_for_again():
    found, judge = judged(Quality(judged="first"), pair(), sc=["?", "```json\n" + scores(5, 4) + "\n```"])
    assert found.scores["SC"] == 4
    assert [question.attempt for question in judge.asked] == [0, 0, 1]


def test_a_batch_gives_what_single_records_give():
    records = [pair(key="a"), pair(key="b", mask=np.zeros((SIDE, SIDE), dtype=bool)), pair(key="c")]
    judge = Script(pq=[scores(5, 5), scores(0, 0)], sc=scores(5, 5))
    first, second, third = run(Quality(), records, {"judge": judge})
    assert (first.key, second.reason, third.reason) == ("a", "mask is empty", "PQ is too low")
    assert third.key == "c"


def test_other_scales():
    found, judge = judged(Quality(rubric="viescore", min_sc=8, min_pq=6), pair(), scores(8, 9), scores(7, 6))
    assert (found.scores["SC"], found.scores["PQ"]) == (8, 6)
    assert "from 0 to 10" in judge.asked[0].prompt
    assert set(Quality().prompts) == {"sc", "pq"}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"rubric": "imgedit"}, "steps.quality.rubric is 'imgedit': choose one of viescore, gedit, insightedit."),
        ({"judged": "some"}, "steps.quality.judged is 'some': choose one of each, first."),
        ({"on_missing": "ask"}, "steps.quality.on_missing is 'ask': choose one of reject, keep."),
        ({"min_sc": 6}, "steps.quality.min_sc is 6: it has to be from 0 to 5."),
        ({"min_pq": -1}, "steps.quality.min_pq is -1: it has to be from 0 to 5."),
        ({"tolerance": 300}, "steps.quality.tolerance is 300: it has to be from 0 to 255."),
        ({"max_outside": 2}, "steps.quality.max_outside is 2: it has to be from 0 to 1."),
        ({"attempts": 0}, "steps.quality.attempts is 0"),
    ],
)
def test_wrong_settings_are_told(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        Quality(**setting)


def test_changed_pixels_need_one_channel():
    one, other = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    other[0, 0, 2], other[1, 1, 0] = 13, 12
    np.testing.assert_array_equal(changed_pixels(one, other, 12), [[True, False], [False, False]])
    np.testing.assert_array_equal(changed_pixels(other, one, 12), [[True, False], [False, False]])
