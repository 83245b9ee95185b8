"""`insightedit eval BENCHMARK` and what reads its runs: what a user types, sees, and gets wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.main import get_command
from typer.testing import CliRunner

from insightedit.cli import eval_benchmarks as benchmark_cli
from insightedit.cli.eval import app
from insightedit.evaluation.benchmarks.registry import MODULES, benchmark_loader, load_benchmark
from insightedit.evaluation.core import protocols
from insightedit.evaluation.core.records import write_records
from insightedit.evaluation.core.run_folder import read_run, read_samples, write_run
from tests.evaluation.benchmark_runs import records, values, write_results
from tests.evaluation.benchmarks import layouts_one as one
from tests.evaluation.judge.chat_server import ChatServer, completion
from tests.evaluation.metrics.toy_encoders import save_clip, save_dino
from tests.pipeline.conftest import tiny_folder, tiny_pipeline

__all__ = ["tiny_folder", "tiny_pipeline"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def words(result: Result) -> str:
    return " ".join(result.output.split())


def ok(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return words(result)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that give the tiny networks."""
    folder = tmp_path_factory.mktemp("weights")
    save_clip(folder / "clip")
    save_dino(folder / "dino")
    names = {"clip": "openai/clip-vit-base-patch32", "dino": "facebook/dino-vits16"}
    return [text for key, name in names.items() for text in ("--weights", f"{name}={folder / key}")]


