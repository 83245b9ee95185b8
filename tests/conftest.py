"""What all tests share: a seed, no network, one thread, and the tiny base models."""

from __future__ import annotations

import os
import random
import socket
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers or diffusers are imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"
torch.set_num_threads(1)  # another number of threads gives other last bits, and runs are compared bit for bit

LOCAL_ADDRESSES = ("127.0.0.1", "localhost", "::1", "0.0.0.0")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine can be reached, except from tests marked `network`."""
    if request.node.get_closest_marker("network"):
        return
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in LOCAL_ADDRESSES:
            raise RuntimeError(f"a test tried to reach {address[0]!r}; mark it `network` or give it local files")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def tiny_root() -> Path:
    """Root folder of the tiny base models; see `tests.tiny.tiny_models`."""
    from tests.tiny import tiny_models

    return tiny_models()
