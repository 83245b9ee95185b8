"""Doctor, preview and training give the same verdict on every record: 200 sets, each a layout with a fault."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from data_recipes.doctor.examine import examine
from data_recipes.doctor.findings import OF_REASON
from insightedit.config.load import load_config
from insightedit.config.schema import Config, SourceConfig
from insightedit.datasets.pairs import PairSource
from insightedit.datasets.sources import build_source
from insightedit.training.data import build_mixture, prepared
from insightedit.training.preview import preview
from tests.data.layout_files import FAULTS, LAYOUTS, row, write_set

CASES = [*product(LAYOUTS, ("none", *FAULTS))]
ROWS, BAD = 4, (1, 3)
UNUSABLE = {*OF_REASON.values()} - {"unreadable_mask"}  # faults of records that training leaves out


@pytest.fixture(scope="module")
def recipe() -> Config:
    return load_config("insightedit", 3, ["tiny"])


def verdict_of_training(source: PairSource, recipe: Config) -> dict[str, bool]:
    """Key -> whether a stage can use the record."""
    found = {}
    for number in range(source.num_records):
        try:
            record = prepared(recipe, source[number])
            found[source.listing.key(number)] = record.is_edit and record.source_image is not None
        except ValueError:
            found[source.listing.key(number)] = False
    return found


def verdict_of_doctor(root: Path, kind: str, split: str, keys: list[str]) -> dict[str, bool]:
    """Key -> whether nothing was found that makes the record useless."""
    diagnosis = examine(root, kind=kind, splits=[split])
    useless = {one.where for one in diagnosis.findings if one.fault in UNUSABLE}
    assert useless <= set(keys), diagnosis.findings
    assert diagnosis.records == len(keys)
    return {key: key not in useless for key in keys}


def agree(layout: str, fault: str, root: Path, recipe: Config) -> None:
    seed = CASES.index((layout, fault))
    rows = [row(number, seed) for number in range(ROWS)]
    if fault != "none":
        rows = [FAULTS[fault](one) if number in BAD else one for number, one in enumerate(rows)]
    write_set(layout, root, rows)
    kind = LAYOUTS[layout][1]
    split = "all" if kind == "instructpix2pix" else "train"
    source = build_source(SourceConfig(kind=kind, path=str(root), split=split), size=32, seed=0)
    trained = verdict_of_training(source, recipe)
    assert verdict_of_doctor(root, kind, split, list(trained)) == trained
    wanted = [fault == "none" or number not in BAD for number in range(ROWS)]
    assert sorted(trained.values()) == sorted(wanted), trained
    if kind not in ("folders", "webdataset"):  # which are in the order of their names, or of the archive
        assert list(trained.values()) == wanted


def test_doctor_and_training_agree_on_two_hundred_sets(tmp_path, recipe):
    for number, (layout, fault) in enumerate(CASES):
        agree(layout, fault, tmp_path / str(number) / "a set [v2] * ::x", recipe)
    assert len(CASES) >= 200


@pytest.mark.parametrize("layout", ["jsonl", "webdataset", "mige"])
def test_the_preview_shows_what_is_good_and_counts_what_is_not(tmp_path, layout):
    """The mixture of preview is that of training: it names the same records as broken."""
    rows = [row(0), FAULTS["target is missing"](row(1)), row(2), FAULTS["no words"](row(3))]
    write_set(layout, tmp_path / "set", rows)
    config = load_config("insightedit", 3, ["tiny"])
    config.data.sources = [SourceConfig(kind=LAYOUTS[layout][1], path=str(tmp_path / "set"))]
    seen = preview(config, samples=8, draws=10)
    good = verdict_of_training(build_mixture(config).sources[f"0-{LAYOUTS[layout][1]}"], config)
    shown = {sample.record.key.partition("/")[2] for sample in seen.samples}
    assert shown == {key for key, is_good in good.items() if is_good}
    assert sum(seen.broken.values()) > 0
    assert all(np.isfinite(sample.pictures["source"]).all() for sample in seen.samples)
