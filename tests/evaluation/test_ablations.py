"""Ablations: the rows are what they say, runs go on where they stopped, and the tables tell what was measured."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from benchmarks.ablations import studies as listed
from benchmarks.ablations.cli import app
from benchmarks.ablations.comparisons import crossed, measured
from benchmarks.ablations.experiment import Experiment, Settings, estimate
from benchmarks.ablations.runner import Places, RoundTrips, Runner, StoppedError
from benchmarks.ablations.starts import Start, prepare_start, weights_digest
from benchmarks.ablations.studies import STUDIES, WHOLE, WITHOUT_IAA, find_studies, rows_of
from insightedit import stage3
from insightedit.config.load import load_config
from insightedit.config.schema import Config
from insightedit.evaluation.core.significance import mean_interval
from insightedit.export.folder import export_run
from insightedit.pipelines.loading import DEFAULT_MODEL, load_pipeline
from insightedit.training.checkpoint import stage_weights
from insightedit.training.data import build_mixture

TINY = ["--scale", "tiny", "--steps", "2", "--batch-size", "2", "--count", "3", "--split", "val"]
IAA = find_studies(("iaa",))[0]


def config_of(stage: int, arguments: list[str]) -> Config:
    """What `python -m insightedit.stageN ARGUMENTS` trains with."""
    options = {"--recipe": [], "--overlay": [], "--init-from": []}
    overrides, words = [], iter(arguments)
    for word in words:
        if word in options:
            options[word].append(next(words))
        else:
            overrides.append(word)
    return load_config(options["--recipe"][0], stage, options["--overlay"], overrides)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The study `iaa` with two seeds at toy size, and what its command said."""
    folder = tmp_path_factory.mktemp("ablations")
    words = ["--studies", "iaa", "--seeds", "2", "--out", folder / "runs", "--write", folder / "page.md"]
    result = invoke(*words, *TINY)
    assert result.exit_code == 0, result.output
    return folder, result


@pytest.fixture
def experiment(finished: tuple[Path, Result]) -> Experiment:
    return Experiment.open(finished[0] / "runs", {})


class TestRows:
    def test_every_row_is_a_setting_that_loads(self, tmp_path: Path) -> None:
        """Every stage; a typing mistake in an override would be found in minute 50 otherwise."""
        runner = Runner(Experiment(tmp_path, Settings()))
        for row in rows_of(STUDIES):
            for stage in row.stages:
                config = config_of(stage.number, runner.arguments(runner.experiment.run(row, 1), stage))
                assert config.train.seed == 1
                assert config.train.max_steps == round(200 * stage.steps)
                assert config.recipe == row.recipe
                assert config.generation.resolution == 64

    def test_rows_of_a_study_differ_in_what_they_name_only(self, tmp_path: Path) -> None:
        runner = Runner(Experiment(tmp_path, Settings(scale="tiny")))

        def config(row):
            return config_of(3, runner.arguments(runner.experiment.run(row, 0), row.stages[-1]))

        whole = config(WHOLE)
        for row, part in ((WITHOUT_IAA, "iaa"), (listed.WITHOUT_BIM, "bim")):
            other = config(row)
            assert getattr(other.bridge, part) is None and getattr(whole.bridge, part) is not None
            same = replace(other.bridge, **{part: getattr(whole.bridge, part)})
            assert same == whole.bridge
            assert (other.data, other.optim, other.loss) == (whole.data, whole.optim, whole.loss)
            assert set(whole.stage.trainable) - set(other.stage.trainable) == {f"bridge.{part}.*"}
        kinds = [config(row).bridge.bim.kind for row in (listed.BIM_MLP, listed.BIM_SELF, WHOLE)]
        assert kinds == ["mlp", "self_attention", "two_way"]

    def test_rows_see_the_same_samples_in_the_same_order(self, tmp_path: Path) -> None:
        runner = Runner(Experiment(tmp_path, Settings(scale="tiny")))

        def first(row, seed, count=5):
            run = runner.experiment.run(row, seed)
            mixture = build_mixture(config_of(3, runner.arguments(run, row.stages[-1])))
            return [mixture[index].instruction for index in range(count)]

        assert first(WHOLE, 0) == first(WITHOUT_IAA, 0) == first(listed.BIM_MLP, 0)
        assert first(WHOLE, 0) != first(WHOLE, 1)
        simple, advanced = first(listed.SIMPLE, 0), first(listed.ADVANCED, 0)
        assert all(a != b for a, b in zip(simple, advanced, strict=True))

    def test_joint_rows_draw_what_they_say(self, tmp_path: Path) -> None:
        runner = Runner(Experiment(tmp_path, Settings(scale="mini")))
        kinds = {}
        for row in (listed.JOINT, listed.ONLY_SUBJECT, listed.TWO_TASKS, listed.JOINT_SAMPLES):
            config = config_of(3, runner.arguments(runner.experiment.run(row, 0), row.stages[0]))
            kinds[row.name] = [(s.kind, s.weight) for s in config.data.sources]
            assert config.train.max_steps == (600 if row is listed.JOINT_SAMPLES else 200)
        assert kinds["joint"] == [("scenes", 1.0), ("subjects", 1.0), ("subject_edits", 1.0)] == kinds["joint_3x"]
        assert kinds["only_subject"] == [("subjects", 1.0)]
        assert kinds["editing_and_subject"] == [("scenes", 1.0), ("subjects", 1.0)]

    def test_references_and_names_are_sound(self) -> None:
        for study in STUDIES:
            names = [row.name for row in study.rows]
            assert study.reference in names and len(set(names)) == len(names)
        by_name: dict[str, object] = {}
        for row in (row for study in STUDIES for row in study.rows):
            assert by_name.setdefault(row.name, row) == row  # one name, one setting

    def test_studies_by_name(self) -> None:
        assert [study.name for study in find_studies(("core",))] == ["iaa", "bim", "joint"]
        assert find_studies(("all", "iaa")) == STUDIES
        assert len(rows_of(find_studies(("iaa", "bim")))) == 3  # the whole model is trained once
        with pytest.raises(ValueError, match="unknown study emu: choose from iaa, bim"):
            find_studies(("emu",))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """The embedded default, laid out to be started from."""
    return prepare_start(None, tmp_path_factory.mktemp("start") / "start")


