"""Batches that mix the three tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from insightedit.comprehension.blip2_t5 import Blip2T5Comprehension
from insightedit.config import load_config
from insightedit.datasets.loader import Collator
from insightedit.modeling.pretrained import resolve_model_id
from insightedit.training.data import build_mixture
from insightedit.types import EditRecord

DOG, CAT, PARK = (np.full((20, 30, 3), value, np.uint8) for value in (30, 120, 220))
EDITED = PARK.copy()
EDITED[:, :10] = 0
RECORDS = [
    EditRecord("edit", "remove the dog from the picture", PARK, EDITED),
    EditRecord("draw", "draw <imagehere> and <imagehere>", None, PARK, reference_images=(DOG, CAT), task="subject"),
    EditRecord("put", "add <imagehere>", PARK, EDITED, reference_images=(CAT,), task="subject_editing"),
]


@pytest.fixture(scope="module")
def collate() -> Collator:
    reader = Blip2T5Comprehension.from_pretrained(
        resolve_model_id("miniature:tiny/blip2"), resolve_model_id("miniature:tiny/t5"), resolution=32, max_length=96
    )
    return Collator(reader.tokenizer, 32)


def test_tasks_share_a_batch(collate):
    batch = collate(RECORDS, [0, 1, 2])
    assert batch.has_source.tolist() == [1, 0, 1]
    assert batch.is_edit.tolist() == [1, 1, 1]
    assert batch.source_pixels.shape == batch.target_pixels.shape == (3, 3, 32, 32)
    assert batch.tokens.pixel_values.shape[0] == batch.tokens.reference_pixels.shape[0] == 1 + 2 + 2
    assert batch.tokens.image_positions.sum(dim=1).tolist() == [4, 8, 8]
    shares = batch.changed_mask.mean(dim=(1, 2, 3))
    assert shares[1] == 1, "on a blank canvas everything is new"
    assert 0.2 < shares[0] < 0.5


def test_a_batch_moves_as_a_whole(collate):
    moved = collate(RECORDS, [0, 1, 2]).to("meta")
    assert {moved.has_source.device.type, moved.tokens.image_positions.device.type} == {"meta"}
    assert moved.tokens.reference_pixels.device.type == moved.tokens.to("meta").input_ids.device.type == "meta"


def test_a_record_without_a_target_is_named(collate):
    with pytest.raises(ValueError, match="record chat has no target picture, and everything here is drawn"):
        collate([*RECORDS, EditRecord("chat", "what is this?", PARK, reply="a park")], [0, 1, 2, 3])


def test_the_recipe_draws_its_tasks_one_to_one():
    mixture = build_mixture(load_config("mige", 3, ["tiny"]))
    names = [mixture.place(index)[0].split("-")[-1] for index in range(3000)]
    for kind in ("scenes", "subjects", "subject_edits"):
        assert abs(names.count(kind) / 3000 - 1 / 3) < 0.03
    tasks = {mixture[index].task for index in range(12)}
    assert tasks == {"editing", "subject", "subject_editing"}


def test_the_recipes_batches_fit_the_tiny_reader(collate):
    mixture = build_mixture(load_config("mige", 3, ["tiny"]))
    batch = collate([mixture[index] for index in range(6)], list(range(6)))
    placed = int(batch.tokens.image_positions.sum())
    assert placed == 4 * len(batch.tokens.pixel_values)
    assert torch.isfinite(batch.tokens.pixel_values).all()