@pytest.fixture(scope="module")
def runs(weights: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two editors' runs on MagicBrush, and where its files and the results are."""
    root = tmp_path_factory.mktemp("runs")
    files = one.write_magicbrush(root / "files")
    benchmark = load_benchmark("magicbrush", files)
    found = {"files": files}
    for seed, name in enumerate(("first", "second")):
        found[f"{name} results"] = write_results(benchmark, root / name, seed)
        found[name] = root / "out" / name
        ok("magicbrush", files, "--results", root / name, "--out", found[name], *weights)
    return found


def test_help_tells_where_a_benchmark_comes_from_and_shows_how() -> None:
    shown = CliRunner().invoke(app, ["magicbrush", "--help"], env={"COLUMNS": "200"})
    text = " ".join(shown.output.split())
    card = benchmark_loader("magicbrush").CARD
    for part in (card.obtain, card.licence, card.paper, "edit_sessions.json", "final-turn", "--results edited/"):
        assert part in text
    assert "{ID: [{input, mask, output, instruction}, ...]}" in text  # brackets are no markup
    assert "magicbrush_v1 (default)" in text and "emu_mige_v1:" in text
    assert "--judge endpoint" in CliRunner().invoke(app, ["gedit", "--help"], env={"COLUMNS": "200"}).output


def test_every_published_benchmark_is_a_command_and_listed() -> None:
    assert set(benchmark_cli.SHORT) == set(MODULES) - {"scenes", "photos"}
    commands = set(get_command(app).commands)
    own = {"scenes", "photos", "compare", "tradeoff", "drift", "baselines"}
    assert commands == {*benchmark_cli.SHORT, *own, "list", "table", "paired", "rate", "judge-replay", "report"}
    listed = ok("list")
    for name in MODULES:
        assert name in listed
    assert "1,053" in listed and "CC-BY-NC-4.0" in listed and "exact_v1" in listed


def test_a_protocol_shows_its_columns_and_why_there_are_two() -> None:
    shown = ok("list", "smartedit_v1")
    assert protocols.PROTOCOLS["smartedit_v1"].hash in shown
    assert "openai/clip-vit-large-patch14 processor_pil" in shown and "strict" in shown
    assert "SSIM is cropped by 5 px" in shown
    assert "mgie_v1" in ok("list", "evr") and "viescore_v1" in ok("list", "evr")


def test_a_run_over_finished_pictures(runs: dict[str, Path], weights: list[str]) -> None:
    out = runs["first"]
    card = read_run(out)
    assert card.method == "first" and card.finished and not card.missing
    assert card.controls == ("copy_source", "oracle_target")
    assert list(values(out, "CLIP_T", method="first")) == [line.sample_id for line in read_samples(out)]
    before = (out / "records.jsonl").read_bytes()
    again = ok(
        "magicbrush", runs["files"], "--results", runs["first results"], "--out", out, *weights, "--require-all"
    )
    assert (out / "records.jsonl").read_bytes() == before
    assert "oracle_target" in again and f"insightedit eval table {out} --published" in again
    assert "the published 1,053" in again or "1053" in again  # the loader's warning: a part of the set


def as_published(run: Path, folder: Path) -> Path:
    """A copy of a run that says that its benchmark is the published one."""
    shutil.copytree(run, folder)
    card = read_run(folder)
    write_run(replace(card, benchmark={**card.benchmark, "differs": []}), folder)
    return folder


def test_a_part_of_a_benchmark_stands_apart(runs: dict[str, Path], tmp_path: Path) -> None:
    whole = as_published(runs["second"], tmp_path / "whole")
    for form, best in (("markdown", "**"), ("latex", "textbf")):
        own = invoke("table", runs["first"], whole, "--resamples", 200, "--format", form).output
        rows = [line for line in own.splitlines() if "first" in line and ("&" in line or "|" in line)]
        assert "Not comparable" in own and rows and not any(best in row for row in rows)
        assert "first is not ranked. 6 of the 1053 published samples are here" in own
        beside = invoke("table", runs["first"], whole, "--published", "--resamples", 200, "--format", form).output
        start = beside.index("These numbers do not stand beside the published ones: the notes say why.")
        assert "SmartEdit-13B" in beside[:start] and "Not comparable" in beside
        assert beside.rindex("SmartEdit-13B") < beside.index("Not comparable")  # a table of its own
        alone = invoke("table", runs["first"], "--published", "--resamples", 200, "--format", form).output
        assert (
            "SmartEdit-13B" not in alone and "first is not ranked." in alone and best not in alone.split("[")[0][20:]
        )
    shown = ok("paired", runs["first"], whole, "--metric", "L1", "--resamples", 200)
    assert "first: 6 of the 1053 published samples are here" in shown


def test_earlier_runs_do_not_compare_either_if_warned(runs: dict[str, Path], tmp_path: Path) -> None:
    card = read_run(runs["first"])
    old = {name: value for name, value in card.benchmark.items() if name != "differs"}
    licence = "The licence excludes commercial use: CC-BY-NC."
    assert replace(card, benchmark={**old, "warnings": ["odd", licence]}).apart == ("odd",)
    assert replace(card, benchmark={**old, "warnings": [licence]}).apart == ()
    limited = ok("magicbrush", runs["files"], "--results", runs["first results"], "--out", tmp_path, "--limit", 2)
    assert "--limit: the first 2 of 6 samples" in " ".join(read_run(tmp_path).apart) and limited


def test_tables_stand_beside_the_papers(runs: dict[str, Path], tmp_path: Path) -> None:
    both = ok("table", runs["first"], runs["second"], "--resamples", 200)
    assert "| first" in both and "| second" in both and both.count("| copy_source") == 1
    beside = ok("table", as_published(runs["first"], tmp_path / "a"), "--published", "--resamples", 200)
    assert "MagicBrush-168" in beside and "SmartEdit-13B" in beside and "| first" in beside
    assert "MIGE /only_edit data" not in beside  # that table follows another protocol
    assert "No name was given for protocol" not in beside
    latex = ok("table", runs["first"], "--format", "latex", "--resamples", 200)
    assert "\\toprule" in latex
    groups = ok("table", runs["first"], "--category", "L1", "--resamples", 200)
    assert "by category on magicbrush" in groups


def test_pairs_are_tested_on_shared_samples(runs: dict[str, Path], tmp_path: Path) -> None:
    shown = ok("paired", runs["first"], runs["second"], "--metric", "L1", "--primary", "L1", "--resamples", 200)
    assert "first against others on magicbrush" in shown
    assert "Holm's correction over the primary metrics: L1" in shown
    copy = shutil.copytree(runs["first"], tmp_path / "copy")
    same = ok("paired", runs["first"], copy, "--metric", "L1", "--resamples", 200)
    assert "+0.000" in same and "1.000" in same


def test_two_protocols_are_refused_in_one_column(runs: dict[str, Path], tmp_path: Path) -> None:
    card = read_run(runs["second"])
    columns = [{**column, "hash": "0" * 16} for column in card.protocol["columns"]]
    write_run(replace(card, protocol={**card.protocol, "columns": columns}), tmp_path)
    changed = [replace(record, protocol_hash="0" * 16) for record in records(runs["second"])]
    write_records(changed, tmp_path / "records.jsonl")
    for command in ("table", "paired"):
        result = invoke(command, runs["first"], tmp_path, "--resamples", 200)
        assert result.exit_code == 2
        assert "follows two protocols" in words(result)


def test_people_rate_and_votes_are_counted(runs: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page"
    shown = ok("rate", runs["first"], runs["second"], "--page", page, "--count", 2, "--seed", 3)
    assert "2 samples; send it to the raters" in shown
    key = json.loads((page / "key.json").read_text())
    assert {one["method"] for one in key["items"].values()} == {"first", "second"}
    files = []
    for rater in (1, 2, 3):
        votes = [
            {
                "item": code,
                "vote": int(one["method"] == "first"),
                "failure": None if one["method"] == "first" else "F1",
            }
            for code, one in key["items"].items()
        ]
        files.append(tmp_path / f"votes{rater}.json")
        entries = {"format": "insightedit-votes-1", "page": key["page"], "rater": rater, "votes": votes}
        files[-1].write_text(json.dumps(entries))
    counted = ok("rate", *files, "--key", page / "key.json")
    assert "first 2* 1.000" in counted and "second 2* 0.000" in counted


def test_a_model_makes_its_pictures_once(
    tiny_folder: Path, runs: dict[str, Path], weights: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "ours"
    command = ["magicbrush", runs["files"], "--model", tiny_folder, "--split", "final-turn", "--limit", 2]
    command += ["--out", out, "--device", "cpu", "--seeds", 2, "--steps", 1, "--method", "ours", *weights]
    shown = ok(*command)
    assert "--limit: the first 2 of 3 samples, whose means are no result" in shown
    card = read_run(out)
    assert card.outputs["seeds"] == [0, 1] and len(card.outputs["ckpt_sha"]) == 16
    assert card.settings["num_inference_steps"] == 1 and card.settings["background_lock"] is False
    assert card.settings["guidance_scale"] > 0
    assert card.controls == ("copy_source", "oracle_target", "autoencoder_source", "autoencoder_target")
    mine = [record for record in records(out) if record.method == "ours"]
    assert {record.seed for record in mine} == {0, 1}
    assert all(record.sampler.endswith("-1") and record.cfg for record in mine)
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len([path for path in made if path.parent.name == "turns"]) == 2  # of a session of three
    ok(*command)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == made
    refused = invoke(*command, "--guidance-scale", 3)
    assert "holds another run (settings differ" in words(refused) and refused.exit_code == 2


def test_what_is_missing_is_told_and_the_rest_is_measured(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = protocols.PROTOCOLS["magicbrush_v1"]
    models = tuple(replace(model, name=f"nobody/{model.key}") for model in known.models)
    monkeypatch.setitem(protocols.PROTOCOLS, "magicbrush_v1", replace(known, models=models))
    command = ["magicbrush", runs["files"], "--results", runs["first results"], "--out", tmp_path / "out"]
    refused = invoke(*command, "--require-all")
    assert refused.exit_code == 2 and not (tmp_path / "out").exists()
    assert "--require-all was given, and 2 are missing: (1) nobody/clip:" in words(refused)
    shown = ok(*command)
    assert "`hf download nobody/clip` fetches it once" in shown
    assert read_run(tmp_path / "out").missing.keys() == {"clip", "dino"}
    assert None not in values(tmp_path / "out", "L1", method="first").values()


def test_a_judge_behind_an_endpoint_is_asked_once_and_can_be_replayed(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "judged"
    command = ["magicbrush", runs["files"], "--results", runs["first results"], "--out", out, "--limit", 1]
    command += ["--protocol", "viescore_v1", "--partial", "--judge-model", "toy-1"]
    reply = completion(json.dumps({"score": [8, 5], "reasoning": "as seen"}))
    with ChatServer() as chat:
        chat.plan.extend((200, reply, {}) for _ in range(6))
        told = ok(*command, "--judge", "endpoint", "--judge-url", chat.base_url, "--judge-key", "")
        assert "toy-1: 6 requests, " in told
        assert len(chat.bodies) == 6  # three repeats of two questions
    name = next(iter(read_samples(out))).sample_id
    assert values(out, "VIEScore_O", method="first") == {name: 5.0}
    replayed = ok("judge-replay", out)
    assert "All 6 numbers of" in replayed and "O 1 5.000 5.000 5.000" in replayed
    again = tmp_path / "again"
    command[command.index(out)] = again
    ok(*command, "--judge", "recorded", "--judge-replies", out / "judge.jsonl")
    assert values(again, "VIEScore_O", method="first") == {name: 5.0}
    changed = [replace(record, value=6.0) for record in records(out)]
    write_records(changed, out / "records.jsonl")
    wrong = invoke("judge-replay", out)
    assert wrong.exit_code == 2 and "6 of 6 numbers" in words(wrong)
    missing = invoke("judge-replay", out, "--replies", tmp_path / "none.jsonl")
    assert missing.exit_code == 2 and "holds no reply of toy-1" in words(missing)


def test_a_dump_tells_ids_and_instructions_and_no_targets(runs: dict[str, Path], tmp_path: Path) -> None:
    shown = ok("magicbrush", runs["files"], "--dump", tmp_path / "dump", "--split", "final-turn")
    lines = list(read_samples(tmp_path / "dump"))
    assert "3 samples" in shown and [line.sample_id for line in lines] == ["30_1", "139_iter_3", "149_iter_2"]
    assert lines[1].earlier == ("do 139.1", "do 139.2") and lines[1].target is None
    assert Path(str(lines[1].source)).parent == tmp_path / "dump/pictures" and Path(str(lines[1].source)).is_file()
    assert "lies in the benchmark" in words(invoke("magicbrush", runs["files"], "--dump", runs["files"] / "dump"))


Arguments = Callable[[dict[str, Path]], list[Any]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda r: ["magicbrush", r["files"]], "nothing to measure: --model FOLDER edits the pictures"),
        (
            lambda r: ["magicbrush", r["files"], "--model", "a", "--results", "b"],
            "--model and --results exclude each other: name one of them.",
        ),
        (lambda r: ["magicbrush", "nowhere", "--results", "."], "nowhere is not a good copy of MagicBrush"),
        (lambda r: ["magicbrush", r["files"], "--results", "nowhere"], "does not hold results for MagicBrush"),
        (
            lambda r: ["magicbrush", r["files"], "--results", ".", "--steps", 3, "--background-lock"],
            "steps, background lock: no model runs without --model; leave these options out.",
        ),
        (lambda r: ["magicbrush", r["files"], "--model", "nowhere", "--weights", "a"], "--weights a: give NAME=PATH"),
        (
            lambda r: ["magicbrush", r["files"], "--model", "nowhere", "--weights", "a=nowhere"],
            "--weights a=nowhere: there is no nowhere.",
        ),
        (lambda r: ["magicbrush", r["files"], "--model", "a", "--partial"], "--partial is about --results"),
        (lambda r: ["magicbrush", r["files"], "--model", "a", "--judge", "x"], "--judge is 'x'; it is one of"),
        (
            lambda r: ["magicbrush", r["files"], "--model", "a", "--judge", "local"],
            "magicbrush_v1 asks no judge: leave --judge out, or take --protocol viescore_v1.",
        ),
        (
            lambda r: [
                *("magicbrush", r["files"], "--model", "a", "--judge", "local"),
                *("--protocol", "viescore_v1"),
            ],
            "--judge local needs --judge-model",
        ),
        (lambda r: ["magicbrush", r["files"], "--model", "a", "--device", "abacus"], "'abacus' is no device: use cpu"),
        (lambda r: ["magicbrush", r["files"], "--model", "a", "--protocol", "x"], "unknown protocol 'x'"),
        (lambda r: ["magicbrush", r["files"], "--model", "a", "--split", "x"], "MagicBrush has no split 'x'"),
        (lambda r: ["list", "magic"], "unknown benchmark 'magic': did you mean magicbrush?"),
        (lambda r: ["table", r["files"]], "No run.json in"),
        (lambda r: ["table", r["first"], "--format", "x"], "--format is 'x'; it is one of markdown, latex."),
        (lambda r: ["paired", r["first"], r["second"], "--format", "x"], "--format is 'x'"),
        (
            lambda r: ["table", r["first"], "--published", "--category", "L1"],
            "--published and --category exclude each other",
        ),
        (lambda r: ["table", r["first"], "--category", "PSNR"], "there is no column PSNR:paper: there are L1:paper"),
        (lambda r: ["rate", r["first"]], "--page FOLDER writes a page, --key key.json counts votes"),
        (lambda r: ["rate", r["first"], r["first"], "--page", "p"], "the runs' methods are first, first"),
        (lambda r: ["judge-replay", r["first"]], "was measured without a judge: name a run that was judged."),
    ],
)
def test_mistakes_end_in_one_sentence(
    arguments: Arguments, message: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments(runs))
    assert result.exit_code == 2, result.output
    assert message in words(result)
    assert "Traceback" not in result.output
    assert sum(line.startswith("insightedit:") for line in result.output.splitlines()) == 1


def test_other_faults_of_runs_are_told(runs: dict[str, Path], tmp_path: Path) -> None:
    card = read_run(runs["first"])
    other = {**card.benchmark, "name": "emu-edit", "version": "0" * 16}
    write_run(replace(card, benchmark=other, method="third", finished=None), tmp_path)
    (tmp_path / "records.jsonl").write_text("")
    assert "compare on one benchmark" in words(invoke("paired", runs["first"], tmp_path))
    assert "different benchmarks or copies" in words(invoke("rate", runs["first"], tmp_path, "--page", tmp_path / "p"))
    assert "nothing was measured: " in words(invoke("table", tmp_path))
    assert "is not finished: run the same command again." in words(invoke("table", tmp_path))
    assert "share no column" in words(
        invoke("paired", runs["first"], folder_without_records(runs["second"], tmp_path / "empty"))
    )
    whole = folder_without_records(as_published(runs["second"], tmp_path / "b"), tmp_path / "none")
    assert "no published table has a column" in words(invoke("table", whole, "--published"))


def folder_without_records(run: Path, folder: Path) -> Path:
    write_run(read_run(run), folder)
    (folder / "records.jsonl").write_text("")
    return folder