class TestStarts:
    def test_language_model_and_text_branch_are_the_defaults(self, start) -> None:
        assert (start.num_edit_tokens, start.edit_token) == (8, "<img_{index}>")
        copied = (start.folder / "llava" / "model.safetensors").read_bytes()
        assert copied == (DEFAULT_MODEL / "mllm" / "model.safetensors").read_bytes()
        held = load_file(DEFAULT_MODEL / "bridge" / "diffusion_pytorch_model.safetensors")
        weights = stage_weights(start.run)
        assert {name.split(".")[1] for name in weights} == {"qformer", "token_out"}
        assert all(torch.equal(value, held[name.removeprefix("bridge.")].float()) for name, value in weights.items())

    def test_it_is_laid_out_once(self, start) -> None:
        before = (start.folder / "llava" / "config.json").stat().st_mtime_ns
        assert prepare_start(None, start.folder) == start
        assert (start.folder / "llava" / "config.json").stat().st_mtime_ns == before

    def test_a_stage_starts_from_these_weights(self, experiment: Experiment, tmp_path: Path) -> None:
        """Learning rate 0: what the run holds at its end is what it started from."""
        start = prepare_start(experiment.run(WHOLE, 0).model, tmp_path / "start")
        words = ["--overlay", "tiny", "--init-from", str(start.run), "stages=[3]", "comprehension.lora=null"]
        still = ["optim.lr=0", "train.max_steps=1", "train.num_samples=0", "train.engine=torch"]
        trained = "stage.trainable=[bridge.qformer.*,unet.*]"
        folder = tmp_path / "run"
        stage3.main([*words, *still, *start.overrides, trained, f"output_dir={folder}"])
        ours, theirs = stage_weights(folder), stage_weights(start.run)
        assert theirs and all(torch.equal(ours[name], value) for name, value in theirs.items())

    def test_other_folders_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "model_index.json").write_text("{}")
        with pytest.raises(ValueError, match="holds no whole language model with a text branch beside it"):
            prepare_start(tmp_path, tmp_path / "start")
        with pytest.raises(FileNotFoundError, match="No weights below"):
            weights_digest([tmp_path])


