"""A run from its settings to a finished folder; goes on where one of the same settings was stopped."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.backends.base import load_backend
from data_recipes.runner.config import RecipeConfig, check
from data_recipes.runner.flow import RunStopped, Unit, units_of
from data_recipes.runner.folder import LOG, MANIFEST, WORK, OutFolder, write_json
from data_recipes.runner.inputs import open_input
from data_recipes.runner.local import run_in_process, run_in_processes
from data_recipes.runner.progress import Interrupted, ProgressReporter, Stopper
from data_recipes.runner.statistics import CELLS_SHOWN, UnitCounts
from data_recipes.runner.steps import Step
from data_recipes.runner.worker import Task, doubled, plan_steps
from insightedit.chat.clients import now
from insightedit.files import installed_versions, write_atomically, write_text

LIBRARIES = ("insightedit", "numpy", "pillow", "pyarrow", "torch", "torchvision", "transformers", "diffusers")
REJECTED, CARD, STATISTICS = "rejected.jsonl", "README.md", "statistics.html"
REFUSED_SHEET = "refused.png"


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    config: RecipeConfig
    steps: Sequence[Step]
    inputs: int
    units: Sequence[Unit]  # what the inputs are divided into
    backends: Mapping[str, Any]  # name -> kind, name of the model and settings


def plan_run(config: RecipeConfig) -> Plan:
    """Look at everything a run needs, before anything is done; what does not fit is a ValueError of one sentence."""
    check(config)
    steps = plan_steps(config)
    backends = {}
    for name in dict.fromkeys(need for step in steps for need in step.needs):
        entry = config.backends[name]
        backend = load_backend(name, entry)
        backends[name] = {"kind": entry.get("kind"), "model": backend.name, "settings": _plain(backend.settings)}
    source = config.source
    there = len(open_input(source))
    inputs = max(0, there - source.start)
    inputs = inputs if source.count is None else min(inputs, source.count)
    if inputs == 0:
        raise ValueError(
            f"the source {source.kind} {source.path or ''} has {there} inputs, and source.start is {source.start}: "
            "there is nothing to do."
        )
    return Plan(config, steps, inputs, units_of(source.start, inputs, config.output.shard_size), backends)


def run_recipe(config: RecipeConfig, watch: ProgressReporter | None = None) -> dict[str, Any]:
    """Run a recipe, or finish a run of the same settings in the same folder; gives the manifest.

    Interrupted if asked to stop by SIGINT or SIGTERM, after the units in work; RunStopped if it cannot go on, what is
    finished being kept; ValueError if the settings or the folder do not fit, or another run works in it.
    """
    watch = watch or ProgressReporter()
    if config.output.path is None:
        raise ValueError("output.path is not set: name a folder with --out.")
    plan = plan_run(config)
    folder = OutFolder(config)
    with folder.lock():
        begun = _begin(plan, folder.claim())
        watch.begin(plan.inputs, len(plan.units), [step.name for step in plan.steps])
        with Stopper(watch) as stopper:
            _work(folder, plan, begun, watch, stopper)
        return _finish(folder, plan, begun)


def _begin(plan: Plan, before: dict[str, Any] | None) -> dict[str, Any]:
    """The manifest as far as it is known before the work: what the run depends on; `before` is an earlier session's."""
    versions = {"python": ".".join(map(str, sys.version_info[:3])), **installed_versions(*LIBRARIES)}
    known = [] if before is None else before["versions"]
    return {
        "recipe": plan.config.recipe,
        "settings": plan.config.deciding(),
        "digest": plan.config.digest,
        "seed": plan.config.seed,
        "inputs": plan.inputs,
        "steps": [
            {
                "name": step.name,
                "needs": list(step.needs),
                "settings": _plain(step.settings),
                "prompts": {name: sha256(text.encode()).hexdigest() for name, text in step.prompts.items()},
            }
            for step in plan.steps
        ],
        "backends": plan.backends,
        "versions": known if versions in known else [*known, versions],
    }


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(settings), default=str))


