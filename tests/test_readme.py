"""The commands that README, docs and help texts print: they exist, their options parse, and README's work in order.

`parse` checks a command without running it: the program, its options and the range of every value, and the settings of
stages and recipes. The slow test runs README's commands as printed, in one shell, in a fresh copy of the tree.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import typing
from importlib import import_module
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
GROUPS = {
    "eval": "insightedit.evaluation.cli",
    "doctor": "data_recipes.doctor.cli",
    "data": "insightedit.data.cli",
}
APPS = {
    "insightedit.foundation": "insightedit.foundation.cli",
    "insightedit.evaluation.ablations": "insightedit.evaluation.ablations.cli",
    "data_recipes.scenes": "data_recipes.scenes.cli",
    "data_recipes.formats": "data_recipes.formats.cli",
    "data_recipes.expressive": "data_recipes.expressive.cli",
}
PROGRAM = r"(?:[A-Z]+=\S+ )*(?:insightedit|python -m (?:insightedit|data_recipes)[\w.]*|stages/\w+\.sh|make|deepspeed)"
PLACEHOLDERS = ("NAME", "BENCHMARK", "FOLDER", "RECIPE", "PATH", "MODEL", "OUT", "DIR", "...", "$", "{", "<")


def blocks(path: Path) -> list[str]:
    """Commands of a text's code blocks in order, without comments."""
    found = []
    for block in re.findall(r"^```(?:bash)?\n(.*?)^```", path.read_text("utf-8"), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if re.match(PROGRAM + r"\b|pip |source ", line) else []
            found += [shlex.join(words)] if words else []
    return found


def inline(path: Path) -> list[str]:
    """Commands between backquotes in running text."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    return [words for words in re.findall(r"`([^`\n]+)`", text) if re.match(PROGRAM + " ", words)]


def examples(path: Path) -> list[str]:
    """Commands on lines of their own in a module's texts, docstrings included."""
    texts = [
        node.value
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    found = []
    for text in texts:
        lines = re.findall(rf"^ *({PROGRAM} [^\n]+)$", text, re.M)
        found += [
            re.split(r"  +|\s#", line.replace("{{", "{").replace("}}", "}").replace("\\[", "["))[0]
            for line in lines
        ]
    return [line for line in found if "`" not in line]


def resolve(words: list[str]) -> tuple[typing.Any, list[str]]:
    """The command that takes the words, and what it is given."""
    if words[0] == "insightedit":
        named, words = "insightedit.cli", words[1:]
        if words and words[0] in GROUPS:
            named, words = GROUPS[words[0]], words[1:]
        app = import_module(named).app
    else:
        module, words = words[2], words[3:]
        if module in APPS:
            app = import_module(APPS[module]).app
        else:
            from data_recipes.pipeline.cli import command_line

            app = command_line(module.partition(".")[2] or None)
    command: typing.Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words, "which command?"
        assert words[0] in command.commands, f"no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def parse(line: str) -> None:
    """Fail if a command could not even begin."""
    words = shlex.split(line, comments=True)
    while re.fullmatch(r"[A-Z]+=.*", words[0]):
        words = words[1:]
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[0] == "pip":
        from tests.test_packaging import EXTRAS

        named = re.search(r"\[(.+)\]", words[-1])
        assert not named or set(named[1].split(",")) <= set(EXTRAS)
    elif words[0].startswith("stages/"):
        assert os.access(ROOT / words[0], os.X_OK), words[0]
        number = re.search(r"stage(\d)\.sh", words[0])
        _parse_stage(int(number[1]) if number else 3, words[1:])
    elif "--module" in words:
        named = words[words.index("--module") + 1]
        _parse_stage(int(named[-1]), words[words.index("--module") + 2 :])
    elif match := re.fullmatch(r"insightedit\.stage(\d)", words[2] if words[0] == "python" else ""):
        _parse_stage(int(match[1]), words[3:])
    elif words[0] in ("insightedit", "python"):
        command, rest = resolve(words)
        if "--help" not in rest:
            context = command.make_context(words[0], list(rest))
            _check_recipe(words, context.params)
    else:
        assert words[0] == "source", line


def _parse_stage(number: int, words: list[str]) -> None:
    from insightedit.config.load import load_config
    from insightedit.training.run import parse_arguments

    told = parse_arguments(number, words)
    load_config(told.recipe, number, told.overlay, told.overrides)


def _check_recipe(words: list[str], given: dict[str, typing.Any]) -> None:
    if words[0] == "python" and words[2].startswith("data_recipes") and "words" in given:
        from data_recipes.pipeline.config import load_config

        settings = [word for word in given["words"] or [] if "=" in word]
        config = given["config"]
        load_config(None if config and config.endswith(".yaml") else config, settings)
    if words[:3] == ["insightedit", "data", "preview"] and "/" not in given["config"]:
        from insightedit.config.load import load_config as load_stage

        load_stage(given["config"], given["stage"] or 3, given["overlay"] or (), given["overrides"] or ())


TEXTS = [
    ROOT / "README.md",
    ROOT / "stages/README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
TEXTS += sorted((ROOT / "data_recipes").rglob("README.md"))
MODULES = sorted(
    path
    for package in ("insightedit", "data_recipes")
    for path in (ROOT / package).rglob("*.py")
    if re.search(rf"^ *{PROGRAM} ", path.read_text("utf-8"), re.M)
)


def is_whole(line: str) -> bool:
    """Whether nothing in a command stands for something else."""
    return not any(part in line for part in PLACEHOLDERS)


def printed() -> list[tuple[str, str]]:
    """Every command that is printed somewhere, and where."""
    found = {}
    for path in TEXTS:
        lines = [*blocks(path), *filter(is_whole, inline(path))]
        found |= {line: path.relative_to(ROOT).as_posix() for line in lines}
    for path in MODULES:
        found |= {line: path.relative_to(ROOT).as_posix() for line in filter(is_whole, examples(path))}
    return sorted(found.items())


PRINTED = printed()


@pytest.mark.parametrize(
    ("line", "place"), PRINTED, ids=[f"{place}: {line}"[:120] for line, place in PRINTED]
)
def test_a_printed_command_can_begin(line, place):
    parse(line)


def test_there_are_commands_to_check():
    assert len(PRINTED) > 60
    assert len(blocks(ROOT / "README.md")) > 20
