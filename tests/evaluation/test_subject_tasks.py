"""Subjects under the benchmark: controls, records, exchange with other editors, a real pipeline, the command line."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner, Result

from insightedit.cli import eval as cli
from insightedit.evaluation.benchmarks.scenes import dump_samples, find_results
from insightedit.evaluation.core.editing_methods import (
    EditingMethod,
    FolderOutputs,
    check_settings_of,
    check_takes_references,
    edit_with,
    noise_seed,
    pictures_of,
)
from insightedit.evaluation.metrics.masks import match_size
from insightedit.evaluation.reporting import pictures
from insightedit.evaluation.reporting.report import read_report, write_report
from insightedit.evaluation.scenes.benchmark import SceneSet, evaluate, sample_id, scene_sampler
from insightedit.evaluation.scenes.report import SceneReport
from insightedit.images import sheets
from insightedit.scenes import SceneSampler, SubjectEditSampler, SubjectSampler

SIZE, COUNT = 32, 24
SAMPLERS = {"subject": SubjectSampler, "subject_editing": SubjectEditSampler}
TASKS = tuple(SAMPLERS)


def oracle(samples: Sequence[Any]) -> list[np.ndarray]:
    return [sample.target for sample in samples]


def first_reference(samples: Sequence[Any]) -> list[np.ndarray]:
    return [sample.references[0] for sample in samples]


def start(sample: Any) -> np.ndarray:
    return sample.empty if sample.source is None else sample.source


def run(task: str, edit_fn: Callable = oracle, **options: Any) -> SceneReport:
    given = {"count": COUNT, "size": SIZE, "task": task, **options}
    which = {one.name: given.pop(one.name) for one in fields(SceneSet) if one.name in given}
    return evaluate(edit_fn, SceneSet(**which), **given)


def dim(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """An autoencoder that loses a little everywhere."""
    return [(picture * 0.97).astype(np.uint8) for picture in pictures]


@pytest.fixture(scope="module")
def reports() -> dict[str, SceneReport]:
    return {task: run(task, pairs=6, round_trip=dim) for task in TASKS}


def test_the_oracle_succeeds_and_every_control_fails(reports: dict[str, SceneReport]) -> None:
    success = {task: {row.name: row.success.value for row in report.rows} for task, report in reports.items()}
    always = {"model": 1.0, "oracle": 1.0, "autoencoder_target": 1.0, "wrong_subject": 0.0, "copy_reference": 0.0}
    creation = {"empty_backdrop": 0.0, "blank_canvas": 0.0, "autoencoder_backdrop": 0.0}
    edit = {"copy_source": 0.0, "wrong_object": 0.0, "autoencoder_source": 0.0}
    for task, rows in success.items():
        assert rows.pop("oracle_tint") < 0.2, task  # where the whole picture changes, there is no background to keep
    assert success == {"subject": always | creation, "subject_editing": always | edit}
    for report in reports.values():
        assert report.pairs.both.value == 1.0
        for row in (row for row in report.rows if row.name != "oracle_tint"):
            low, high = (1 - 0.2, 1.0) if row.success.value else (0.0, 0.2 if row.success.n > 20 else 0.4)
            assert low <= row.success.low <= row.success.value <= row.success.high <= high


def test_controls_say_what_is_wrong_with_them(reports: dict[str, SceneReport]) -> None:
    new = {row.name: row for row in reports["subject"].rows}
    assert new["empty_backdrop"].verdicts == {"no subject": COUNT}
    assert new["blank_canvas"].verdicts == {"blank canvas": COUNT}
    assert new["copy_reference"].verdicts == {"reference copied": COUNT}
    assert new["wrong_subject"].verdicts == {"wrong subject": COUNT}
    assert new["empty_backdrop"].means["progress"] == 0.0 and new["oracle"].means["progress"] == 1.0
    assert new["blank_canvas"].means["leak"] > 0.5, "the backdrop is not there"
    edits = {row.name: row for row in reports["subject_editing"].rows}
    assert edits["copy_source"].verdicts == {"no edit": COUNT}
    assert edits["wrong_subject"].verdicts == {"wrong subject": COUNT}
    assert set(edits["wrong_object"].verdicts) == {"wrong object"}


@pytest.mark.parametrize("task", TASKS)
def test_every_wrong_candidate_fails(task: str) -> None:
    from insightedit.evaluation.scenes.benchmark import case_of
    from insightedit.evaluation.scenes.scoring import score_edit

    verdicts = set()
    sampler = SAMPLERS[task]("test", SIZE)
    for index in range(16):
        case = case_of(sampler[index])
        assert score_edit(case, case.target).success
        for name, rival in case.rivals.items():
            scores = score_edit(case, rival)
            assert not scores.success and scores.nearest == name
            verdicts.add(scores.verdict)
    assert verdicts >= {"wrong subject", "wrong tint", "wrong place", "reference copied"}
    assert ("some subjects only" in verdicts) == ("wrong backdrop" in verdicts) == (task == "subject")


@pytest.mark.parametrize("task", TASKS)
def test_one_who_ignores_the_tint_loses_the_pairs(task: str) -> None:
    """Draws the right thing in the right place, but always as the first half of a pair has it."""
    sampler = SAMPLERS[task]("test", SIZE)
    queue: list[np.ndarray | None] = [None] * COUNT  # the singles come first
    queue += [sampler.pair(i)[0].target for i in range(6) for _ in "ab"]

    def colour_blind(samples: Sequence[Any]) -> list[np.ndarray]:
        return [sample.target if (first := queue.pop(0)) is None else first for sample in samples]

    pairs = run(task, colour_blind, pairs=6).pairs
    assert (pairs.both.value, pairs.single.value) == (0.0, 0.5)


def test_a_blur_with_the_right_colour_is_partly_right() -> None:
    """The scale between none and all: blurred targets of new pictures on plain backdrops."""

    def blurred(samples: Sequence[Any]) -> list[np.ndarray]:
        return [ndimage.gaussian_filter(s.target.astype(float), (1, 1, 0)).round().astype(np.uint8) for s in samples]

    row = run("subject", blurred).model
    assert 0.2 < row.success.value < 1.0
    assert 0.4 < row.means["progress"] < 1.0


def test_the_default_task_and_its_protocol_are_what_they_were() -> None:
    """Numbers of models already measured stay comparable: the same scenes, rules and hash as before other tasks."""
    report = evaluate(oracle, SceneSet(3, 32, pairs=1))
    assert report.protocol.name == "scenes_v2" and report.protocol.hash == "758f7465efd7eab4"
    assert report.lines[0]["sample_id"] == "test-32px-s0-000000"
    names = ["model", "copy_source", "oracle", "wrong_object", "oracle_tint"]
    assert [row.name for row in report.rows] == names


def test_each_task_has_rules_of_its_own(reports: dict[str, SceneReport]) -> None:
    names = {task: report.protocol.name for task, report in reports.items()}
    assert names == {"subject": "scenes_subject_v2", "subject_editing": "scenes_subject_editing_v2"}
    assert len({report.protocol.hash for report in reports.values()}) == 2
    again = run("subject", first_reference, pairs=6)
    assert again.protocol.hash == reports["subject"].protocol.hash, "the editor does not change the protocol"


def test_another_reference_is_another_protocol() -> None:
    class OtherPaper(SubjectSampler):
        """The same instructions and targets; references on other paper."""

        def __getitem__(self, index: int) -> Any:
            from dataclasses import replace

            sample = super().__getitem__(index)
            papered = tuple(replace(s, paper=(s.paper + 1) % 6) for s in sample.subjects)
            return replace(sample, subjects=papered)

    plain, other = (run("subject", count=3, sampler=s("test", SIZE)) for s in (SubjectSampler, OtherPaper))
    assert plain.model.success.value == other.model.success.value == 1.0
    assert plain.protocol.data_sha256 != other.protocol.data_sha256


def test_names_tell_the_task() -> None:
    assert sample_id("val", 64, 3, 12, task="subject") == "subject-val-64px-s3-000012"
    name = sample_id("val", 64, 3, 12, "b", "subject_editing")
    assert name == "pair-subject_editing-val-64px-s3-000012-b"
    assert isinstance(scene_sampler("editing", split="val", size=32, seed=0), SceneSampler)
    with pytest.raises(ValueError, match="unknown task 'movies': choose one of editing, subject, subject_editing"):
        scene_sampler("movies", split="val", size=32, seed=0)
    with pytest.raises(ValueError, match="unknown task 'movies'"):
        evaluate(oracle, SceneSet(1, 32, task="movies"))


@pytest.mark.parametrize("task", TASKS)
def test_files_and_sheet(reports: dict[str, SceneReport], task: str, tmp_path: Path) -> None:
    report = reports[task]
    write_report(report, tmp_path)
    written, records = read_report(tmp_path)
    assert written["protocol"]["hash"] == report.protocol.hash
    assert {row["name"]: row["success"]["value"] for row in written["rows"]}["copy_reference"] == 0.0
    assert all(r["sample_id"].removeprefix("pair-").startswith(f"{task}-test-") for r in records)
    most = max(len(e.references) for e in (*report.worst, *report.random))
    assert most == (2 if task == "subject" else 1)
    with Image.open(tmp_path / "sheet.png") as sheet:
        width = (most + 4) * (pictures.CELL + sheets.GAP) - sheets.GAP
        assert sheet.width == 2 * (width + sheets.MARGIN) + sheets.MARGIN
    example = next(e for e in report.random if len(e.references) == 1)
    assert example.is_new == (task == "subject")
    card = pictures.example_card(example)
    assert [one.label for one in card.pictures][1] == ("backdrop" if example.is_new else "source")
    wanted = (example.references[0], example.source, example.output, example.target)
    for shown, picture in zip(card.pictures, wanted, strict=False):
        assert np.array_equal(shown.rgb, picture) and shown.is_exact


@pytest.mark.parametrize("task", TASKS)
def test_other_editors_get_references_and_no_answers(task: str, tmp_path: Path) -> None:
    scenes = SceneSet(3, SIZE, pairs=1, task=task)
    sampler = scene_sampler(task, split="test", size=SIZE, seed=0)
    path = dump_samples(tmp_path / "dump", scenes)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["id"] for line in lines] == scenes.ids
    samples = [*(sampler[i] for i in range(3)), *sampler.pair(0)]
    files = 1
    for line, sample in zip(lines, samples, strict=True):
        assert line["instruction"].count("<imagehere>") == len(line["references"]) == len(sample.references)
        for name, picture in zip(line["references"], sample.references, strict=True):
            assert np.array_equal(np.asarray(Image.open(path.parent / name)), picture)
        assert ("source" in line) == (task == "subject_editing")
        if "source" in line:
            assert np.array_equal(np.asarray(Image.open(path.parent / line["source"])), sample.source)
        files += len(sample.references) + ("source" in line)
    assert len([p for p in path.parent.rglob("*") if p.is_file()]) == files
    answers = tmp_path / "answers"
    answers.mkdir()
    for line, sample in zip(lines, samples, strict=True):
        large = Image.fromarray(sample.target).resize((2 * SIZE, 2 * SIZE), Image.Resampling.NEAREST)
        large.save(answers / f"{line['id']}.png")
    report = evaluate(EditingMethod("other", FolderOutputs(answers, find_results(answers, scenes.ids))), scenes)
    assert report.model.success.value == report.pairs.both.value == 1.0


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("task", TASKS)
def test_the_command_line_dumps_and_scores(task: str, tmp_path: Path) -> None:
    scenes = ["--task", task, "--count", "3", "--size", SIZE]
    dumped = invoke("scenes", "--dump", tmp_path / "dump", *scenes)
    assert dumped.exit_code == 0, dumped.output
    assert f"--task {task}" in dumped.output
    references = tmp_path / "answers"
    references.mkdir()
    for picture in (tmp_path / "dump" / "references").glob("*-0.png"):
        picture.rename(references / f"{picture.stem.removesuffix('-0')}.png")
    scored = invoke("scenes", "--results", references, "--out", tmp_path / "eval", *scenes)
    assert scored.exit_code == 0, scored.output
    for words in ("copy reference", "wrong subject", f"scenes {task.replace('_', ' ')}, test split"):
        assert words in scored.output
    report, _ = read_report(tmp_path / "eval")
    assert report["rows"][0]["success"]["value"] == 0.0
    verdicts = report["rows"][0]["verdicts"]  # some instructions name the backdrop's picture first
    assert set(verdicts) <= {"reference copied", "no subject"} and verdicts["reference copied"] >= 1


def test_mistakes_end_in_one_sentence(tmp_path: Path) -> None:
    result = invoke("scenes", "--task", "movies", "--dump", tmp_path / "dump")
    assert result.exit_code == 2 and len(result.output.strip().splitlines()) == 1
    assert "unknown task 'movies': choose one of editing, subject, subject_editing" in result.output
    scenes = ["--count", "2", "--size", SIZE]
    assert invoke("scenes", "--task", "subject", "--dump", tmp_path / "new", *scenes).exit_code == 0
    wrong = invoke("scenes", "--results", tmp_path / "new", *scenes)
    assert wrong.exit_code == 2 and "with the same --task, --count, --size" in " ".join(wrong.output.split())


@pytest.fixture(scope="module")
def pipeline(tiny_root: Path) -> Any:
    """The mige recipe's pipeline of tiny, untrained parts."""
    from insightedit.config.load import load_config
    from insightedit.model.build import build_editor
    from insightedit.pipelines.compose import pipeline_from_editor

    config = load_config("mige", 3, ["tiny"], [])
    pipeline = pipeline_from_editor(build_editor(config), config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("task", ["editing", *TASKS])
def test_a_pipeline_that_reads_references_is_measured(pipeline: Any, task: str) -> None:
    side = pipeline.config["resolution"]
    reports = [
        run(task, edit_with(pipeline, num_inference_steps=1), count=3, size=side, pairs=1, batch_size=size)
        for size in (2, 5)
    ]
    assert reports[0].records == reports[1].records
    assert reports[0].model.success.value == 0.0, "untrained"


def test_new_pictures_come_in_the_size_of_the_scenes(pipeline: Any) -> None:
    side = pipeline.config["resolution"]
    sample = SubjectSampler("test", 2 * side)[0]
    (picture,) = edit_with(pipeline, num_inference_steps=1)([sample])
    assert picture.shape == (2 * side, 2 * side, 3) and picture.dtype == np.uint8
    assert match_size(picture, picture) is picture


def test_references_and_blank_canvas_reach_the_pipeline(pipeline: Any) -> None:
    new, edit = SubjectSampler("test", SIZE)[0], SubjectEditSampler("test", SIZE)[0]
    assert pictures_of(pipeline, [new])["image"] is None
    assert pictures_of(pipeline, [edit])["image"][0] is edit.source
    assert list(map(np.array_equal, pictures_of(pipeline, [new])["reference_images"][0], new.references))
    scene = SceneSampler("test", SIZE)[0]
    assert set(pictures_of(pipeline, [scene])) == {"image"}


def test_noise_follows_the_instruction_where_there_is_no_source() -> None:
    one, other = SubjectSampler("test", SIZE).pair(0)
    assert noise_seed(one, 0) == noise_seed(other, 0) == zlib.crc32(b"0:" + one.instruction.encode())
    assert noise_seed(one, 0) != noise_seed(one, 1)


class WordsOnly:
    """A pipeline that reads no pictures but the source."""

    def __call__(self, image: object, instruction: object, *, num_inference_steps: int = 1) -> None: ...


def test_a_pipeline_without_references_is_refused() -> None:
    check_takes_references(WordsOnly(), "editing")
    with pytest.raises(ValueError, match="task subject gives reference pictures, which this model does not read"):
        check_takes_references(WordsOnly(), "subject")
    with pytest.raises(ValueError, match="task subject_editing gives reference pictures"):
        edit_with(WordsOnly())([SubjectEditSampler("test", SIZE)[0]])


def test_a_setting_that_the_pipeline_lacks_is_refused() -> None:
    check_settings_of(WordsOnly(), {"num_inference_steps": 3})
    edit_with(WordsOnly(), image_prompt_scale=None)
    with pytest.raises(ValueError, match="image prompt scale: WordsOnly has no such setting; leave it out"):
        edit_with(WordsOnly(), image_prompt_scale=0.5)


@pytest.mark.parametrize("task", TASKS)
def test_the_command_line_measures_a_model_folder(
    pipeline: Any, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insightedit.pipelines.loading.load_pipeline", lambda model, device: pipeline)
    arguments = ["--task", task, "--count", "2", "--steps", "1", "--out", tmp_path / "out"]
    result = invoke("scenes", *arguments)
    assert result.exit_code == 0, result.output
    report, _ = read_report(tmp_path / "out")
    creates = task == "subject"
    assert report["protocol"]["size"] == pipeline.config["resolution"]
    wanted = "default_creation_guidance_scale" if creates else "default_guidance_scale"
    assert report["settings"]["guidance_scale"] == pipeline.config[wanted]
    assert report["settings"]["num_inference_steps"] == 1 and "image_prompt_scale" not in report["settings"]
    rows = {row["name"] for row in report["rows"]}
    assert ("autoencoder_backdrop" in rows) == creates and ("autoencoder_source" in rows) != creates
    refused = invoke("scenes", *arguments, "--image-prompt-scale", "1")
    assert refused.exit_code == 2 and "image prompt scale: InterleavedEditPipeline has no such" in refused.output
    monkeypatch.setattr("insightedit.pipelines.loading.load_pipeline", lambda model, device: WordsOnlyModel())
    refused = invoke("scenes", *arguments)
    assert refused.exit_code == 2 and "which this model does not read" in refused.output


class WordsOnlyModel(WordsOnly):
    """As `load_pipeline` gives it."""

    device = SimpleNamespace(type="cpu")

    def set_progress_bar_config(self, **settings: object) -> None:
        """Nothing is shown."""
