"""Whatever is wrong with a call, it ends at once with exit code 2 and one sentence, and nothing was written.

The calls are in `bad_calls`, the files that they name in `bad_workspace`.
"""

from __future__ import annotations

import os
import shutil

import pytest

from tests.cli import bad_calls
from tests.cli.bad_workspace import Ended, call, fill, snapshot

pytestmark = pytest.mark.slow
SLOWEST = 5.0  # seconds of a processor; another program may have it meanwhile
LONGEST_SENTENCE = 500  # characters
NOTES = ("MagicBrush: ", "Not measured: ")  # told before anything can go wrong
CALLS = [line for group in bad_calls.GROUPS.values() for line in bad_calls.calls(group)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory):
    """The folder, and what is in it; made anew if a call changed it."""
    folder = tmp_path_factory.mktemp("bad") / "work"
    fill(folder)
    return folder, snapshot(folder)


@pytest.fixture(scope="module")
def places(tiny_folder, tiny_runs, tmp_path_factory):
    """Folders that are as they should be."""
    from insightedit.evaluation.benchmarks.registry import load_benchmark
    from tests.evaluation.benchmark_runs import write_results
    from tests.evaluation.benchmarks.layouts_one import write_magicbrush

    root = tmp_path_factory.mktemp("good")
    brush = write_magicbrush(root / "magicbrush")
    results = write_results(load_benchmark("magicbrush", brush), root / "results", 0)
    measured = root / "measured"
    done = call(
        "insightedit",
        ["eval", "magicbrush", str(brush), "--results", str(results), "--out", str(measured)],
    )
    assert done.code == 0, done.stderr
    run = tiny_runs / "stage3"
    return {
        "MODEL": str(tiny_folder),
        "BRUSH": str(brush),
        "RUN": str(run),
        "MEASURED": str(measured),
        "RESULTS": str(results),
    }


def check(ended: Ended, named: str, places: dict[str, str]) -> None:
    """Exit code, one sentence, the names in it, the time."""
    if ended.crash is not None:
        raise AssertionError("it crashed") from ended.crash
    lines = [line for line in ended.stderr.strip().splitlines() if not line.startswith(NOTES)]
    told = "\n".join(lines)
    assert ended.code == 2, f"exit code {ended.code}; {told[-600:]}{ended.stdout[-300:]}"
    assert told, f"not a word on the error stream; {ended.stdout[-300:]}"
    assert "Traceback" not in told
    assert len(lines) == 1, told[:1500]
    assert len(told) < LONGEST_SENTENCE, told[:1500]
    for part in named.split(" | "):
        assert bad_calls.spelled(part, places) in told, told
    assert "fault of insightedit" not in told, told
    assert ended.seconds < SLOWEST, ended.seconds


@pytest.mark.parametrize(("words", "named"), CALLS, ids=[words[:110] for words, _ in CALLS])
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
    assert len({words for words, _ in CALLS}) == len(CALLS) >= 300
