"""The photos benchmark: what is asked, what an output is worth, control rows, resume, and the command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from typer.testing import CliRunner, Result

from insightedit.cli import eval as cli
from insightedit.evaluation.benchmarks.registry import load_benchmark
from insightedit.evaluation.core.editing_methods import (
    EditAnswer,
    EditCall,
    EditingMethod,
    ModelOutputs,
    results_editor,
)
from insightedit.evaluation.core.records import read_records
from insightedit.evaluation.core.run_folder import Said, read_run, read_said, write_run, write_said
from insightedit.evaluation.photos import requests, scoring
from insightedit.evaluation.photos.benchmark import PhotoSample, PhotoView, evaluate_photos, photo_benchmark
from insightedit.evaluation.photos.report import PhotoReport, PhotoRow
from insightedit.evaluation.photos.requests import BLOCK, LEAST_CHANGE, OPERATIONS, SCENE_SIDE, PhotoRequest, PhotoSet
from insightedit.evaluation.reporting.photos import photo_comparison_table
from insightedit.evaluation.reporting.report import read_report
from insightedit.export.folder import export_pipeline
from insightedit.images.reading import read_rgb
from insightedit.images.tones import TONES, apply_tone
from insightedit.scenes.assets import Photo
from tests.pipeline.conftest import build_pipeline

COUNT = 12  # requests: two blocks
Make = Callable[[PhotoView], np.ndarray]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs of soft colours, of different sizes."""
    folder = tmp_path_factory.mktemp("photographs")
    for name, size in (("garden", (56, 40)), ("a bee", (40, 64))):
        small = np.random.default_rng(len(name)).integers(20, 236, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


def ask(folder: Path, **options: Any) -> PhotoSet:
    return PhotoSet(**{"count": COUNT, "photos": folder, **options})


def measured(folder: Path, out: Path, make: Make, said: Said | None = None) -> PhotoReport:
    """A run over pictures that somebody made of each sample."""
    benchmark, protocol = photo_benchmark(ask(folder), out / "run")
    results = out / "results"
    results.mkdir(parents=True)
    for sample in benchmark:
        path = results / f"{sample.sample_id}.png"
        if said is not None:
            write_said(said, path)
        Image.fromarray(make(PhotoView(sample))).save(path)
    benchmark, editor = results_editor(results, benchmark, None, partial=False)
    return evaluate_photos(editor, benchmark, protocol, out / "run")


def rows(report: PhotoReport) -> dict[str, PhotoRow]:
    return {row.name: row for row in report.rows}


def test_requests_come_in_blocks_about_one_photograph_and_are_the_same_again(folder: Path) -> None:
    asked = list(ask(folder, count=15))
    assert [one.kind for one in asked] == [*BLOCK, *BLOCK, *BLOCK[:3]]
    assert [one.name for one in asked[:3]] == ["tone-000000", "outside-000001", "tone-000002"]
    first, second = ({one.photo for one in asked[start : start + 5]} for start in (0, 6))
    assert len(first) == len(second) == 1 and first != second
    again = list(ask(folder, count=15))
    assert [(one.name, one.instruction, one.phrase) for one in again] == [
        (one.name, one.instruction, one.phrase) for one in asked
    ]
    assert next(iter(ask(folder, split="val"))).instruction != asked[0].instruction  # which are other families
    assert [one.instruction for one in ask(folder, seed=1)] != [one.instruction for one in asked[:COUNT]]


def test_every_operation_comes_before_any_comes_again(folder: Path) -> None:
    asked = [one for one in ask(folder, count=2 * len(OPERATIONS)) if one.phrase]
    assert len(asked) == len(OPERATIONS)
    assert sorted(one.category for one in asked) == sorted(OPERATIONS)
    for one in asked:
        source = one.source()
        change = np.abs(apply_tone(source, one.phrase or "").astype(int) - source)
        assert change.mean() >= LEAST_CHANGE
        assert np.array_equal(one.truth(source), apply_tone(source, one.phrase or ""))


def test_an_operation_that_would_not_be_seen_gives_way_to_the_next(tmp_path: Path) -> None:
    Image.fromarray(np.full((24, 24, 3), 128, dtype=np.uint8)).save(tmp_path / "grey.png")
    asked = {one.category for one in ask(tmp_path, count=2 * len(OPERATIONS)) if one.phrase}
    assert not asked & {"black and white", "blurry", "sharper", "pixelated", "more colourful"}
    assert {"inverted", "sepia"} <= asked


def test_declined_requests_leave_the_photograph_as_it_is_and_scenes_can_be_edited(folder: Path) -> None:
    asked = list(ask(folder, count=60))
    for one in asked:
        source = one.source()
        if one.kind in ("outside", "absent"):
            assert one.truth(source) is source
    words = [one.instruction for one in asked]
    assert len(set(words)) == len(words)
    scenes = [one.scene for one in asked if one.scene]
    assert len(scenes) == 10
    assert not {scene.task for scene in scenes} & {"photometric", "decline"}
    assert all(scene.source.shape == (SCENE_SIDE, SCENE_SIDE, 3) for scene in scenes)


@pytest.mark.parametrize(
    ("name", "thing", "may"),
    [("A bee", "bee", True), ("tiger", "purple tiger", True), ("garden", "bee", False), ("garden", "", False)],
)
def test_a_thing_that_a_photograph_is_called_after_is_not_absent(name: str, thing: str, may: bool) -> None:
    assert requests._may_show(Photo(name, "test", Path("x.png")), thing) is may


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count is 0: it has to be at least 1"),
        ({"pack": Path("a"), "photos": Path("b")}, "--pack and --photos exclude each other"),
        ({"photos": Path("nowhere")}, "No folder nowhere: --photos names a folder of photographs"),
        ({"split": "best"}, "holds no photographs of the split 'best': add some"),
    ],
)
def test_a_set_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        PhotoSet(**options)