class TestRuns:
    def test_what_a_run_leaves(self, experiment: Experiment) -> None:
        run = experiment.run(WITHOUT_IAA, 1)
        record = run.record()
        assert record["row"] == "without_iaa" and record["seed"] == 1
        assert record["stages"][0]["steps"] == 2
        assert record["cost"]["samples"] == 4 and record["cost"]["scenes"] == 3
        assert not (run.folder / "stage3" / "checkpoints").exists()  # optimiser states are large
        assert {p.name for p in run.report("editing").iterdir()} == {"report.json", "records.jsonl", "sheet.png"}
        assert load_pipeline(run.model).bridge.iaa is None
        assert load_pipeline(experiment.run(WHOLE, 1).model).bridge.iaa is not None

    def test_what_is_done_is_not_done_again(self, finished: tuple[Path, Result]) -> None:
        folder, _ = finished
        files = {p: p.stat().st_mtime_ns for p in (folder / "runs" / "runs").rglob("*") if p.is_file()}
        again = invoke("--studies", "iaa", "--seeds", "2", "--out", folder / "runs")
        assert again.exit_code == 0, again.output
        assert "All 4 runs" in again.output
        assert files == {p: p.stat().st_mtime_ns for p in (folder / "runs" / "runs").rglob("*") if p.is_file()}

    def test_a_killed_run_goes_on_to_the_same_model(self, experiment: Experiment, tmp_path: Path) -> None:
        other = replace(experiment, folder=tmp_path)
        runner, run = Runner(other), other.run(WHOLE, 0)
        cut = ["train.max_minutes=1e-9", "train.save_every=1"]
        assert not stage3.main([*runner.arguments(run, WHOLE.stages[0]), *cut]).finished
        assert (run.folder / "stage3" / "checkpoints" / "step-000001").is_dir()
        record = runner.carry_out(run)
        assert record["model_sha256"] == experiment.run(WHOLE, 0).record()["model_sha256"]
        assert record["protocols"] == experiment.run(WHOLE, 0).record()["protocols"]

    def test_a_stopped_run_says_so(self, experiment: Experiment, tmp_path: Path, monkeypatch) -> None:
        other = replace(experiment, folder=tmp_path)
        runner, run = Runner(other), other.run(WHOLE, 0)
        arguments = runner.arguments
        monkeypatch.setattr(runner, "arguments", lambda *a: [*arguments(*a), "train.max_minutes=1e-9"])
        with pytest.raises(StoppedError, match="whole, seed 0: stage 3 stopped at step 1"):
            runner.carry_out(run)
        assert run.record() is None

    def test_a_measured_model_is_not_trained_or_measured_again(
        self, experiment: Experiment, tmp_path: Path, monkeypatch
    ) -> None:
        shutil.copytree(experiment.run(WHOLE, 0).folder, tmp_path / "runs" / "whole" / "seed-0")
        other = replace(experiment, folder=tmp_path)
        run = other.run(WHOLE, 0)
        before = run.record()
        (run.folder / "run.json").unlink()
        monkeypatch.setattr(stage3, "main", None)
        again = Runner(other).carry_out(run)
        assert {**again, "cost": None} == {**before, "cost": None}

    def test_other_settings_are_refused(self, experiment: Experiment) -> None:
        with pytest.raises(ValueError, match=r"holds runs of other settings \(steps was 2, is 7\): leave these"):
            Experiment.open(experiment.folder, {"steps": 7, "count": None})
        with pytest.raises(ValueError, match="start: not the weights that the runs in"):
            replace(experiment, bases={"start": "a"}).keep({"start": "b"})
        changed = replace(WHOLE, overrides=(*WHOLE.overrides, "loss.place=0.0"))
        with pytest.raises(ValueError, match="was made by other settings of the row whole"):
            Runner(experiment).carry_out(experiment.run(changed, 0))
        with pytest.raises(ValueError, match="holds reports of another number of scenes"):
            more = replace(experiment, settings=replace(experiment.settings, count=4))
            Runner(more)._measure(experiment.run(WHOLE, 0))

    def test_numbers_out_of_range_are_refused(self) -> None:
        for wrong, message in (
            ({"scale": "huge"}, "scale is 'huge': choose one of mini, tiny"),
            ({"steps": 0}, "steps is 0: it has to be at least 1"),
            ({"lr": -1.0}, "lr is -1.0: it has to be above 0"),
        ):
            with pytest.raises(ValueError, match=message):
                Settings(**wrong)

    def test_a_damaged_record_is_named(self, tmp_path: Path) -> None:
        run = Experiment(tmp_path, Settings()).run(WHOLE, 0)
        run.folder.mkdir(parents=True)
        (run.folder / "run.json").write_text("{")
        with pytest.raises(ValueError, match=r"run.json is damaged .*: delete it"):
            run.record()

    def test_round_trips_are_remembered(self, experiment: Experiment) -> None:
        pipeline, trips = load_pipeline(experiment.run(WHOLE, 0).model), RoundTrips()
        pictures = [np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in (0, 1, 0)]
        first = trips.of(pipeline)(pictures)
        assert len(trips.kept) == 2 and np.array_equal(first[0], first[2])
        again = trips.of(load_pipeline(experiment.run(WITHOUT_IAA, 1).model))(pictures)
        assert len(trips.kept) == 2 and all(map(np.array_equal, first, again))  # one autoencoder in all rows

    def test_other_foundations_by_kind_of_row(self) -> None:
        places = Places(foundation=Path("a"), interleaved=Path("b"))
        assert places.part(WHOLE, "sd") == "a/sd" and places.part(listed.JOINT, "sd") == "b/sd"
        assert Places(foundation=Path("a")).part(listed.JOINT, "t5") == "a/t5"
        assert Places().part(WHOLE, "ip2p") == "miniature:mini/ip2p"


