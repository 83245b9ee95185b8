"""What training never sees: the same records in every run; and what tells that a data set has changed."""

from __future__ import annotations

import json

import pytest

from insightedit.config.load import ConfigError, load_config
from insightedit.config.schema import SourceConfig
from insightedit.datasets.loader import StepLoader
from insightedit.datasets.mixture import Mixture, fingerprint_changes
from insightedit.datasets.sources import build_source, part_of
from insightedit.training.data import build_held_out, build_mixture
from insightedit.types import EditRecord
from tests.data.published_files import reasonedit


class Numbers:
    """Twenty records in ten groups, each in four variants."""

    num_records = 20
    groups = [f"photo-{number // 2}" for number in range(20)]  # noqa: RUF012

    def __len__(self) -> int:
        return 80

    def __getitem__(self, index: int) -> EditRecord:
        return EditRecord(key=f"{index % 20}/{index // 20}", instruction="do it")


def test_two_parts_share_nothing_and_groups_stay_together():
    kept, held = (part_of(Numbers(), 0.3, held_out=flag, name="it") for flag in (False, True))
    assert sorted([*kept.numbers, *held.numbers]) == list(range(20))
    assert 0 < held.num_records < 12
    assert all((number ^ 1) in held.numbers for number in held.numbers)
    assert (len(held), held[held.num_records].key) == (4 * held.num_records, f"{held.numbers[0]}/1")
    with pytest.raises(ConfigError, match="leaves no record to hold out: its 20 are too few"):
        part_of(Numbers(), 1e-9, held_out=True, name="it")


def test_the_mixture_never_draws_what_is_held_out(tmp_path):
    for number in range(12):
        reasonedit(tmp_path / f"{number}")
    rows = {
        f"{number:04d}": {
            "origin_img_path": f"{number}/a.png", "target_img_path": f"{number}/b.png", "instruction": f"edit {number}"
        }
        for number in range(12)
    }  # fmt: skip
    (tmp_path / "all.json").write_text(json.dumps(rows))
    words = [f"data.sources=[{{kind: reasonedit, path: {tmp_path}/all.json, val_fraction: 0.3}}, {{kind: scenes}}]"]
    config = load_config("insightedit", 3, ["tiny"], words)
    held = build_held_out(config)
    assert held is not None
    assert held.names == ["0-reasonedit"]
    assert 0 < held.num_records < 12
    mixture = build_mixture(config)
    assert mixture.num_records is None
    seen = {mixture[index].instruction for index in range(120)}
    kept_back = {held[index].instruction for index in range(60)}
    assert len(kept_back) == held.num_records
    assert not seen & kept_back
    assert build_held_out(load_config("insightedit", 3, ["tiny"])) is None


def test_rendered_scenes_hold_nothing_out():
    with pytest.raises(ConfigError, match="scenes never ends, so no share of it can be held out"):
        build_source(SourceConfig(val_fraction=0.1), size=32, seed=0)
    with pytest.raises(ConfigError, match="val_fraction is 1.5: it has to be at least 0 and below 1"):
        build_mixture(load_config("insightedit", 3, ["tiny"], ["data.sources=[{kind: scenes, val_fraction: 1.5}]"]))


def test_fingerprints_tell_what_changed():
    one = {"a": {"records": 3, "files": {"x.jsonl": 9}, "columns": ["source"]}, "b": {"records": None}}
    assert fingerprint_changes(one, json.loads(json.dumps(one))) == []
    other = {"a": {"records": 4, "files": {"x.jsonl": 12}, "columns": ["source"]}, "c": {"records": 1}}
    assert fingerprint_changes(one, other) == [
        "a: records were 3 and are 4; 1 files differ, the first is x.jsonl.", "b is gone.", "c is new.",
    ]  # fmt: skip


class Dead:
    """A source whose records are all broken."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> EditRecord:
        raise OSError(f"no picture {index % 2}")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dead_source_ends_in_one_sentence_with_its_first_reasons(workers):
    mixture = Mixture({"dead": Dead()}, {"dead": 1}, seed=0)
    loader = StepLoader(mixture, lambda records, indices: records, batch_size=2, num_workers=workers)
    with pytest.raises(ConfigError, match="100 broken records in a row; the first: record .*, no picture") as caught:
        next(iter(loader))
    assert str(caught.value).count("record ") == 3
    assert "\n" not in str(caught.value)