def test_a_photograph_that_nothing_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / "black.png")
    monkeypatch.setattr(requests, "LEAST_CHANGE", 256)
    with pytest.raises(ValueError, match="no operation changes black: leave it out"):
        list(ask(tmp_path))


def tone_facts(folder: Path, phrase: str, output: Callable[[np.ndarray], np.ndarray], **said: Any) -> dict[str, Any]:
    photo = Photo("garden", "test", folder / "garden.png")
    request = PhotoRequest("tone", "tone-000000", "do it", photo, phrase)
    source = request.source()
    return scoring.score_request(request, source, request.truth(source), output(source), Said(**said))


def test_numbers_are_those_of_the_reference_implementations(folder: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 9, (40, 56, 3))

    def noisy(source: np.ndarray) -> np.ndarray:
        return np.clip(apply_tone(source, "warmer") + noise, 0, 255).astype(np.uint8)

    facts = tone_facts(folder, "warmer", noisy)
    source = read_rgb(folder / "garden.png")
    truth, output = apply_tone(source, "warmer"), noisy(source)
    assert facts["psnr"] == pytest.approx(peak_signal_noise_ratio(truth, output, data_range=255), abs=1e-9)
    changed = (source != truth).any(axis=2)
    left, whole = (np.linalg.norm((one.astype(float) - truth)[changed]) for one in (output, source))
    assert facts["progress"] == pytest.approx(1 - left / whole)

    def energy(picture: np.ndarray) -> float:
        return sum(float((np.diff(picture.astype(float), axis=axis) ** 2).sum()) for axis in (0, 1))

    assert facts["detail"] == 1.0 < energy(output) / energy(truth)  # noise is no detail
    softer = tone_facts(folder, "warmer", lambda source: apply_tone(apply_tone(source, "warmer"), "slightly blurry"))
    blurred = apply_tone(truth, "slightly blurry")
    assert softer["detail"] == pytest.approx(energy(blurred) / energy(truth)) and softer["detail"] < 0.9
    distances = {p: np.linalg.norm(output.astype(float) - apply_tone(source, p)) for p in TONES}
    assert facts["nearest"] == min(distances, key=lambda phrase: distances[phrase]) == "warmer"
    assert facts["success"] and facts["verdict"] == "success" and not facts["capped"]


