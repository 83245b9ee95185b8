"""Checkpoints that nest without end, stand for more than they hold, or ask for code: one sentence, nothing run."""

from __future__ import annotations

import pytest
import torch

from insightedit.export.importers.mapping import MAX_NESTING, read_checkpoint


def nested(depth: int, name: str = "a") -> dict:
    held: dict = {"weight": torch.zeros(2)}
    for _ in range(depth):
        held = {name: held}
    return held


def cyclic(name: str = "a") -> dict:
    held: dict = {"weight": torch.zeros(2)}
    held[name] = held
    return held


def shared(levels: int) -> dict:
    """2 ** levels names in a few bytes."""
    held: dict = {"weight": torch.zeros(2)}
    for _ in range(levels):
        held = {"a": held, "b": held}
    return held


@pytest.mark.parametrize(
    "held",
    [
        nested(9), nested(400), nested(400, "state_dict"), cyclic(), cyclic("state_dict"), cyclic("model"), shared(7),
        shared(40),
    ],
    ids=["9", "400", "400 state_dict", "cycle", "state_dict cycle", "model cycle", "shared", "shared 40"],
)  # fmt: skip
def test_groups_without_end(tmp_path, held):
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="nests its groups of tensors in each other without end"):
        read_checkpoint(tmp_path / "a.pt")


def test_as_deep_as_checkpoints_are(tmp_path):
    torch.save(nested(MAX_NESTING), tmp_path / "a.pt")
    assert list(read_checkpoint(tmp_path / "a.pt").tensors) == ["a." * MAX_NESTING + "weight"]


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    "tensor",
    [torch.eye(4).to_sparse(), torch.zeros(1).expand(2**20, 2**20), torch.zeros(4, device="meta")],
    ids=["sparse", "expanded", "meta"],
)
def test_tensors_that_are_not_plain(tmp_path, tensor):
    torch.save({"weight": tensor}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="weight is no plain tensor|cut off or damaged|asks for code"):
        read_checkpoint(tmp_path / "a.pt")
