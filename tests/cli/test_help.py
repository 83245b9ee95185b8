"""Help can be read and copied on a terminal of 80 columns: names are whole, and examples are calls that exist."""

from __future__ import annotations

import importlib
import re
import shlex

import pytest
from typer.main import get_command

GROUPS = {"eval": "insightedit.cli.eval", "doctor": "data_recipes.doctor.cli", "data": "insightedit.cli.data"}
MODULES = {
    "benchmarks.ablations": "benchmarks.ablations.cli",
    "insightedit.miniatures": "insightedit.training.miniatures.cli",
    "data_recipes.scenes": "data_recipes.scenes.cli",
    "data_recipes.expressive": "data_recipes.expressive",
    "data_recipes.formats": "data_recipes.formats.cli",
}


def commands() -> dict[str, object]:
    """Every command by the words that call it."""
    from insightedit.cli.main import app

    found = {}
    for words, command in [
        *((("insightedit", name), one) for name, one in get_command(app).commands.items() if name not in GROUPS),
        *((("insightedit", name), get_command(importlib.import_module(m).app)) for name, m in GROUPS.items()),
        *((("python", "-m", name), get_command(importlib.import_module(m).app)) for name, m in MODULES.items()),
    ]:
        if hasattr(command, "commands"):
            found |= {shlex.join([*words, name]): one for name, one in command.commands.items()}
        else:
            found[shlex.join(words)] = command
    return found


COMMANDS = commands()


def shown(command) -> str:
    context = command.make_context(command.name, [], resilient_parsing=True, terminal_width=80, max_content_width=80)
    return command.get_help(context)


@pytest.mark.parametrize("name", COMMANDS)
def test_option_names_are_whole(name):
    command = COMMANDS[name]
    text = shown(command)
    assert "…" not in text
    for option in (word for one in command.params for word in (*one.opts, *one.secondary_opts)):
        assert not option.startswith("-") or re.search(rf"(^|[\s,]){option}([\s,]|$)", text), option


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_calls_that_exist(name):
    lines = [line.strip() for line in shown(COMMANDS[name]).splitlines()]
    for line in lines:
        called = max((n for n in COMMANDS if f"{line} ".startswith(f"{n} ")), key=len, default=None)
        if called is None:
            assert not re.match(r"insightedit \w+ |python -m data_recipes\.(scenes|formats|expressive) ", line), line
            continue
        words = shlex.split(line, comments=True)[len(shlex.split(called)) :]
        assert words, f"{line} is cut"
        COMMANDS[called].make_context(called, words)  # click's own check of options and their values