@pytest.mark.parametrize(
    ("drawn", "success", "verdict", "nearest"),
    [
        ("much warmer", True, "success", "much warmer"),
        ("warmer", True, "success", "warmer"),
        ("cooler", False, "wrong operation", "cooler"),
        (None, False, "no edit", "source"),
    ],
)
def test_an_edit_succeeds_in_any_degree_of_the_right_operation(
    folder: Path, drawn: str | None, success: bool, verdict: str, nearest: str
) -> None:
    facts = tone_facts(folder, "warmer", lambda source: source if drawn is None else apply_tone(source, drawn))
    assert (facts["success"], facts["verdict"], facts["nearest"]) == (success, verdict, nearest)
    assert facts["wrongly_refused"] is (drawn is None)
    assert facts["understood"] is facts["right_degree"] is facts["said_so"] is None  # it was silent


def test_less_than_half_the_way_is_no_success(folder: Path) -> None:
    facts = tone_facts(folder, "much brighter", lambda source: apply_tone(source, "slightly brighter"))
    assert facts["nearest"] == "slightly brighter" and 0 < facts["progress"] < 0.5
    assert not facts["success"] and facts["verdict"] == "partial edit"


@pytest.mark.parametrize(
    ("words", "understood", "degree"),
    [
        ("make the whole picture slightly warmer", True, True),
        ("Make the whole picture warmer ", True, False),
        ("make the whole picture cooler", False, False),
        ("make the whole picture lovely", False, False),
        ("remove the cake at the top", False, False),
    ],
)
def test_words_tell_whether_it_was_understood(folder: Path, words: str, understood: bool, degree: bool) -> None:
    facts = tone_facts(folder, "slightly warmer", np.copy, words=words)
    assert (facts["understood"], facts["right_degree"]) == (understood, degree)


