"""The commands that README, docs and help texts print: they exist, their options parse, and README's work in order.

`parse` checks a command without running it: the program, its options and the range of every value, and the settings of
stages and recipes. The slow test runs README's commands as printed, in one shell, in a fresh copy of the tree.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import typing
from importlib import import_module
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
GROUPS = {"eval": "insightedit.cli.eval", "doctor": "data_recipes.doctor.cli", "data": "insightedit.cli.data"}
APPS = {
    "insightedit.miniatures": "insightedit.training.miniatures.cli",
    "benchmarks.ablations": "benchmarks.ablations.cli",
    "data_recipes.scenes": "data_recipes.scenes.cli",
    "data_recipes.formats": "data_recipes.formats.cli",
    "data_recipes.expressive": "data_recipes.expressive",
}
PROGRAM = r"(?:[A-Z]+=\S+ )*(?:insightedit|python -m (?:insightedit|data_recipes)[\w.]*|stages/\w+\.sh|make|deepspeed)"
PLACEHOLDERS = ("NAME", "BENCHMARK", "FOLDER", "RECIPE", "PATH", "MODEL", "OUT", "DIR", "...", "$", "{", "<")


def blocks(path: Path) -> list[str]:
    """Commands of a text's code blocks in order, without comments."""
    found, inside, kept = [], False, False
    for line in path.read_text("utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            inside = not inside
            kept = inside and line in ("```", "```bash")
        elif kept and re.match(rf"{PROGRAM} |pip |source ", line):
            found.append(shlex.join(shlex.split(line, comments=True)))
    return [re.sub(r"^'([A-Z]+=\S+)'", r"\1", line) for line in found]


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
            re.split(r"  +|\s#", line.replace("{{", "{").replace("}}", "}").replace("\\[", "["))[0] for line in lines
        ]
    return [line for line in found if "`" not in line]


def resolve(words: list[str]) -> tuple[typing.Any, list[str]]:
    """The command that takes the words, and what it is given."""
    if words[0] == "insightedit":
        named, words = "insightedit.cli.main", words[1:]
        if words and words[0] in GROUPS:
            named, words = GROUPS[words[0]], words[1:]
        app = import_module(named).app
    else:
        module, words = words[2], words[3:]
        if module in APPS:
            app = import_module(APPS[module]).app
        else:
            from data_recipes.runner.cli import command_line

            app = command_line(module.partition(".")[2] or None)
    command: typing.Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words, "which command?"
        assert words[0] in command.commands or ":" in words[0], f"no command {words[0]}"
        command, words = command.get_command(None, words[0]), words[1:]
    return command, words


def parse(line: str) -> None:
    """Fail if a command could not even begin."""
    words = shlex.split(line, comments=True)
    while re.fullmatch(r"[A-Z]+=.*", words[0]):
        words = words[1:]
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[0] == "pip":
        for extra in re.findall(r"\[(\w+)\]", line):
            assert re.search(rf'"{extra}"(: |\] = )\[', (ROOT / "setup.py").read_text("utf-8")), extra
    elif words[0] == "stages/default.sh":
        from insightedit.training.default.cli import read_settings

        read_settings(words[1:])
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
        from data_recipes.runner.config import load_config

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
        lines = blocks(path)
        if path.name == "README.md" and path.parent == ROOT:
            lines += filter(is_whole, inline(path))
        found |= {line: path.relative_to(ROOT).as_posix() for line in lines}
    for path in MODULES:
        found |= {line: path.relative_to(ROOT).as_posix() for line in filter(is_whole, examples(path))}
    return sorted(found.items())


PRINTED = printed()


@pytest.mark.parametrize(("line", "place"), PRINTED, ids=[f"{place}: {line}"[:120] for line, place in PRINTED])
def test_a_printed_command_can_begin(line, place):
    parse(line)


def test_there_are_commands_to_check():
    assert len(PRINTED) > 60
    assert len(blocks(ROOT / "README.md")) > 20


PARSED_ONLY = (  # what needs a network, GPUs, hours or somebody's photographs: checked by `parse` alone
    "make test",
    "pip install",
    "SIZE=mini",
    "NPROC=8",
    "deepspeed",
    "insightedit import",
    "source.path=photos/",
)
SHORTER = {  # the same command over less
    " --count 60": " --count 2",
    " --config scenes_oracle": " --config scenes_oracle source.count=8",
    " --push-to your-name/my-adapter": "",
    "data preview insightedit": "data preview insightedit --draws 100 --samples 2",
}
ENDS = {"insightedit doctor": (0, 1)}  # 1: it found something


