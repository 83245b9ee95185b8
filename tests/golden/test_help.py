"""Every `--help` of every command and sub-command, word for word, at 80 columns.

A text that changes is a change that users read: it is meant, or it is a defect.
`python -m tests.golden.test_help` writes the texts anew.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import runpy
import sys
import warnings
from importlib import import_module
from pathlib import Path
from unittest import mock

import pytest

HELP = Path(__file__).parents[1] / "data" / "golden" / "help"
MODULES = (
    "insightedit",
    "benchmarks.ablations",
    "insightedit.miniatures",
    "data_recipes",
    "data_recipes.advancededit",
    "data_recipes.expressive",
    "data_recipes.formats",
    "data_recipes.mgie_expressive",
    "data_recipes.mige_addition",
    "data_recipes.mige_replacement",
    "data_recipes.scenes",
    "data_recipes.smartedit_synthetic",
    "data_recipes.subject_driven",
)
STAGES = ("insightedit.stage1", "insightedit.stage2", "insightedit.stage3")
TERMINAL = {"COLUMNS": "80", "LINES": "40", "NO_COLOR": "1", "TERM": "dumb"}


def ask(module: str, *words: str) -> str:
    """What `python -m MODULE WORDS --help` prints."""
    text = io.StringIO()
    program = f"python -m {module}"
    with (
        mock.patch.object(sys, "argv", [program, *words, "--help"]),
        mock.patch.dict(os.environ, TERMINAL),
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit),
    ):
        if module in STAGES:
            import_module(module).main(["--help"])
        else:
            with warnings.catch_warnings():  # runpy warns of what another test imported already
                warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
                runpy.run_module(module, run_name="__main__", alter_sys=True)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().strip().splitlines())


def walk(module: str, *words: str) -> dict[str, str]:
    """Command -> its text, and those of the commands that the text lists."""
    text = ask(module, *words)
    found = {" ".join((module, *words)): text}
    _, _, listed = text.partition("\nCommands:\n")
    for name in re.findall(r"^  (\S+)", listed.partition("\n\n")[0], re.M):
        found |= walk(module, *words, name)
    return found


def told(module: str) -> str:
    return "\n".join(f"$ {name} --help\n{text}" for name, text in walk(module).items())


@pytest.mark.parametrize("module", [*MODULES, *STAGES])
def test_help_says_what_it_said(module, capsys):
    kept, found = (HELP / f"{module}.txt").read_text(encoding="utf-8"), told(module)
    changes = difflib.unified_diff(kept.splitlines(), found.splitlines(), "kept", "now", lineterm="")
    assert kept == found, "\n".join(changes)


def test_no_kept_text_is_of_a_command_that_went():
    assert sorted(path.stem for path in HELP.glob("*.txt")) == sorted([*MODULES, *STAGES])


if __name__ == "__main__":
    HELP.mkdir(parents=True, exist_ok=True)
    for one in [*MODULES, *STAGES]:
        (HELP / f"{one}.txt").write_text(told(one), encoding="utf-8")