def test_a_large_photograph_is_compared_on_pixels_spread_over_all_of_it() -> None:
    rows, columns = 400, 300
    picture = np.zeros((rows, columns, 3), dtype=np.uint8)
    picture[..., 0] = (np.arange(rows) * 255 // rows)[:, None]
    taken = scoring.spread(picture)
    assert taken.shape == (scoring.COMPARED, 3)
    assert taken[:, 0].mean() == pytest.approx(picture[..., 0].mean(), abs=0.5)
    assert np.array_equal(scoring.spread(picture[:10]), picture[:10].reshape(-1, 3))


def test_the_right_answers_and_the_copies_stand_where_they_must(folder: Path, tmp_path: Path) -> None:
    right = measured(folder, tmp_path / "right", lambda view: view.target)
    model = right.model
    assert model.name == "model" and (model.success.value, model.psnr.median, model.capped) == (1.0, 60.0, 6)
    assert (model.left_alone.value, model.wrongly_refused.value, model.progress) == (1.0, 0.0, 1.0)
    assert model.detail.median == 1.0 and model.understood is model.said_so is None
    assert set(rows(right)) == {"model", "copy_source", "oracle", "transferred", "added_change", "upsampled"}
    oracle, copied = rows(right)["oracle"], rows(right)["copy_source"]
    assert (oracle.success, oracle.psnr, oracle.left_alone) == (model.success, model.psnr, model.left_alone)
    assert (copied.success.value, copied.left_alone.value, copied.wrongly_refused.value) == (0.0, 1.0, 1.0)
    upsampled, added = rows(right)["upsampled"], rows(right)["added_change"]
    assert upsampled.left_alone is added.left_alone is None and upsampled.wrongly_refused.n == 6
    idle = measured(folder, tmp_path / "idle", lambda view: view._source)
    assert idle.model.success == copied.success and idle.model.verdicts == {
        "no edit": 6,
        "left alone": 4,
        "refused": 2,
    }
    assert idle.model.wrongly_refused_by.keys() == {"tone", "scene"}
    assert idle.model.left_alone_by["absent"].n == idle.model.left_alone_by["outside"].n == 2
    assert idle.protocol.hash == right.protocol.hash


def test_control_rows_of_a_small_drawing(folder: Path, tmp_path: Path) -> None:
    benchmark, _ = photo_benchmark(ask(folder), tmp_path)
    sample = benchmark.samples[0]
    view = PhotoView(sample)
    source, phrase = view._source, sample.request.phrase
    height, width = source.shape[:2]
    small = np.asarray(Image.fromarray(source).resize((64, 64), Image.Resampling.BICUBIC))
    drawn = apply_tone(small, phrase)

    def enlarged(values: np.ndarray) -> np.ndarray:
        planes = [Image.fromarray(values[..., c].astype(np.float32)) for c in range(3)]
        return np.stack([np.asarray(p.resize((width, height), Image.Resampling.BICUBIC)) for p in planes], axis=2)

    for name, values in (
        ("upsampled", enlarged(drawn)),
        ("added_change", source + enlarged(drawn.astype(np.float32) - small)),
    ):
        assert np.array_equal(view.control(name), np.rint(np.clip(values, 0, 255)).astype(np.uint8))


def test_tone_is_carried_to_fine_detail_as_pipelines_do_it(tmp_path: Path) -> None:
    soft = np.random.default_rng(0).integers(60, 196, (8, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(soft).resize((256, 192), Image.Resampling.BICUBIC)).astype(int)
    picture += np.random.default_rng(1).integers(-40, 41, (192, 256, 1))  # detail that no small drawing shows
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(tmp_path / "fine.png")
    photo = Photo("fine", "test", tmp_path / "fine.png")
    request = PhotoRequest("tone", "tone-000000", "invert it", photo, "inverted")
    view = PhotoView(PhotoSample(request.name, request.instruction, source=photo.path, request=request))
    psnr = {
        name: peak_signal_noise_ratio(view.target, view.control(name), data_range=255)
        for name in ("transferred", "added_change", "upsampled")
    }
    assert psnr["transferred"] > 30 > 25 > max(psnr["added_change"], psnr["upsampled"])


def test_what_was_told_is_kept_beside_the_picture(folder: Path, tmp_path: Path) -> None:
    said = Said(words="i cannot do that", understood=False, confidence=0.25, warnings=("a", "b"))
    report = measured(folder, tmp_path, lambda view: view._source, said)
    assert read_said(tmp_path / "results" / "tone-000000.png") == said
    model = report.model
    assert (model.understood.value, model.right_degree.value, model.said_so.value) == (0.0, 0.0, 1.0)
    assert (model.doubted.value, model.doubted.n, model.said_so.n) == (1.0, 8, 4)
    assert rows(report)["copy_source"].understood is None
    facts = next(record.facts for record in report.records if record.sample_id == "outside-000001")
    assert (facts["confidence"], facts["said_so"], facts["words"]) == (0.25, True, "i cannot do that")
    write_said(Said(), tmp_path / "results" / "tone-000000.png")
    assert read_said(tmp_path / "results" / "tone-000000.png") == Said()
    (tmp_path / "results" / "tone-000000.json").write_text('{"word": 1}')
    with pytest.raises(ValueError, match=r"tone-000000\.json has entries of another version \(word\)"):
        read_said(tmp_path / "results" / "tone-000000.png")


@pytest.mark.parametrize(
    ("said", "doubts"),
    [
        ({"words": "a"}, False),
        ({"understood": True}, False),
        ({"understood": False}, True),
        ({"warnings": ("w",)}, True),
    ],
)
def test_a_warning_or_a_refusal_says_so(said: dict[str, Any], doubts: bool) -> None:
    assert Said(**said).has_doubts is doubts


def test_files_that_an_editor_hands_back_are_compared_byte_by_byte(folder: Path, tmp_path: Path) -> None:
    assert measured(folder, tmp_path / "again", lambda view: view._source).model.same_file.n == 4
    benchmark, protocol = photo_benchmark(ask(folder), tmp_path / "run")
    results = tmp_path / "results"
    results.mkdir()
    for sample in benchmark:
        if sample.request.kind == "outside":
            (results / f"{sample.sample_id}.png").write_bytes(sample.source.read_bytes())
        else:  # the same values in another file
            Image.fromarray(read_rgb(sample.source)).save(results / f"{sample.sample_id}.png", compress_level=1)
    benchmark, editor = results_editor(results, benchmark, None, partial=False)
    model = evaluate_photos(editor, benchmark, protocol, tmp_path / "run").model
    assert (model.left_alone.successes, model.same_file.successes, model.same_file.n) == (4, 2, 4)


def test_a_result_of_another_size_is_brought_to_the_photographs(folder: Path, tmp_path: Path) -> None:
    def half(view: PhotoView) -> np.ndarray:
        image = Image.fromarray(view.target)
        return np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC))

    model = measured(folder, tmp_path, half).model
    assert model.left_alone.value == 0.0 and model.detail.median < 1.0 and 10 < model.psnr.median < 60


