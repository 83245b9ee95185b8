from __future__ import annotations

import importlib.util

import pytest
import torch

from insightedit.config.load import ConfigError
from insightedit.config.schema import TrainConfig
from insightedit.training import processes
from insightedit.training.processes import Processes, engine_kind, start_processes


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def launched(monkeypatch, world_size: int) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(world_size))


def without_deepspeed(monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        processes.importlib.util, "find_spec", lambda name: None if name == "deepspeed" else find(name)
    )


def test_alone_on_a_cpu_is_plain_torch():
    assert engine_kind(TrainConfig()) == "torch"
    assert start_processes(TrainConfig()) == Processes(0, 1, torch.device("cpu"))


def test_a_launcher_or_a_gpu_means_deepspeed(monkeypatch):
    launched(monkeypatch, 1)
    assert engine_kind(TrainConfig()) == "deepspeed"
    monkeypatch.delenv("RANK")
    assert engine_kind(TrainConfig()) == "torch"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert engine_kind(TrainConfig()) == "deepspeed"
    assert engine_kind(TrainConfig(engine="torch")) == "torch"


def test_a_gpu_without_deepspeed_is_plain_torch(monkeypatch):
    without_deepspeed(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert engine_kind(TrainConfig()) == "torch"


def test_missing_deepspeed_is_named(monkeypatch):
    without_deepspeed(monkeypatch)
    with pytest.raises(ConfigError, match="needs DeepSpeed, which is not installed: pip install deepspeed"):
        engine_kind(TrainConfig(engine="deepspeed"))
    launched(monkeypatch, 2)
    with pytest.raises(ConfigError, match="needs DeepSpeed"):
        engine_kind(TrainConfig())


def test_plain_torch_refuses_many_processes(monkeypatch):
    launched(monkeypatch, 4)
    with pytest.raises(ConfigError, match="runs in one process, the launcher started 4: set train.engine=deepspeed"):
        start_processes(TrainConfig(engine="torch"))


def test_one_process_waits_for_nobody():
    alone = Processes()
    alone.barrier()
    assert alone.is_main and alone.largest(130) == 130
    assert not Processes(rank=1, world_size=2).is_main


def test_a_gpu_trains_without_cudnn_attention(monkeypatch):
    """Its bfloat16 gradients were not finite (docs/gpu.md)."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        assert processes._device() == torch.device("cuda", 0)
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
