"""The plan of the run from nothing: arithmetic, commands, what is kept, what is refused."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from insightedit.miniatures.sizes import get_size
from insightedit.training.default.cli import check_budget, main, plan_table, read_settings
from insightedit.training.default.parts import WORLDS, PlannedPart, Settings, planned_parts, variables
from insightedit.training.default.plan import Span, length, make_plan, runs_alone, timetable
from insightedit.training.default.results import carry_calibration, check_export, run_record, split
from insightedit.training.default.run import DefaultRun, lane_cores
from insightedit.training.default.state import PLAN, PartState, RunState
from insightedit.training.run import parse_arguments, read_config


def part(name: str, *needs: str, share: float = 0.0, seconds: float = 0.0, extends: bool = False) -> PlannedPart:
    return PlannedPart(name, needs, share, seconds, lambda settings, minutes: [name], extends=extends)


LADDER = (
    part("a", share=1, seconds=5),
    part("b", share=2, seconds=5),
    part("c", "a", "b", share=3, seconds=10, extends=True),
    part("d", "c", seconds=20),
)


def settings(folder: Path, **given: object) -> Settings:
    return replace(Settings(10.0, folder, "64", cores=(0, 1), lanes=2), **given)


class TestTimetable:
    def test_the_first_that_is_ready_takes_the_first_free_lane(self) -> None:
        lengths = {"a": 10.0, "b": 4.0, "c": 3.0, "d": 1.0}
        found = timetable(LADDER, lengths, lanes=2)
        assert found == {"a": Span(0, 10), "b": Span(0, 4), "c": Span(10, 13), "d": Span(13, 14)}
        assert length(LADDER, lengths, lanes=2) == 14
        assert length(LADDER, lengths, lanes=1) == 18

    def test_what_is_done_holds_nothing_up(self) -> None:
        assert timetable(LADDER, {"c": 2.0, "d": 1.0}, lanes=1) == {"c": Span(0, 2), "d": Span(2, 3)}
        assert length(LADDER, {}, lanes=2) == 0


class TestShares:
    def test_one_lane_is_filled_to_the_end_by_shares(self) -> None:
        plan = make_plan(LADDER, {}, left=340.0, lanes=1)
        assert plan.train == pytest.approx({"a": 50, "b": 100, "c": 150, "d": 0})  # 340 - 40 beside training
        assert plan.lengths == pytest.approx({"a": 55, "b": 105, "c": 160, "d": 20})
        assert plan.least == pytest.approx(43)  # a second of training each

    def test_two_lanes_give_all_more(self) -> None:
        plan = make_plan(LADDER, {}, left=340.0, lanes=2)
        # a runs beside b: 5 + 2 f, then 10 + 3 f, then 20
        assert plan.train == pytest.approx({"a": 61, "b": 122, "c": 183, "d": 0})
        assert length(LADDER, plan.lengths, 2) == pytest.approx(340)

    def test_time_that_a_part_has_had_counts(self) -> None:
        plan = make_plan(LADDER[2:], {"c": 100.0}, left=60.0, lanes=1)
        assert plan.train["c"] == pytest.approx(130)
        assert plan.lengths["c"] == pytest.approx(40)
        used_up = make_plan(LADDER, {"b": 300.0}, left=140.0, lanes=1)
        assert used_up.train == pytest.approx({"a": 25, "b": 300, "c": 75, "d": 0})  # b trains no further

    def test_slow_starts_leave_less_to_train(self) -> None:
        assert make_plan(LADDER, {}, left=340.0, lanes=1, pace=4.0).train["a"] == pytest.approx(30)

    def test_no_time_left_is_a_second_each(self) -> None:
        assert make_plan(LADDER, {}, left=10.0, lanes=1).train == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0}


def test_alone_is_whom_nobody_could_run_beside() -> None:
    names = {one.name for one in LADDER}
    assert not runs_alone(LADDER[0], LADDER, names)
    assert runs_alone(LADDER[0], LADDER, names - {"b"})
    assert runs_alone(LADDER[2], LADDER, names)


@pytest.mark.parametrize(
    ("cores", "lanes", "expected"),
    [
        ((0, 1), 2, [(0,), (1,)]),
        ((0, 1, 4, 5, 7), 2, [(0, 1), (4, 5)]),
        ((3,), 2, [(3,), (3,)]),
        ((0, 1), 1, [(0, 1)]),
    ],
)
def test_lanes_share_the_cores_out(cores: tuple[int, ...], lanes: int, expected: list[tuple[int, ...]]) -> None:
    assert [lane_cores(cores, lane, lanes) for lane in range(lanes)] == expected


class TestCommands:
    @pytest.mark.parametrize("size", WORLDS)
    def test_every_stage_reads_its_command_at_every_size(self, tmp_path: Path, size: str) -> None:
        chosen = settings(tmp_path, size=size)
        for one in planned_parts(chosen):
            module, *words = one.command(chosen, 2.5)
            if module.startswith("insightedit.stage"):
                number = int(module[-1])
                config = read_config(number, parse_arguments(number, words))
                assert (
                    config.generation.resolution == WORLDS[size].pixels == get_size(WORLDS[size].miniature).image_size
                )
                assert config.train.total_minutes == 2.5
                assert Path(config.output_dir) == one.folder(chosen)

    def test_steps_take_the_place_of_minutes(self, tmp_path: Path) -> None:
        chosen = settings(tmp_path, steps=3)
        commands = {one.name: one.command(chosen, 2.5) for one in planned_parts(chosen)}
        assert "--steps 3 --minutes 0" in " ".join(commands["vision"])
        assert "train.max_steps=3" in commands["stage3"]
        assert not any("total_minutes" in word for word in commands["stage3"])

    def test_an_accelerator_gets_large_batches_and_compiles_what_is_long(self, tmp_path: Path) -> None:
        chosen = settings(tmp_path, size="128", accelerator="GPU", workers=14)
        vision = next(one for one in planned_parts(chosen) if one.name == "vision")
        assert "--batch-size 256" in " ".join(vision.command(chosen, 1.0))
        assert "--compile" not in vision.command(chosen, 1.0)
        assert "--compile" in vision.command(chosen, 30.0)

    def test_a_pack_is_told_to_all_that_render(self, tmp_path: Path) -> None:
        chosen = settings(tmp_path, pack=Path("mine"))
        commands = {one.name: " ".join(one.command(chosen, 2.5)) for one in planned_parts(chosen)}
        told = {name for name, words in commands.items() if "--pack mine" in words or "pack: 'mine'" in words}
        bases = {"vision", "vae", "clip", "llava", "ip2p", "sharpen"}
        assert told == bases | {"stage1", "stage2", "stage3", "calibrate"}

    def test_needs_come_first_and_exist(self, tmp_path: Path) -> None:
        for chosen in (settings(tmp_path), settings(tmp_path, accelerator="GPU")):
            seen: set[str] = set()
            for one in planned_parts(chosen):
                assert set(one.needs) <= seen
                seen.add(one.name)

    def test_parts_find_the_bases_of_their_own_run(self, tmp_path: Path) -> None:
        assert variables(settings(tmp_path))["INSIGHTEDIT_MINIATURES"] == str(tmp_path / "bases")


class TestState:
    def test_what_was_done_is_read_again(self, tmp_path: Path) -> None:
        chosen = settings(tmp_path)
        state = RunState.read(chosen, LADDER)
        assert {one.status for one in state.parts.values()} == {"waiting"}
        state.seconds, state.parts["a"].status, state.parts["b"].status = 90.0, "done", "running"
        state.write(chosen)
        again = RunState.read(chosen, LADDER)
        assert (again.seconds, again.parts["a"].status) == (90.0, "done")
        assert again.parts["b"].status == "stopped"  # it was killed

    def test_another_size_is_another_run(self, tmp_path: Path) -> None:
        RunState.read(settings(tmp_path), LADDER).write(settings(tmp_path))
        with pytest.raises(ValueError, match=r"holds a run with other settings: size was 64, is 128\. Use those"):
            RunState.read(settings(tmp_path, size="128"), LADDER)

    def test_a_file_of_somebody_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / PLAN).write_text("[1]")
        with pytest.raises(ValueError, match=r"is no plan of this program: name another folder as RUNS\."):
            RunState.read(settings(tmp_path), LADDER)


class TestExtension:
    def run(self, folder: Path, minutes: float, **done: float) -> DefaultRun:
        chosen = settings(folder, minutes=minutes)
        state = RunState(300.0, 5.0, {}, {one.name: PartState("done", done.get(one.name, 0.0)) for one in LADDER})
        return DefaultRun(chosen, LADDER, state, lambda line: None)

    def test_a_finished_run_trains_its_last_parts_on(self, tmp_path: Path) -> None:
        run = self.run(tmp_path, minutes=10.0, c=150.0)
        assert run.reopen()
        assert [one.name for one in run.open()] == ["c", "d"]
        # 300 seconds are left, of which 30 go beside training
        assert run.plan().train["c"] == pytest.approx(150 + 270, abs=2)

    def test_more_minutes_than_before_go_to_what_is_done_too(self, tmp_path: Path) -> None:
        run = self.run(tmp_path, minutes=10.0)
        run.state.parts["d"].status = "waiting"
        assert run.reopen()
        assert [one.name for one in run.open()] == ["c", "d"]
        stopped = self.run(tmp_path, minutes=5.0)
        stopped.state.parts["d"].status = "waiting"
        assert not stopped.reopen()
        assert [one.name for one in stopped.open()] == ["d"]

    def test_the_same_minutes_leave_it_as_it_is(self, tmp_path: Path) -> None:
        run = self.run(tmp_path, minutes=5.2, c=150.0)
        assert not run.reopen()
        assert not run.open()

    def test_a_budget_that_is_used_up_is_refused(self, tmp_path: Path) -> None:
        run = self.run(tmp_path, minutes=5.2, c=150.0)
        run.state.parts["c"].status = run.state.parts["d"].status = "waiting"
        with pytest.raises(ValueError, match=r"MINUTES=5.2 are not enough: 5.0 are used, .* 0.5 without .* MINUTES=7"):
            check_budget(run)
        assert plan_table(run).row_count == 4


class TestResults:
    def test_pieces_join_to_the_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "results"
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "weights").write_bytes(bytes(range(256)) * 1000)
        (folder / "record.json").write_text("{}")
        pieces = split(folder, tmp_path / "pieces", 100_000)
        assert [one.name for one in pieces] == [*(f"results.tar.{n:02d}" for n in range(3)), "record.json"]
        assert max(one.stat().st_size for one in pieces) <= 100_000
        whole = tmp_path / "whole.tar"
        whole.write_bytes(b"".join(one.read_bytes() for one in pieces[:-1]))
        with tarfile.open(whole) as archive:
            archive.extractall(tmp_path / "joined", filter="data")
        joined = tmp_path / "joined" / "results" / "model" / "weights"
        assert joined.read_bytes() == (folder / "model" / "weights").read_bytes()

    def test_too_many_pieces_say_how_large_they_have_to_be(self, tmp_path: Path) -> None:
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / "weights").write_bytes(bytes(9 * 2**20))
        with pytest.raises(
            ValueError, match=r"takes 9.0 MiB, which is 10 pieces of 1 MiB, and 7 are allowed: set SHARD_MB=2"
        ):
            split(tmp_path / "results", tmp_path / "pieces", 2**20)

    def test_the_record_names_time_machine_versions_and_measurements(self, tmp_path: Path) -> None:
        chosen = settings(tmp_path)
        parts = planned_parts(chosen)
        checkpoint = tmp_path / "bases" / ".train" / "vae" / "checkpoints" / "step-000007"
        checkpoint.mkdir(parents=True)
        (checkpoint / "trainer.json").write_text('{"step": 7, "seconds": 120.0, "losses": {"loss": 0.5}}')
        (checkpoint / "COMPLETE").write_text("{}")
        (tmp_path / "bases" / ".train" / "vae" / "metrics.json").write_text('{"psnr": 28.5}')
        (tmp_path / "results" / "scenes").mkdir(parents=True)
        (tmp_path / "results" / "scenes" / "report.json").write_text('{"rows": [{"success": 1}, {}], "protocol": {}}')
        state = RunState.read(chosen, parts)
        state.parts["vae"].command[:] = ["a", "--root", str(tmp_path / "bases"), f"x=[{{pack: '{tmp_path / 'own'}'}}]"]
        record = json.loads(json.dumps(run_record(replace(chosen, pack=tmp_path / "own"), parts, state)))
        assert record["parts"]["vae"]["command"] == "a --root $RUNS/bases x=[{pack: '$PACK'}]"
        assert record["parts"]["vae"]["held_out"] == {"psnr": 28.5}
        assert record["measured"]["scenes"] == {"protocol": {}, "model": {"success": 1}}
        assert record["machine"]["cores"] == 2
        assert "torch" in record["versions"]

    def test_the_export_is_as_sure_as_what_was_measured(self, tmp_path: Path) -> None:
        for name in ("draft", "model"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "model_index.json").write_text('{"resolution": 64}')
        carry_calibration(tmp_path / "draft", tmp_path / "model")
        assert json.loads((tmp_path / "model" / "model_index.json").read_text()) == {"resolution": 64}
        (tmp_path / "draft" / "model_index.json").write_text(
            '{"confidence_calibration": {"bias": 1}, "resolution": 8}'
        )
        carry_calibration(tmp_path / "draft", tmp_path / "model")
        told = json.loads((tmp_path / "model" / "model_index.json").read_text())
        assert told == {"confidence_calibration": {"bias": 1}, "resolution": 64}

    def test_a_place_that_holds_something_else_is_refused_before_the_work(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").touch()
        with pytest.raises(ValueError, match=r"EXPORT .* is there and holds no model: name another folder\."):
            check_export(tmp_path)


class TestCommandLine:
    def test_a_dry_run_tells_the_plan_and_writes_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        assert main(["--minutes", "30", "--runs", str(tmp_path / "run"), "--size", "64", "--dry-run"]) == 0
        told = capsys.readouterr().out
        assert "30.0 of 30 minutes are left; 64 px" in told
        assert all(one.name in told for one in planned_parts(settings(tmp_path)))
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--minutes", "nan"], "argument --minutes: nan must be a finite number from 0.1 on"),
            (["--minutes", "soon"], "argument --minutes: invalid"),
            (["--workers", "-1"], "argument --workers: -1 must be at least 0"),
            (["--size", "65"], "argument --size: invalid choice"),
            (["--pack", "nowhere"], "PACK nowhere is no folder: name one with photographs"),
        ],
    )
    def test_a_wrong_word_is_told_in_a_sentence(self, words: list[str], told: str) -> None:
        with pytest.raises(ValueError, match=told):
            read_settings(words)

    def test_too_few_minutes_are_told_before_anything_starts(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match=r"MINUTES=0.5 are not enough: 0.0 are used, and what is left takes about"
        ):
            main(["--minutes", "0.5", "--runs", str(tmp_path / "run"), "--size", "64"])
