"""Planted faults: each is what it says, lies where it should, is hidden from the judge, and is counted rightly."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_recipes.oracle.faults import KINDS, MARK, Blindfolded, Faults, is_caught, plant_faults, planted, shares_of
from data_recipes.oracle.report import main, measure, measure_run
from data_recipes.oracle.world import world_of
from data_recipes.runner.records import Record, Rejected
from data_recipes.scenes import Finished
from data_recipes.steps.captions import Captions
from data_recipes.steps.masks import Masks
from data_recipes.steps.pairs import Pairs
from data_recipes.steps.quality import Quality
from data_recipes.steps.wording import Wording
from insightedit.datasets.segmentation import encode_mask
from tests.recipes.stand_ins import drive, only, oracles, photo, run

MAKE = (Captions(), Masks(), Pairs(), Wording())
PICTURES = ("residue", "artefact", "bleed", "wrong_removal", "wrong_replacement")
WORDS = ("wrong_object", "wrong_colour", "wrong_side", "wrong_action")


@pytest.fixture(scope="module")
def pairs():
    left, _ = drive(MAKE, [photo(index, 64) for index in (1, 2, 4)], oracles())
    return left


def spoilt(kind, records, seed=0):
    """Each pair before and after, of those that the fault can be planted into."""
    step = Faults(((kind, 1.0),))
    outcomes = run(step, records, {}, seed)
    return [(a, b) for a, b in zip(records, outcomes, strict=True) if planted(b)]


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("source", "target", "mask"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_changes_what_it_is_about_and_nothing_else(kind, pairs):
    found = spoilt(kind, pairs)
    assert len(found) > 8
    for before, after in found:
        assert planted(after) == kind
        assert after.key == before.key
        changed = {
            name
            for name in ("source", "target", "mask")
            if not np.array_equal(getattr(before, name), getattr(after, name))
        }
        painted = "source" if before.notes["swapped"] else "target"
        wanted = {
            "wrong_removal": {painted, "mask"}, "swapped": {"source", "target"}, "empty_mask": {"mask"},
            "loose_mask": {"mask"},
        }.get(kind, {painted} if kind in PICTURES else set())  # fmt: skip
        assert changed == wanted, before.key
        assert (before.instructions != after.instructions) == (kind in WORDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_is_caught_by_quality(kind, pairs):
    """The bar is 95 % over all kinds; these few are all caught."""
    after = [pair for _, pair in spoilt(kind, pairs)][:6]
    judged = run(Blindfolded(Quality()), after, oracles())
    assert [planted(outcome) for outcome in judged] == [kind] * len(after)
    assert all(map(is_caught, judged)), [(o.key, o) for o in judged if not is_caught(o)]


def test_good_pairs_pass_with_full_marks(pairs):
    for record in run(Quality(), pairs, oracles()):
        assert isinstance(record, Record), record
        assert (record.scores["SC"], record.scores["PQ"]) == (5, 5)
        assert "wordings_refused" not in record.notes


def test_wrong_wordings_are_wrong(pairs):
    for kind in WORDS:
        for before, after in spoilt(kind, pairs):
            text = after.notes[MARK]["text"]
            assert text in after.wordings
            assert text not in before.wordings
            assert len(after.wordings) == len(before.wordings)


def test_what_is_left_of_a_thing_comes_from_the_photo(pairs):
    for before, after in spoilt("residue", pairs):
        name = "source" if before.notes["swapped"] else "target"
        world = world_of(before.truth)
        changed = (getattr(before, name) != getattr(after, name)).any(axis=-1)
        np.testing.assert_array_equal(getattr(after, name)[changed], world.photo[changed])
        share = changed.sum() / (before.source != before.target).any(axis=-1).sum()
        assert 0.03 < share < 0.75
    for before, after in spoilt("artefact", pairs):
        name = "source" if before.notes["swapped"] else "target"
        changed = (getattr(before, name) != getattr(after, name)).any(axis=-1)
        assert changed.sum() >= 4
        assert not (changed & ~before.mask).any()
    for before, after in spoilt("bleed", pairs):
        name = "source" if before.notes["swapped"] else "target"
        assert ((getattr(before, name) != getattr(after, name)).any(axis=-1) & ~before.mask).any()


def test_which_pairs_are_spoilt_follows_from_seed_and_key(pairs):
    step = Faults(tuple(shares_of({"all": 0.5}).items()))

    def marks(records, seed):
        return {record.key: planted(record) for record in run(step, records, {}, seed)}

    everything = marks(pairs, 0)
    assert everything == marks(pairs[::-1], 0)
    assert everything != marks(pairs, 1)
    assert 0.3 < np.mean([bool(kind) for kind in everything.values()]) < 0.7
    assert len(set(everything.values())) > 8
    assert all(same(a, b) for a, b in zip(pairs, run(step, pairs, {}), strict=True) if not planted(b))


def test_a_fault_that_cannot_be_gives_way_to_another(pairs):
    removals = [record for record in pairs if record.task == "remove"]
    step = Faults((("residue", 0.01), ("wrong_replacement", 0.99)))
    assert {planted(record) for record in run(step, removals, {})} == {"residue"}
    step = Faults((("wrong_replacement", 1.0),))
    assert {planted(record) for record in run(step, removals, {})} == {""}


# hidden, and found again --------------------------------------------------------------------------


class Curious:
    """A step that keeps what it is shown."""

    name = "quality"
    needs = ("judge",)

    def __init__(self, *outcomes):
        self.settings, self.prompts = {"a": 1}, {"b": "c"}
        self.outcomes = list(outcomes)
        self.seen = []

    def __call__(self, records, context):
        self.seen += records
        return [[self.outcomes.pop(0)] for _ in records]


def test_marks_are_hidden_and_come_back():
    kept, out = (Record("a", notes={MARK: {"kind": "residue"}, "x": 1}), Record("b", notes={MARK: {"kind": "bleed"}}))
    good = Record("c")
    inner = Curious(Record("a", notes={"x": 1}), Rejected("b", "quality", "no"), Rejected("c", "quality", "no", "why"))
    step = Blindfolded(inner)
    found = run(step, [kept, out, good], oracles())
    assert [record.notes for record in inner.seen] == [{"x": 1}, {}, {}]
    assert found[0].notes == {"x": 1, MARK: {"kind": "residue"}}
    assert found[1].detail == "[planted: bleed]"
    assert found[2].detail == "why"
    assert [planted(outcome) for outcome in found] == ["residue", "bleed", ""]
    assert (step.name, step.needs, step.settings, step.prompts) == ("quality", ("judge",), {"a": 1}, {"b": "c"})


def test_faults_go_before_quality():
    steps = plant_faults([*MAKE, Quality()], {"residue": 0.1, "bleed": 0.05})
    assert [step.name for step in steps] == ["captions", "masks", "pairs", "wording", "faults", "quality"]
    assert steps[4].settings == {"bleed": 0.05, "residue": 0.1}
    assert steps[4].prompts == {}
    assert plant_faults([Quality()], {"all": 0.24})[0].settings == dict.fromkeys(sorted(KINDS), pytest.approx(0.02))


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ({"residu": 0.1}, "faults.residu: no such fault can be planted; did you mean residue?"),
        ({"qqq": 0.1}, "faults.qqq: no such fault can be planted; choose of all, wrong_object"),
        ({"residue": 2}, "faults.residue is 2: it is a share of the pairs, from 0 to 1."),
        ({"residue": "many"}, "faults.residue is 'many': it is a share"),
        ({"all": 0.7, "bleed": 0.5}, "the shares of faults add up to 1.2: no more than 1 can be spoilt."),
    ],
)
def test_wrong_shares_are_told(faults, sentence):
    with pytest.raises(ValueError, match=sentence):
        plant_faults([Quality()], faults)


def test_a_recipe_without_quality_cannot_be_measured():
    with pytest.raises(ValueError, match="before the step quality, and this recipe has finished: take the section"):
        plant_faults([Finished()], {"all": 0.1})


# the report ---------------------------------------------------------------------------------------


def test_the_report_counts(pairs):
    good = next(record for record in pairs if record.task == "remove")
    world = world_of(good.truth)
    loose = np.ones_like(good.mask)
    outcomes = [
        good,
        good.but(target=good.source, notes={**good.notes, "segmentation": encode_mask(loose)}),
        good.but(notes={**good.notes, "wordings_refused": ["x"]}),
        good.but(notes={**good.notes, MARK: {"kind": "residue"}}),
        good.but(notes={**good.notes, MARK: {"kind": "wrong_side", "text": "gone"}}),
        good.but(notes={**good.notes, MARK: {"kind": "wrong_side", "text": good.wordings[0]}}),
        Rejected("a", "quality", "SC is too low", "success 1 [planted: swapped]"),
        Rejected("b", "quality", "PQ is too low", "cleanness 1"),
        Rejected("c", "masks", "nothing found"),
    ]
    report = measure(outcomes)
    assert (report.good.hits, report.good.of) == (1, 4)
    assert report.lost == {"b": "PQ is too low: cleanness 1"}
    assert {kind: (one.hits, one.of) for kind, one in report.caught.items()} == {
        "residue": (0, 1), "wrong_side": (1, 2), "swapped": (1, 1),
    }  # fmt: skip
    assert report.all_caught.share == 0.5
    assert len(report.passed) == 2
    assert (report.exact.hits, report.exact.of) == (2, 3)
    true = int(world.masks[world.find(good.class_origin)[0]].sum())
    assert (report.recall.hits, report.recall.of) == (3 * true, 3 * true)
    assert report.precision.of == 2 * true + loose.size
    assert report.wordings.of == 3 * len(good.wordings) + 1
    told = json.loads(json.dumps(report.to_dict()))
    assert told["faults_caught"] == 0.5
    assert told["good_pairs_lost"] == 0.25
    text = report.text()
    assert "planted faults caught" in text
    assert "lost because: PQ is too low (1)" in text
    assert f"not caught: {good.key} (residue)" in text


def test_nothing_is_no_share():
    report = measure([])
    assert report.all_caught.share is None
    assert report.to_dict()["good_pairs_lost"] is None
    assert "none" in report.text()


def test_noise_of_the_backends_shows_in_the_report():
    backends = oracles(segmenter={"grow": 1})
    steps = (
        Captions(),
        Masks(),
        Pairs(tasks=["remove"], grow=0),
        Wording(by_chat=False, kinds=[]),
        Quality(min_inside=0),
    )
    left, _ = drive(steps, [photo(index, 64) for index in range(3)], backends)
    report = measure(left)
    assert report.recall.share == 1
    assert 0.5 < report.precision.share < 0.95
    assert report.exact.share == 1
    backends = oracles(segmenter={"speckle": 0.2})
    left, refused = drive(steps, [photo(index, 64) for index in range(3)], backends)
    assert measure([*left, *refused]).good.share == 1  # a fifth of each thing is left standing


def test_a_folder_that_is_no_run(tmp_path, capsys):
    with pytest.raises(ValueError, match="holds no finished run of a recipe: name the folder that was given with"):
        measure_run(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path)])
    assert "insightedit: " in capsys.readouterr().err
    assert main([]) == 2
    assert "usage: python -m data_recipes.oracle.report OUT" in capsys.readouterr().err


def test_only_finished_pairs_pass_a_recipe_without_work():
    pair = photo(0).but(
        task="remove", source=photo(0).image, target=photo(0).image, instructions={"simple": ("remove it",)}
    )
    assert only(run(Finished(), [pair], {})).key == pair.key
    refused = only(run(Finished(tasks=["add"]), [pair], {}))
    assert (refused.reason, refused.detail) == ("task is not wanted", "remove")
    refused = only(run(Finished(), [photo(0)], {}))
    assert (refused.step, refused.reason) == ("finished", "is no pair")
    with pytest.raises(ValueError, match="steps.finished.tasks has 'paint': choose of remove, add"):
        Finished(tasks=["paint"])
    assert Finished().settings["tasks"][0] == "remove"