def dimmer(calls: Sequence[EditCall]) -> list[EditAnswer]:
    """An editor that darkens whatever it is asked, and says so."""
    said = Said(words="make the whole picture darker", understood=True, confidence=1.0)
    return [EditAnswer(apply_tone(call.source, "darker"), said) for call in calls if call.source is not None]


class Stop(Exception):
    """Somebody pulls the plug."""


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def run(out: Path, progress: Callable[[int], object] | None = None) -> PhotoReport:
        def edit(calls: Sequence[EditCall]) -> list[EditAnswer]:
            asked.extend(call.instruction for call in calls)
            return dimmer(calls)

        benchmark, protocol = photo_benchmark(ask(folder), out)
        return evaluate_photos(
            EditingMethod("dimmer", ModelOutputs(edit, out, "dimmer")), benchmark, protocol, out, progress
        )

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    report, seen = run(whole), []

    def stop(done: int) -> None:
        seen.append(done)
        if len(seen) == 5:
            raise Stop

    with pytest.raises(Stop):
        run(parts, stop)
    assert read_run(parts).finished is None
    kept = (parts / "records.jsonl").read_bytes()
    (parts / "records.jsonl").write_bytes(kept[:-20])  # killed within a line
    asked.clear()
    assert run(parts).to_dict() == report.to_dict()
    assert len(asked) == COUNT - 5  # no picture is made twice
    assert (parts / "records.jsonl").read_bytes() == (whole / "records.jsonl").read_bytes()
    assert read_run(parts).protocol["drawn"]["name"] == "photos_v1"
    asked.clear()
    assert run(parts).to_dict() == report.to_dict() and len(asked) == COUNT  # a whole run is replaced
    write_run(read_run(whole), whole)
    darker = report.model.operations.get("darker")
    assert darker is None or darker.understood.value == 1.0
    assert report.model.left_alone.value == report.model.wrongly_refused.value == 0.0