class TestPlans:
    def test_the_plan_says_what_is_left(self, finished: tuple[Path, Result]) -> None:
        told = invoke("--studies", "iaa,bim", "--seeds", "2", "--out", finished[0] / "runs", "--dry-run")
        assert told.exit_code == 0, told.output
        assert "without IAA [without_iaa]: 2 of 2 done, 0:00:00 left" in told.output
        assert "without BIM [without_bim]: 0 of 2 done" in told.output
        assert "2 of 6 runs to do" in told.output and "from finished runs" in told.output

    def test_core_takes_an_hour_of_one_core(self) -> None:
        experiment = Experiment(Path("nowhere"), Settings())
        runs = experiment.runs(rows_of(find_studies(("core",))), range(3))
        assert len(runs) == 21
        assert estimate(runs, experiment.settings, []).total < 3600

    def test_finished_runs_tell_better(self) -> None:
        experiment = Experiment(Path("nowhere"), Settings(steps=100, batch_size=8, count=10))
        todo = experiment.runs([WHOLE], [0, 1])
        cost = {"name": "editor", "samples": 160, "training_seconds": 20.0, "scenes": 5, "scene_seconds": 1.0}
        told = estimate(todo, experiment.settings, [{"cost": {**cost, "other_seconds": 3.0}}])
        assert told.measured == ("editor",)
        assert told.seconds["whole, seed 0"] == pytest.approx(100 * 20 / 160 * 8 + 10 * 0.2 + 3)

    def test_all_rows_of_a_seed_come_before_the_next_seed(self) -> None:
        runs = Experiment(Path("nowhere"), Settings()).runs(IAA.rows, [0, 1])
        assert [run.name for run in runs[:2]] == ["without_iaa, seed 0", "whole, seed 0"]

    def test_nothing_to_show(self, tmp_path: Path) -> None:
        told = invoke("--table", "--out", tmp_path)
        assert told.exit_code == 2
        assert "holds no finished run of these studies: run without --table" in told.output
        assert list(tmp_path.iterdir()) == []


class TestNumbers:
    def test_a_constant_difference_has_no_width(self) -> None:
        found = crossed(np.full((3, 5), 0.25))
        assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)
        assert found.excludes_zero and found.by_seed == (0.25, 0.25, 0.25)

    def test_a_seed_is_shared_by_its_scenes(self) -> None:
        """Models that differ as wholes: resampling seeds within scenes would average that away."""
        rng = np.random.default_rng(0)
        values = np.array([[0.2], [0.5], [0.8]]) + 0.01 * rng.standard_normal((3, 200))
        ours, within = crossed(values), mean_interval(values.T)
        assert ours.high - ours.low > 0.3
        assert within.high - within.low < 0.1

    def test_one_seed_leaves_the_scenes(self) -> None:
        values = np.random.default_rng(1).standard_normal((1, 400))
        found = crossed(values)
        assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)

    def test_it_covers_the_truth(self) -> None:
        rng = np.random.default_rng(2)
        hits = 0
        for _ in range(200):
            values = rng.standard_normal((8, 1)) + rng.standard_normal((1, 30)) + rng.standard_normal((8, 30))
            found = crossed(values, resamples=400)
            hits += found.low <= 0 <= found.high
        assert 0.85 <= hits / 200 <= 0.99

    def test_no_value_is_refused(self) -> None:
        for wrong in (np.zeros((0, 3)), np.array([[np.nan]]), np.zeros(3)):
            with pytest.raises(ValueError, match="give one finite number for each seed and scene"):
                crossed(wrong)

    def test_differences_pair_seeds_and_scenes(self, experiment: Experiment) -> None:
        (table,) = measured(experiment, IAA, range(2))
        column = listed.PROGRESS
        values = {name: table.values(name, column) for name in ("whole", "without_iaa")}
        expected = [
            np.mean([values["whole"][s][k] - values["without_iaa"][s][k] for k in values["whole"][s]]) for s in (0, 1)
        ]
        found = table.compare("without_iaa", column)
        assert found.difference.by_seed == pytest.approx(expected)
        assert found.difference.value == pytest.approx(np.mean(expected))
        assert table.compare("whole", column) is None
        one = measured(experiment, IAA, [0])[0].compare("without_iaa", column)
        assert one.difference.by_seed == pytest.approx(expected[:1])

    def test_a_column_may_count_some_scenes_only(self, experiment: Experiment) -> None:
        (table,) = measured(experiment, IAA, [0])
        simple = replace(listed.PROGRESS, where=("style", "simple"))
        advanced = replace(listed.PROGRESS, where=("style", "advanced"))
        parts = [table.values("whole", column).get(0, {}) for column in (simple, advanced)]
        assert len(parts[0]) + len(parts[1]) == 3 and not set(parts[0]) & set(parts[1])

    def test_two_protocols_never_share_a_table(self, experiment: Experiment, tmp_path: Path) -> None:
        shutil.copytree(experiment.folder / "runs", tmp_path / "runs")
        path = tmp_path / "runs" / "whole" / "seed-0" / "eval" / "editing" / "report.json"
        report = json.loads(path.read_text())
        report["protocol"]["hash"] = "0" * 16
        path.write_text(json.dumps(report))
        with pytest.raises(ValueError, match="iaa, editing: runs were measured by different protocols"):
            measured(replace(experiment, folder=tmp_path), IAA, range(2))