def shortened(line: str) -> str:
    for whole, less in SHORTER.items():
        line = line.replace(whole, less)
    return line


def fresh_copy(place: Path) -> Path:
    """The tree as a clone has it, with a `.venv` as `make venv` leaves it."""
    import site
    import venv

    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True
    )
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)
    venv.create(place / ".venv", symlinks=True)
    (packages,) = (place / ".venv/lib").glob("python*/site-packages")
    lines = [str(place), *site.getsitepackages()]
    (packages / "installed.pth").write_text("\n".join(lines) + "\n")
    script = place / ".venv/bin/insightedit"
    script.write_text(f"#!{place}/.venv/bin/python\nfrom insightedit.cli.main import main\nmain()\n")
    script.chmod(0o755)
    for stamp in (".base", ".dev"):
        (place / ".venv" / stamp).touch()
    return place


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_readme_works_as_printed(tmp_path):
    """In order, in one shell, in a fresh copy, from an environment that is not activated."""
    place = fresh_copy(tmp_path / "clone")
    script = ['fail() { echo "FAILED with $1: $2" >&2; exit 1; }']
    lines = [line for line in blocks(ROOT / "README.md") if not line.startswith(PARSED_ONLY)]
    lines = [line for line in lines if not any(part in line for part in PARSED_ONLY)]
    assert len(lines) >= 12
    for line in lines:
        allowed = next((codes for start, codes in ENDS.items() if line.startswith(start)), (0,))
        good = " || ".join(f"[ $code = {code} ]" for code in allowed)
        script += [
            f"echo {shlex.quote(line)}",
            shortened(line),
            "code=$?",
            f"{good} || fail $code {shlex.quote(line)}",
        ]
    gone = ("VIRTUAL_ENV", "PYTHONPATH", "CONDA_PREFIX", "PYTHON")
    env = {name: value for name, value in os.environ.items() if name not in gone}
    env["PATH"] = ":".join(part for part in env["PATH"].split(":") if part != str(Path(sys.executable).parent))
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=place, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]


LACKING = [
    ("insightedit", "edit photo.png words --before-after x.png -o y.png", "omegaconf", "omegaconf"),
    ("data_recipes", "", "pyarrow", None),
    ("data_recipes.advancededit", "--help", "pyarrow", None),
    ("data_recipes", "--config scenes_oracle --out out --count 2", "pyarrow", "insightedit[data]"),
    ("data_recipes", "--config scenes_oracle --out out --count 2 --engine ray", "ray", "insightedit[ray]"),
    ("data_recipes.scenes", "--out out --count 2 --format parquet", "pyarrow", "insightedit[data]"),
    ("data_recipes.formats", "bad.parquet --to jsonl -o out", "pyarrow", "insightedit[data]"),
    ("data_recipes.expressive", "--data x.jsonl --out out", "datasets", "insightedit[data]"),
    ("insightedit", "doctor data parquets", "pyarrow", "insightedit[data]"),
    ("insightedit", "eval tradeoff", "matplotlib", "insightedit[eval]"),
    ("insightedit", "eval rate a b --page out", "pydantic", "insightedit[eval]"),
    ("insightedit", "eval emu-edit parquets --results album", "pyarrow", "insightedit[data]"),
    ("insightedit.stage1", "--overlay tiny comprehension.quantization=4bit", "bitsandbytes", "insightedit[train]"),
    ("insightedit.stage1", "--overlay tiny optim.name=adamw8bit", "bitsandbytes", "insightedit[train]"),
    ("insightedit.stage1", "--overlay tiny PARQUET", "pyarrow", "insightedit[data]"),
]  # module, words, what is not installed, what the sentence names; None: it works without
WITHOUT = """
import runpy, sys
missing, module = sys.argv[1:3]
sys.modules[missing] = None
sys.argv = sys.argv[2:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("module", "words", "missing", "named"), LACKING)
def test_a_missing_extra_is_named(module, words, missing, named, tmp_path):
    """A base install runs what needs no extra, and tells which one the rest needs."""
    from tests.cli.bad_workspace import fill

    words = words.replace("PARQUET", "'data.sources=[{kind: parquet, path: parquets}]'")
    fill(tmp_path / "work")
    command = [sys.executable, "-c", WITHOUT, missing, module, *shlex.split(words)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path / "work", env=env, capture_output=True, text=True, timeout=300, check=False
    )
    told = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    if named is None:
        assert (done.returncode, told) == (0, []), done.stderr[-2000:]
    else:
        assert (done.returncode, len(told)) == (2, 1), done.stderr[-2000:]
        assert missing in told[0] and named in told[0], told[0]
