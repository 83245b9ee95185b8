"""The engine of a cluster: Ray Data, one `map_batches` for each step, units flowing through.

Steps with models run in pools of actors that load these models only, steps without in tasks. The last stage writes a
unit's files, so the output folder has to be one that all machines see.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from data_recipes.runner.config import RecipeConfig
from data_recipes.runner.flow import RunStopped, Unit, one_line
from data_recipes.runner.local import Phases
from data_recipes.runner.progress import ProgressReporter, Stopper
from data_recipes.runner.rows import read_chunks, write_chunks
from data_recipes.runner.worker import Report, Task, Worker, plan_steps

READING = -1  # the stage before the first step; the number of steps is the one that writes
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else notices of its C++ parts appear between ours
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
STORE_BYTES = 2**30  # of the object store of a cluster of our own; units wait in it between stages


def run_on_ray(
    config: RecipeConfig, inputs: int, phases: Phases, watch: ProgressReporter, stopper: Stopper
) -> Iterator[Report]:
    """Reports of tasks done on the cluster connected to, at `engine.address`, or our own; RunStopped if none can."""
    try:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        import ray.data  # noqa: F401
        from ray.exceptions import RayError
    except ImportError as error:
        raise RunStopped(
            f"the engine ray needs Ray Data ({error}): pip install 'insightedit[ray]', or choose engine.name=local."
        ) from None
    needs = [bool(step.needs) for step in plan_steps(config)]
    (tasks,) = phases  # units stream through all steps
    told = Told(config, inputs, os.getcwd(), tuple(sys.path))
    with _connected(config, sum(needs)):
        try:
            for row in _dataset(told, needs, tasks).iter_rows():
                if row["stopped"]:
                    raise RunStopped(row["stopped"])
                report = json.loads(row["report"])
                for step, records in report["entered"].items():
                    watch.passed(step, records)
                yield report
                if stopper.asked:
                    return
        except RayError as error:
            raise RunStopped(
                f"ray gives up: {one_line(error)[:300]}; what is finished is kept, and the same command goes on from "
                "there."
            ) from error


@dataclass(frozen=True)
class Told:
    """What stages are told: the run, and where its relative names and its modules are found."""

    config: RecipeConfig
    inputs: int
    cwd: str
    paths: tuple[str, ...]

    def worker(self) -> Worker:
        """A worker in the process of a stage."""
        sys.path.extend(path for path in self.paths if path not in sys.path)
        if Path(self.cwd).is_dir():
            os.chdir(self.cwd)
        engine = self.config.engine
        device = "cuda" if engine.num_gpus else (engine.devices or [None])[0]  # Ray shows an actor its own GPUs only
        return Worker(self.config, self.inputs, device=device)


def _dataset(told: Told, needs: Sequence[bool], tasks: Sequence[Task]) -> Any:
    """Units that flow through reading, the steps, of which some `needs` models, and writing."""
    import ray

    engine = told.config.engine
    rows = [{"unit": json.dumps(asdict(task.unit)), "flow": b"", "report": "", "stopped": ""} for task in tasks]
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    common: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": engine.num_cpus}
    for number, has_models in enumerate([False, *needs, False], READING):
        if has_models:
            data = data.map_batches(
                Stage,
                fn_constructor_args=(told, number),
                compute=ray.data.ActorPoolStrategy(size=engine.workers),
                num_gpus=engine.num_gpus or None,
                **common,
            )
        else:
            data = data.map_batches(pass_stage, fn_args=(told, number), **common)
    return data


class Stage:
    """An actor that takes units through one step, with its models loaded."""

    def __init__(self, told: Told, number: int) -> None:
        self.number, self.worker = number, told.worker()

    def __call__(self, table: Any) -> Any:
        """A unit after the step."""
        return _pass(table, self.number, self.worker)


_WORKERS: dict[str, Worker] = {}  # by the run's settings: one for all tasks of a process


def pass_stage(table: Any, told: Told, number: int) -> Any:
    """A unit after a step without models."""
    named = json.dumps(asdict(told.config)) + told.cwd
    if named not in _WORKERS:
        _WORKERS.clear()
        _WORKERS[named] = told.worker()
    return _pass(table, number, _WORKERS[named])


def _pass(table: Any, number: int, worker: Worker) -> Any:
    """One stage of a unit: the records after it, and what was spent."""
    import pyarrow

    row = table.to_pylist()[0]
    if not row["stopped"]:
        counts, buffer, unit = None, BytesIO(), Unit(**json.loads(row["unit"]))
        worker.begin()
        try:
            if number == READING:
                write_chunks(buffer, worker.read(unit))
            elif number == len(worker.steps):
                counts = worker.write(unit, read_chunks(BytesIO(row["flow"])))
            else:
                steps = worker.steps[number : number + 1]
                write_chunks(buffer, worker.through(read_chunks(BytesIO(row["flow"])), steps))
            before = json.loads(row["report"] or "{}")
            report = _joined(before, worker.report(Task(unit, max(number, 0), number + 1), counts))
            row = {**row, "flow": buffer.getvalue(), "report": json.dumps(report)}
        except Exception as error:  # told to the first process in the row: Ray would wrap it, and retry
            row = {**row, "flow": b"", "stopped": one_line(error)}
    names = {name: pyarrow.string() for name in row} | {"flow": pyarrow.large_binary()}
    return pyarrow.Table.from_pylist([row], schema=pyarrow.schema(names))


def _joined(before: Mapping[str, Any], report: Report) -> Report:
    """Reports of two stages as one: numbers are added up, lists put together."""
    joined = dict(before)
    for name, value in report.items():
        if name not in before or name == "unit":
            joined[name] = value
        else:
            joined[name] = _joined(before[name], value) if isinstance(value, dict) else before[name] + value
    return joined


@contextmanager
def _muffled() -> Iterator[None]:
    """Nothing on the error stream: Ray's C++ parts announce there that they will be silent."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _connected(config: RecipeConfig, pools: int) -> Iterator[None]:
    """A connection to a cluster; one of our own is local, silent, and gone afterwards."""
    import ray

    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    place, ours, engine = None, not ray.is_initialized(), config.engine
    if ours:
        how: dict[str, Any] = {"address": engine.address}
        if engine.address is None:
            place = tempfile.mkdtemp(prefix="ir", dir=None)  # short: names of sockets hold 107 bytes at most
            wanted = engine.num_cpus * engine.workers * (pools + 1) + 1
            how = {
                "num_cpus": int(max(wanted, os.cpu_count() or 1)),
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES,
                "_node_ip_address": "127.0.0.1",
                "_temp_dir": place,
            }
        with _muffled():
            ray.init(**how, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    context = ray.data.DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield
    finally:
        context.enable_progress_bars = shown
        if ours:
            ray.shutdown()
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