class TestPages:
    def test_the_command_shows_what_it_does(self, finished: tuple[Path, Result]) -> None:
        output = finished[1].output
        assert "[1 of 4] without_iaa, seed 0; about" in output
        assert "left on one core" in output and "done in 0:00:" in output
        assert "BIM and IAA (InsightEdit)" in output and "autoencoder target" in output

    def test_the_page_tells_what_was_measured(self, finished: tuple[Path, Result], experiment: Experiment) -> None:
        page = (finished[0] / "page.md").read_text()
        (table,) = measured(experiment, IAA, range(2))
        assert f"Experiment `{experiment.hash}`: 2 steps of 2 samples" in page
        assert f"scenes protocol {table.protocol['hash']}; training seeds 0, 1." in page
        assert "python -m benchmarks.ablations --studies iaa --table --write" in page
        value = table.estimate("without_iaa", listed.PROGRESS)
        line = next(line for line in page.splitlines() if line.startswith("| without IAA"))
        assert f" {value.value:.3f}" in line.replace("*", "").replace("<u>", "").replace("</u>", "")
        difference = table.compare("without_iaa", listed.PROGRESS).difference
        assert f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f}), by seed" in page
        assert "PSNR 22.348 and 22.871 dB" in page and "## Not built" in page
        assert not re.search(r"\{\w*\}", page)

    def test_a_table_alone_trains_nothing(self, finished: tuple[Path, Result]) -> None:
        told = invoke("--table", "--studies", "iaa,bim", "--seeds", "3", "--out", finished[0] / "runs")
        assert told.exit_code == 0, told.output
        assert "Fewer seeds than the others, or none yet: without BIM." in told.output


@pytest.mark.slow
def test_every_study_runs_end_to_end(tmp_path: Path) -> None:
    words = ["--studies", "all", "--seeds", "1", "--out", tmp_path / "runs", "--write", tmp_path / "page.md"]
    result = invoke(*words, *TINY)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page.md").read_text()
    assert all(f"## {study.title}\n" in page for study in STUDIES)
    assert "No run of this table is finished" not in page


@pytest.mark.slow
def test_a_model_of_the_start_is_whole_again_when_exported(experiment: Experiment, tmp_path: Path) -> None:
    """Start, stage, export: the language model that was handed on is bit for bit the one that is exported."""
    start = prepare_start(experiment.run(WHOLE, 0).model, tmp_path / "start")
    words = ["--overlay", "tiny", "--init-from", str(start.run), "stages=[3]", "comprehension.lora=null"]
    short = ["train.max_steps=1", "train.num_samples=0", "stage.trainable=[unet.*]", f"output_dir={tmp_path / 'run'}"]
    stage3.main([*words, *short, *start.overrides])
    folder = export_run(tmp_path / "run", tmp_path / "model", dtype="fp16")
    ours, theirs = (load_file(f / "model.safetensors") for f in (folder / "mllm", start.folder / "llava"))
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in theirs)
