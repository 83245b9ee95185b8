"""Parts as processes: each gives its memory back, and none imports torch anew, which takes up to a minute.

A fork server imports the libraries once and touches no accelerator; every part is forked from it.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

LOADED = (  # what most parts import, by name: nobody below may know the rooms above
    "torch.utils.tensorboard",
    "matplotlib.figure",
    "peft",
    "insightedit.training.miniatures.cli",
    "insightedit.training.miniatures.clip",
    "insightedit.training.miniatures.llava",
    "insightedit.training.miniatures.editing",
    "insightedit.training.run",
    "insightedit.training.objectives",
    "insightedit.training.data",
    "insightedit.export.folder",
    "insightedit.cli.main",
)
UNSEEN = {"CUDA_VISIBLE_DEVICES": "", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # the fork server sees no GPU


def start_method() -> Any:
    """The context that parts are started from: a fork server, where there is one, with the libraries loaded."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(LOADED))
    # a library that looks at a GPU when it is imported would start it, and what has started it must not be forked
    before = {name: os.environ.get(name) for name in UNSEEN}
    os.environ.update(UNSEEN)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})
    return found


@dataclass(frozen=True)
class Place:
    """Where a part runs."""

    log: Path  # what it says is added there
    cores: tuple[int, ...]
    threads: int  # of torch
    variables: Mapping[str, str]  # of its environment


def start(context: Any, words: Sequence[str], place: Place) -> multiprocessing.Process:
    """Start `python -m WORDS`."""
    process = context.Process(target=_run_module, args=(list(words), place))
    process.start()
    return process


def _run_module(words: list[str], place: Place) -> None:
    """In the new process: speak into the log, stay on the cores, and be the module."""
    place.log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    for name in UNSEEN:
        os.environ.pop(name, None)
    os.environ.update({**place.variables, "OMP_NUM_THREADS": str(place.threads)})
    with suppress(AttributeError, OSError):  # not on this system
        os.setpgid(0, 0)  # Ctrl-C reaches the program that plans, which tells the parts once
    with suppress(AttributeError, OSError):
        os.sched_setaffinity(0, place.cores)
    import torch

    if torch.cuda._is_in_bad_fork():  # a GPU was started after all: begin anew, with imports
        os.execv(sys.executable, [sys.executable, "-m", *words])
    torch.set_num_threads(place.threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    """Save and stop when the program that plans is gone: a second start of it would meet a run in use."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def stop(process: multiprocessing.Process) -> None:
    """Ask a part to save and to end."""
    with suppress(ProcessLookupError):
        process.terminate()