def _work(folder: OutFolder, plan: Plan, begun: dict[str, Any], watch: ProgressReporter, stopper: Stopper) -> None:
    """Do the units that are not whole yet."""
    keys, left = Keys(), []
    for unit in plan.units:
        counts = folder.whole(unit)
        if counts is None:
            left.append(unit)
            continue
        keys.add(counts["keys"])
        watch.kept(unit.count, counts)
    if not left:
        return
    write_json(folder.path / MANIFEST, {**begun, "complete": False})
    engine = plan.config.engine
    folder.note(what="begin", at=now(), engine=vars(engine), units=len(left))
    if engine.name == "ray":
        from data_recipes.runner.cluster import run_on_ray as run_tasks
    else:
        run_tasks = run_in_process if engine.workers == 1 else run_in_processes
    # what lies between steps already is not done again
    steps, is_local = len(plan.steps), engine.name == "local"
    done = {unit.number: folder.steps_done(unit, steps) if is_local else 0 for unit in left}
    if engine.is_phased and steps > 1:
        phases = [[Task(unit, n, n + 1) for unit in left if done[unit.number] <= n] for n in range(steps)]
    else:
        phases = [[Task(unit, done[unit.number], steps) for unit in left]]
    with closing(run_tasks(plan.config, plan.inputs, phases, watch, stopper)) as reports:
        for report in reports:
            if "counts" in report:
                keys.add(report["counts"].pop("keys"))
            folder.note(what="unit", **report)
            watch.unit_done(report)
    if stopper.asked:
        raise Interrupted(
            f"stopped as asked; {folder.path} keeps what is finished, and the same command goes on from there."
        )
    folder.note(what="end", at=now())


class Keys:
    """Keys of inputs so far, eight bytes each: two inputs of one key would give two pairs of one key."""

    def __init__(self) -> None:
        self.seen = np.empty(0, np.uint64)

    def add(self, keys: Iterable[str]) -> None:
        """Take the keys of a unit; RunStopped if one was there before."""
        named = {int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big"): key for key in keys}
        new = np.fromiter(named, np.uint64, len(named))
        places = np.searchsorted(self.seen, new)
        there = places < len(self.seen)
        again = new[there][self.seen[places[there]] == new[there]]
        if len(again):
            raise RunStopped(doubled(named[int(again[0])]))
        self.seen = np.sort(np.concatenate([self.seen, new]))


def _finish(folder: OutFolder, plan: Plan, begun: dict[str, Any]) -> dict[str, Any]:
    """Everything that is said about the whole run, from the counts of its units."""
    from data_recipes.runner.card import SHEET, dataset_card
    from data_recipes.runner.statistics import contact_sheet, statistics_page
    from insightedit.images.sheets import save_sheet

    shards, total = [], UnitCounts(most_cells=CELLS_SHOWN)
    with write_atomically(folder.path / REJECTED, durable=True) as aside, aside.open("w", encoding="utf-8") as file:
        for unit in plan.units:
            counts = json.loads(folder.sidecar(unit).read_text(encoding="utf-8"))
            for one in counts["rejects"]:
                file.write(json.dumps(one, ensure_ascii=False) + "\n")
            if counts["shard"] is not None:
                shards.append({**counts["shard"], "pairs": counts["pairs"], "tasks": counts["counts"]["tasks"]})
            total.add_unit(counts)
    told = total.summary([step.name for step in plan.steps])
    manifest = {
        **begun,
        "complete": True,
        "pairs": told["pairs"],
        "tasks": told["counts"]["tasks"],
        "passed": told["steps"],
        "rejects": told["rejects_by_reason"],
        "shards": shards,
    }
    for name, what, title in (
        (SHEET, "accepted", f"{plan.config.recipe}: before | after | mask"),
        (REFUSED_SHEET, "refused", f"{plan.config.recipe}: pairs that were refused"),
    ):
        if told["cells"][what]:
            save_sheet(contact_sheet(told["cells"][what], title), folder.path / name)
    write_text(folder.path / STATISTICS, statistics_page(manifest, told), durable=True)
    write_text(folder.path / CARD, dataset_card(manifest, plan.config), durable=True)
    write_json(folder.path / MANIFEST, manifest)
    shutil.rmtree(folder.path / WORK, ignore_errors=True)
    folder.sweep()  # of workers that died at the very end
    return manifest


def usage_of(folder: Path) -> dict[str, dict[str, float]]:
    """What backends have used in all sessions of a run, from its log: backend -> calls, tokens, cost, seconds."""
    path = Path(folder) / LOG
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with suppress(ValueError):  # cut short by a kill
            for name, used in json.loads(line).get("usage", {}).items():
                total[name].update(used)
    return {name: dict(used) for name, used in total.items()}
