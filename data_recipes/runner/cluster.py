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

from data_recipes.runner.codec import read_chunks, write_chunks
from data_recipes.runner.config import RecipeConfig
from data_recipes.runner.flow import RunStopped, Unit, one_line
from data_recipes.runner.folder import OutFolder
from data_recipes.runner.local import Job, Report, RunEngine
from data_recipes.runner.progress import ProgressReporter, Stopper
from data_recipes.runner.worker import Task, Worker

READING = -1  # the stage before the first step
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else notices of its C++ parts appear between ours
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
STORE_BYTES = 2**30  # of the object store of a cluster of our own; units wait in it between stages


class RayEngine(RunEngine):
    """Works units off on a Ray cluster: the one that is connected, the one of `engine.address`, or one of its own."""

    def __init__(self, job: Job, watch: ProgressReporter, stopper: Stopper) -> None:
        require_ray()
        super().__init__(job, watch, stopper)
        self.needs = [bool(step.needs) for step in Worker(job.config).steps]

    def run(self, tasks: Sequence[Task]) -> Iterator[Report]:
        """See `RunEngine`."""
        if not tasks:
            return
        with connected(self.job.config, sum(self.needs)):
            from ray.exceptions import RayError

            try:
                yield from self._hear(self._dataset(tasks))
            except RayError as error:
                raise RunStopped(
                    f"ray gives up: {one_line(error)[:300]}; what is finished is kept, and the same command goes on "
                    "from there."
                ) from error

    def _hear(self, data: Any) -> Iterator[Report]:
        for row in data.iter_rows():
            if row["stopped"]:
                raise RunStopped(row["stopped"])
            report = json.loads(row["report"])
            for step, records in report["entered"].items():
                self.watch.passed(step, records)
            yield report
            if self.stopper.asked:
                return

    def _dataset(self, tasks: Sequence[Task]) -> Any:
        import ray

        engine = self.job.config.engine
        told = Told(self.job, os.getcwd(), tuple(sys.path))
        rows = [_row(json.dumps(asdict(task.unit))) for task in tasks]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        common: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": engine.num_cpus}
        for number in range(READING, len(self.needs) + 1):
            if 0 <= number < len(self.needs) and self.needs[number]:
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


@dataclass(frozen=True)
class Told:
    """What stages are told.

    Attributes:
        job: of the run.
        cwd: folder that the run was started in, so that relative names mean the same.
        paths: where modules are found.
    """

    job: Job
    cwd: str
    paths: tuple[str, ...]

    def worker(self) -> Worker:
        """A worker in the process of a stage."""
        sys.path.extend(path for path in self.paths if path not in sys.path)
        if Path(self.cwd).is_dir():
            os.chdir(self.cwd)
        engine = self.job.config.engine
        device = "cuda" if engine.num_gpus else (engine.devices or [None])[0]  # Ray shows an actor its own GPUs only
        return Worker(self.job.config, device=device)


class Stage:
    """An actor that takes units through one step, with its models loaded."""

    def __init__(self, told: Told, number: int) -> None:
        self.told, self.number, self.worker = told, number, told.worker()

    def __call__(self, table: Any) -> Any:
        """A unit after the step."""
        return _pass(table, self.told.job, self.number, self.worker)


_WORKERS: dict[str, Worker] = {}  # by the run's settings: one for all tasks of a process


def pass_stage(table: Any, told: Told, number: int) -> Any:
    """A unit after a step without models; -1 reads it, the number of steps writes it."""
    named = json.dumps(asdict(told.job.config)) + told.cwd
    if named not in _WORKERS:
        _WORKERS.clear()
        _WORKERS[named] = told.worker()
    return _pass(table, told.job, number, _WORKERS[named])


def _pass(table: Any, job: Job, number: int, worker: Worker) -> Any:
    import pyarrow

    row = table.to_pylist()[0]
    if not row["stopped"]:
        before = json.loads(row["report"]) if row["report"] else {}
        try:
            flow, report = _work(worker, Unit(**json.loads(row["unit"])), number, row["flow"], job)
            row = {**row, "flow": flow, "report": json.dumps(_joined(before, report))}
        except Exception as error:  # told to the first process in the row: Ray would wrap it, and retry
            row = {**row, "flow": b"", "stopped": one_line(error)}
    names = {name: pyarrow.string() for name in row} | {"flow": pyarrow.large_binary()}
    return pyarrow.Table.from_pylist([row], schema=pyarrow.schema(names))


def _work(worker: Worker, unit: Unit, number: int, flow: bytes, job: Job) -> tuple[bytes, Report]:
    """One stage of a unit: the records after it, and what was spent."""
    account, last = worker.begin(), len(worker.steps)
    counts, buffer = None, BytesIO()
    if number == last:
        counts = worker.write(unit, OutFolder(job.path, job.config), job.inputs, read_chunks(BytesIO(flow)))
    elif number == READING:
        write_chunks(buffer, worker.read(unit, _nobody))
    else:
        numbers = range(number, number + 1)
        write_chunks(buffer, worker.through(read_chunks(BytesIO(flow)), numbers, _nobody))
    return buffer.getvalue(), worker.report(Task(unit, max(number, 0), number + 1), account, counts)


def _nobody(step: str, records: int) -> None:
    """Progress is told with the reports."""


def _row(unit: str) -> dict[str, Any]:
    return {"unit": unit, "flow": b"", "report": "", "stopped": ""}


def _joined(before: Mapping[str, Any], report: Report) -> Report:
    """Reports of two stages as one: numbers are added up, lists put together."""
    joined = dict(before)
    for name, value in report.items():
        if isinstance(value, dict) and name != "counts":
            joined[name] = _joined(joined.get(name, {}), value)
        elif name in ("unit", "counts"):
            joined[name] = value
        else:
            joined[name] = joined[name] + value if name in joined else value
    return joined


def require_ray() -> None:
    """Say what to install.

    Raises:
        RunStopped: if Ray Data cannot be imported.
    """
    try:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        import ray.data  # noqa: F401
    except ImportError as error:
        raise RunStopped(
            f"the engine ray needs Ray Data ({error}): pip install 'insightedit[ray]', or choose engine.name=local."
        ) from None


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
def connected(config: RecipeConfig, pools: int) -> Iterator[None]:
    """A connection to a cluster; one of our own is local, silent, and gone afterwards."""
    import ray

    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    place, ours = None, not ray.is_initialized()
    if ours and config.engine.address is not None:
        with _muffled():
            ray.init(address=config.engine.address, **quiet)
    elif ours:
        place = tempfile.mkdtemp(prefix="ir", dir=None)  # short: names of sockets may not be longer than 107 bytes
        wanted = config.engine.num_cpus * config.engine.workers * (pools + 1) + 1
        with _muffled():
            ray.init(
                num_cpus=int(max(wanted, os.cpu_count() or 1)),
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _node_ip_address="127.0.0.1",
                _temp_dir=place,
                **quiet,
            )
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
