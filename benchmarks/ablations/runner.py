"""One run, from start weights to its record: trained by the stages themselves, exported, measured on scenes.

Every step is skipped if its result is there: a finished run is never repeated, a stopped stage goes on from its
checkpoint, a trained model is not trained again, and a measured task is not measured again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from benchmarks.ablations.experiment import RUN_RECORD, Experiment, Run, write_json
from benchmarks.ablations.starts import Start, prepare_start, weights_digest
from benchmarks.ablations.studies import EDITOR_BASES, INTERLEAVED_BASES
from insightedit import stage1, stage2, stage3
from insightedit.config.load import config_root
from insightedit.evaluation.core.editing_methods import edit_with, round_trip_of
from insightedit.evaluation.reporting.report import read_report, write_report
from insightedit.evaluation.scenes.benchmark import SceneSet, evaluate
from insightedit.export.folder import export_run
from insightedit.modeling.pretrained import resolve_model_id
from insightedit.pipelines.loading import load_pipeline

if TYPE_CHECKING:
    from benchmarks.ablations.studies import Row, Stage
    from insightedit.evaluation.core.measure import RoundTrip
    from insightedit.evaluation.scenes.report import SceneReport

STAGES = {1: stage1.main, 2: stage2.main, 3: stage3.main}
WARM_UP = 0.05  # share of the steps
SAVE_EVERY = 100  # steps between two checkpoints
EDIT_BATCH = 16  # pictures per forward pass of the measurement
PLACES = {key for key, _ in (*EDITOR_BASES, *INTERLEAVED_BASES)}  # settings that only say where weights lie


class StoppedError(Exception):
    """A signal stopped the training after a checkpoint; the same command goes on."""


@dataclass(frozen=True)
class Places:
    """Where start weights lie; they may lie elsewhere in the next session, if they are the same.

    Attributes:
        model: finished model that rows with `from_model` start from; None for the embedded default.
        foundation: folder of the miniature base models; None for what `miniature:mini/PART` finds.
        interleaved: the same for rows that read pictures within the text, if it is another folder.
    """

    model: Path | None = None
    foundation: Path | None = None
    interleaved: Path | None = None

    def part(self, row: Row, name: str) -> str:
        """Folder or id of a part of the miniature base models."""
        root = self.foundation
        if self.interleaved is not None and any(part == "pixart" for _, part in row.bases):
            root = self.interleaved
        return f"miniature:mini/{name}" if root is None else str(root / name)


@dataclass
class RoundTrips:
    """Pictures through autoencoders, each once: every row of a recipe has the same autoencoder and the same scenes."""

    kept: dict[tuple[str, bytes], np.ndarray] = field(default_factory=dict)

    def of(self, pipeline: Any) -> RoundTrip:
        """The round trip of a pipeline's autoencoder, remembered."""
        state = hashlib.sha256()
        for value in pipeline.vae.state_dict().values():
            state.update(value.detach().cpu().float().numpy().tobytes())
        name, compute = state.hexdigest(), round_trip_of(pipeline)

        def round_trip(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
            keys = [(name, hashlib.sha256(picture.tobytes()).digest()) for picture in pictures]
            new = {key: p for key, p in zip(keys, pictures, strict=True) if key not in self.kept}
            if new:
                self.kept.update(zip(new, compute(list(new.values())), strict=True))
            return [self.kept[key] for key in keys]

        return round_trip


@dataclass
class Runner:
    """Carries out runs of one experiment.

    Attributes:
        experiment: whose.
        places: where start weights lie.
        round_trips: shared by all runs of this session.
        advance: called with the number of scenes measured since the last call.
    """

    experiment: Experiment
    places: Places = field(default_factory=Places)
    round_trips: RoundTrips = field(default_factory=RoundTrips)
    advance: Callable[[int], object] | None = None

    def bases(self, rows: Sequence[Row]) -> dict[str, str]:
        """Digests of all weights that rows start from, by name.

        Raises:
            FileNotFoundError: if some are missing; the message says how to get them.
        """
        found = {}
        for row in rows:
            for _, part in row.bases:
                name = f"{row.cost.name}/{part}"
                if name not in found:
                    found[name] = weights_digest([Path(resolve_model_id(self._part(row, part)))])
            if self._starts_from_model(row):
                found["start"] = self._start.digest
        return found

    def carry_out(self, run: Run) -> dict[str, Any]:
        """Train, export, measure and write down; only what is missing.

        Returns:
            The run's record.

        Raises:
            StoppedError: if a signal stopped the training.
            ValueError: if the run's folder holds a finished run of other settings.
        """
        done, digest = run.record(), self.settings_digest(run)
        if done is not None:
            if done["settings_digest"] != digest:
                raise ValueError(
                    f"{run.folder} was made by other settings of the row {run.row.name}: recipes, overlays or rows "
                    "changed since. Name another folder with --out."
                )
            return done
        began = time.perf_counter()
        trained = self._train(run)
        if not (run.model / "model_index.json").is_file():
            export_run(self._stage_folder(run, run.row.stages[-1]), run.model, dtype="fp16")
        measured, scene_seconds = self._measure(run)
        seconds = time.perf_counter() - began
        samples = self.experiment.settings.batch_size * sum(t["steps"] for t in trained)
        training_seconds = sum(t["seconds"] for t in trained)
        record = {
            "row": run.row.name,
            "seed": run.seed,
            "settings_digest": digest,
            "stages": trained,
            "protocols": {task: report["protocol"]["hash"] for task, report in measured.items()},
            "model_sha256": weights_digest([run.model]),
            "versions": self._versions(measured),
            "cost": {
                "name": run.row.cost.name,
                "samples": samples,
                "training_seconds": round(training_seconds, 1),
                "scenes": self.experiment.settings.count * len(run.row.tasks),
                "scene_seconds": round(scene_seconds, 1),
                "other_seconds": round(max(0.0, seconds - training_seconds - scene_seconds), 1),
            },
        }
        write_json(run.folder / RUN_RECORD, record)
        for stage in run.row.stages:  # optimiser states; the model itself stays
            shutil.rmtree(self._stage_folder(run, stage) / "checkpoints", ignore_errors=True)
        return record

    def arguments(self, run: Run, stage: Stage) -> list[str]:
        """Command line of one stage of a run, as `python -m insightedit.stageN` takes it."""
        row, settings = run.row, self.experiment.settings
        steps = settings.steps_of(stage)
        overlays = row.overlays if settings.scale == "mini" else ("tiny",)
        words = ["--recipe", row.recipe]
        for name in overlays:
            words += ["--overlay", name]
        before = [other for other in row.stages if other.number < stage.number]
        if before:
            words += ["--init-from", str(self._stage_folder(run, before[-1]))]
        elif self._starts_from_model(row):
            words += ["--init-from", str(self._start.run)]
        budget = (
            f"train.max_steps={steps}",
            f"train.batch_size={settings.batch_size}",
            "train.gradient_accumulation_steps=1",
            f"train.seed={run.seed}",
            "train.engine=torch",
            "train.ema_decay=null",
            "train.num_samples=0",
            f"train.save_every={min(SAVE_EVERY, steps)}",
            "train.keep_checkpoints=1",
            f"optim.lr={settings.lr}",
            "optim.schedule=cosine",
            f"optim.warmup_steps={max(1, round(WARM_UP * steps))}",
        )
        bases = []
        if settings.scale == "mini":
            bases = [f"{key}={self._part(row, part)}" for key, part in row.bases]
        start = self._start.overrides if self._starts_from_model(row) else ()
        output = f"output_dir={self._stage_folder(run, stage)}"
        return [*words, *budget, *bases, *start, *row.overrides, *stage.overrides, output]

    def settings_digest(self, run: Run) -> str:
        """Digest of all that a run's numbers depend on but the weights: its files' contents and its `key=value`."""
        root = config_root()
        told: list[Any] = [run.row.tasks]
        for stage in run.row.stages:
            words = self.arguments(run, stage)
            overlays = [words[i + 1] for i, word in enumerate(words) if word == "--overlay"]
            files = [("recipes", run.row.recipe), ("stages", f"stage{stage.number}")]
            files += [("overlays", name) for name in overlays]
            told += [_parsed(root / folder / f"{name}.yaml") for folder, name in files]
            settings = (word.partition("=") for word in words if "=" in word)
            told.append({key: value for key, _, value in settings if key not in PLACES | {"output_dir"}})
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def _train(self, run: Run) -> list[dict[str, Any]]:
        """What each stage did; nothing is trained where a model was exported already."""
        told = run.folder / "training.json"
        if (run.model / "model_index.json").is_file() and told.is_file():
            return json.loads(told.read_text(encoding="utf-8"))
        done = []
        for stage in run.row.stages:
            summary = STAGES[stage.number](self.arguments(run, stage))
            if not summary.finished:
                raise StoppedError(f"{run.name}: stage {stage.number} stopped at step {summary.steps}")
            done.append(
                {
                    "stage": stage.number,
                    "steps": summary.steps,
                    "seconds": round(summary.seconds, 1),
                    "losses": {name: round(value, 6) for name, value in summary.losses.items()},
                }
            )
        write_json(told, done)
        return done

    def _measure(self, run: Run) -> tuple[dict[str, Mapping[str, Any]], float]:
        """Reports by task, and the seconds that measuring took."""
        settings = self.experiment.settings
        reports, seconds, pipeline = {}, 0.0, None
        for task in run.row.tasks:
            folder = run.report(task)
            if not (folder / "report.json").is_file():
                began = time.perf_counter()
                if pipeline is None:
                    pipeline = load_pipeline(run.model, device="cpu")
                    pipeline.set_progress_bar_config(disable=True)
                report = self._measure_task(pipeline, task)
                elapsed = round(time.perf_counter() - began, 1)
                write_report(report.with_settings({"row": run.row.name, "seconds": elapsed}), folder)
            reports[task] = read_report(folder)[0]
            seconds += reports[task]["settings"]["seconds"]
        odd = [t for t, r in reports.items() if r["protocol"]["count"] != settings.count]
        if odd:
            raise ValueError(
                f"{run.folder} holds reports of another number of scenes ({', '.join(odd)}): delete its folder eval."
            )
        return reports, seconds

    def _measure_task(self, pipeline: Any, task: str) -> SceneReport:
        from insightedit.pipelines.base import software_versions

        settings = self.experiment.settings
        report = evaluate(
            edit_with(pipeline, batch_size=EDIT_BATCH),
            SceneSet(settings.count, int(pipeline.config["resolution"]), settings.split, settings.scene_seed, 0, task),
            batch_size=EDIT_BATCH,
            round_trip=self.round_trips.of(pipeline),
            progress=self.advance,
        )
        return report.with_settings({"versions": software_versions()})

    def _starts_from_model(self, row: Row) -> bool:
        return row.from_model and self.experiment.settings.scale == "mini"

    @cached_property
    def _start(self) -> Start:
        return prepare_start(self.places.model, self.experiment.start_folder)

    def _part(self, row: Row, name: str) -> str:
        scale = self.experiment.settings.scale
        return self.places.part(row, name) if scale == "mini" else f"miniature:{scale}/{name}"

    def _stage_folder(self, run: Run, stage: Stage) -> Path:
        return run.folder / f"stage{stage.number}"

    @staticmethod
    def _versions(reports: Mapping[str, Mapping[str, Any]]) -> Mapping[str, str]:
        return next(iter(reports.values()))["settings"]["versions"]


def _parsed(path: Path) -> Any:
    """Content of a YAML file, without its comments."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
