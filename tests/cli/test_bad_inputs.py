"""Whatever is wrong with a call, it ends at once with exit code 2 and one sentence, and nothing was written.

The calls are in `bad_calls`, the files that they name in `bad_workspace`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import bad_calls
from tests.cli.bad_workspace import Ended, call, fill, snapshot

SLOWEST = 5.0  # seconds of a processor; another program may have it meanwhile
LONGEST_SENTENCE = 500  # characters
NOTES = ("MagicBrush: ", "Not measured: ")  # told before anything can go wrong
RAW = ("Traceback", "[Errno", "NoneType", "object is not", "indices must be", "fault of insightedit")
MADE = {"<MODEL>", "<RUN>", "<BRUSH>", "<RESULTS>", "<MEASURED>"}  # take training or measuring
CALLS = {name: bad_calls.calls(group) for name, group in bad_calls.GROUPS.items()}


def cases() -> list:
    """All calls; those of the stages build a model first, so few of them run every time."""
    found = []
    for lines in CALLS.values():
        for number, (words, named) in enumerate(lines):
            is_slow = any(place in words for place in MADE) or (
                number % 10 and words.startswith(("insightedit.stage", "insightedit data preview insightedit"))
            )
            marks = [pytest.mark.slow] if is_slow else []
            found.append(pytest.param(words, named, id=words[:110], marks=marks))
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory):
    """The folder, and what is in it; made anew if a call changed it."""
    folder = tmp_path_factory.mktemp("bad") / "work"
    fill(folder)
    return folder, snapshot(folder)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A benchmark, results for it, and what was measured of them."""
    from insightedit.evaluation.benchmarks.registry import load_benchmark
    from tests.evaluation.benchmark_runs import write_results
    from tests.evaluation.benchmarks.layouts_one import write_magicbrush

    root = tmp_path_factory.mktemp("good")
    brush = write_magicbrush(root / "magicbrush")
    results = write_results(load_benchmark("magicbrush", brush), root / "results", 0)
    words = ["eval", "magicbrush", str(brush), "--results", str(results), "--out", str(root / "measured")]
    done = call("insightedit", words)
    assert done.code == 0, done.stderr
    return {"BRUSH": brush, "RESULTS": results, "MEASURED": root / "measured"}


@pytest.fixture
def places(words, request):
    """Those of the folders that are as they should be which a call names."""
    found = {}
    if "<MODEL>" in words:
        found["MODEL"] = request.getfixturevalue("tiny_folder")
    if "<RUN>" in words:
        found["RUN"] = request.getfixturevalue("tiny_runs") / "stage3"
    if any(place in words for place in ("<BRUSH>", "<RESULTS>", "<MEASURED>")):
        found |= request.getfixturevalue("measured")
    return {name: str(path) for name, path in found.items()}


def check(ended: Ended, named: str, places: dict[str, str]) -> None:
    """Exit code, one sentence, the names in it, the time."""
    if ended.crash is not None:
        raise AssertionError("it crashed") from ended.crash
    lines = [line for line in ended.stderr.strip().splitlines() if not line.startswith(NOTES)]
    told = "\n".join(lines)
    assert ended.code == 2, f"exit code {ended.code}; {told[-600:]}{ended.stdout[-300:]}"
    assert told, f"not a word on the error stream; {ended.stdout[-300:]}"
    assert not [word for word in RAW if word in told], told
    assert len(lines) == 1, told[:1500]
    assert len(told) < LONGEST_SENTENCE, told[:1500]
    for part in named.split(" | "):
        assert bad_calls.spelled(part, places) in told, told
    assert ended.seconds < SLOWEST, ended.seconds


@pytest.mark.parametrize(("words", "named"), cases())
def test_a_bad_call_is_one_sentence(words, named, workspace, places, monkeypatch):
    folder, before = workspace
    monkeypatch.chdir(folder)
    module, *rest = bad_calls.split(words, places)
    ended = call(module, rest)
    after = snapshot(folder)
    if after != before:
        os.chdir(folder.parent)
        shutil.rmtree(folder)
        fill(folder)
    check(ended, named, places)
    assert sorted(after) == sorted(before), set(after) ^ set(before)
    assert after == before, [name for name in before if before[name] != after[name]]


def test_there_are_enough_of_them():
    every = [words for lines in CALLS.values() for words, _ in lines]
    assert len(set(every)) == len(every) >= 650
    assert sum(not case.marks for case in cases()) >= 300


def script_cases() -> list:
    """Calls of the scripts in `stages`; those that get as far as the stage itself import torch."""
    found = []
    for words, named in bad_calls.calls(bad_calls.SCRIPTS):
        is_slow = words.startswith(("stages/stage", "stages/default", "MINUTES=", "PACK=", "RECIPE=", "SIZE="))
        marks = [pytest.mark.slow] if is_slow else []
        found.append(pytest.param(words, named, id=words, marks=marks))
    return found


@pytest.mark.parametrize(("words", "named"), script_cases())
def test_a_bad_call_of_a_script_is_one_sentence(words, named, tmp_path):
    root = Path(__file__).parents[2]
    settings = shlex.split(words)
    place = next(number for number, word in enumerate(settings) if word.startswith("stages/"))
    given = {"PYTHON": sys.executable, "RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(root)}
    given |= dict(word.split("=", 1) for word in settings[:place])
    script, *rest = settings[place:]
    done = subprocess.run(
        ["bash", str(root / script), *rest],
        env=os.environ | given,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr[-600:]
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and named in lines[0], done.stderr[:1500]
    assert not list(tmp_path.iterdir())