def test_protocol_follows_requests_and_photographs_but_not_the_editor(folder: Path, tmp_path: Path) -> None:
    def hash_of(**options: Any) -> str:
        return photo_benchmark(ask(folder, **options), tmp_path)[1].hash

    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(read_rgb(folder / "garden.png") // 2).save(other / "garden.png")
    assert len({hash_of(), hash_of(seed=1), hash_of(count=11), hash_of(photos=other)}) == 4
    assert hash_of() == hash_of()


def test_the_registry_reads_a_folder_and_a_pack(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSIGHTEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(requests, "PhotoSet", partial(PhotoSet, count=6))
    benchmark = load_benchmark("photos", folder)
    assert [sample.sample_id for sample in benchmark][:2] == ["tone-000000", "outside-000001"]
    assert benchmark.split == "test" and benchmark.samples[0].source.parent == folder
    assert benchmark.samples[5].source.is_file() and (tmp_path / "cache" / "photos").is_dir()
    with pytest.raises(ValueError, match="the photos benchmark has no split 'best': choose one of test, val, train"):
        load_benchmark("photos", folder, "best")
    pack = tmp_path / "pack"
    pack.mkdir()
    entries = [{"file": f"{folder}/garden.png", "kind": "photo", "name": "garden", "split": "val"}]
    (pack / "metadata.json").write_text(json.dumps(entries))
    assert PhotoSet(pack=pack).photographs == PhotoSet().photographs  # none of this split
    assert PhotoSet(pack=pack, split="val").photographs[-1].path == folder / "garden.png"
    assert load_benchmark("photos", pack, "val").samples[0].request.photo.split == "val"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def ok(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_command_line_measures_a_model_folder(tiny_root: Path, folder: Path, tmp_path: Path) -> None:
    model, out = export_pipeline(build_pipeline(tiny_root), tmp_path / "model"), tmp_path / "out"
    told = ok(
        "photos", "--model", model, "--photos", folder, "--count", 6, "--steps", 1, "--out", out, "--device", "cpu"
    )
    for words in ("copy source", "added change", "left alone, outside", "report.json", "sheet.png", "report.html"):
        assert words in told
    report = json.loads((out / "report.json").read_text())
    row = report["rows"][0]
    assert row["name"] == "model" and row["success"]["n"] == 3 and row["left_alone"]["n"] == 2
    assert report["settings"]["background_lock"] is True and report["settings"]["photographs"] == 2
    page = (out / "report.html").read_text()
    assert "wrongly refused" in page and "photos_v1" in page
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 900
    first = next(read_records(out / "records.jsonl"))
    assert (first.bench, first.metric_name, first.metric_variant) == ("photos", "success", "strict")


def test_other_editors_by_way_of_folders(folder: Path, tmp_path: Path) -> None:
    asked = ["--photos", folder, "--count", COUNT, "--seed", 3]
    dumped = ok("photos", "--dump", tmp_path / "dump", *asked)
    assert f"--results FOLDER --count {COUNT} --split test --seed 3 --photos {folder}" in dumped
    lines = [json.loads(line) for line in (tmp_path / "dump" / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == COUNT and all(Path(line["source"]).is_file() and not line["target"] for line in lines)
    benchmark, _ = photo_benchmark(ask(folder, seed=3), tmp_path / "again")
    for name in ("idle", "right"):
        (tmp_path / name).mkdir()
        for line, sample in zip(lines, benchmark, strict=True):
            picture = read_rgb(Path(line["source"])) if name == "idle" else PhotoView(sample).target
            Image.fromarray(picture).save(tmp_path / name / f"{line['sample_id']}.png")
        ok("photos", "--results", tmp_path / name, "--out", tmp_path / "eval" / name, *asked)
    compared = ok("compare", tmp_path / "eval" / "idle", tmp_path / "eval" / "right")
    assert "left alone" in compared and "0.0312" in compared  # six of six against none: 2 / 2**6
    paired = ok("paired", tmp_path / "eval" / "idle", tmp_path / "eval" / "right")
    assert "success" in paired
    table = photo_comparison_table({name: read_report(tmp_path / "eval" / name) for name in ("idle", "right")})
    assert [column.header for column in table.columns][1:3] == ["success %", "understood %"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "a", "--dump", "b"], "--results and --dump exclude each other: name one of them."),
        (["--photos", "nowhere"], "No folder nowhere: --photos names a folder of photographs."),
        (["--results", ".", "--steps", "3"], "steps: no model runs with --results or --dump; leave these"),
        (["--pack", ".", "--photos", "."], "--pack and --photos exclude each other: name one of them."),
        (["--count", "0"], "Invalid value '0' for '--count'"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments: list[str], message: str) -> None:
    result = invoke("photos", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(re.sub(r"[│╭╰─╮╯]", " ", result.output).split())
