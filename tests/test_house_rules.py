"""The rules of CONTRIBUTING.md that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted([*(ROOT / "insightedit").rglob("*.py"), *(ROOT / "data_recipes").rglob("*.py")])
PYTHON = [*LIBRARY, *sorted((ROOT / "tests").rglob("*.py")), ROOT / "setup.py"]
TEXT = [
    *PYTHON,
    *(path for folder in ("configs", "stages") for path in (ROOT / folder).rglob("*.*")),
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "insightedit/templates").iterdir(),
    ROOT / "Makefile",
    ROOT / "pyproject.toml",
]  # fmt: skip
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
ENTRY_POINTS = {"__main__"}


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def calls(path: Path, name: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


def test_one_reader_opens_pictures():
    """Editing, training, recipes, doctor and evaluation see the same pixels: all go through one module."""
    readers = {short(path) for path in LIBRARY if calls(path, "Image.open") or calls(path, "open_heif")}
    assert readers == {"insightedit/images/picture_files.py"}
    users = {short(path) for path in LIBRARY if calls(path, "open_picture")}
    assert users == {
        "insightedit/images/reading.py",
        "insightedit/images/picture_files.py",  # the format alone
        "insightedit/datasets/unpacking.py",  # whether there is transparency
        "insightedit/datasets/notes.py",  # size and end mark, without decoding
    }


def docstring_lines(node: ast.AST) -> int:
    """Lines of the docstrings in a module, class or function, those of its parts included."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = [n.body[0] for n in ast.walk(node) if isinstance(n, documented) and ast.get_docstring(n) is not None]
    return sum((text.end_lineno or 0) - text.lineno + 1 for text in found)


def test_files_stay_small():
    sizes = {p: len(p.read_text(encoding="utf-8").splitlines()) - docstring_lines(tree(p)) for p in LIBRARY}
    long = {short(path): lines for path, lines in sizes.items() if lines > MAX_FILE_LINES}
    assert not long, f"more than {MAX_FILE_LINES} lines beside docstrings: {long}"


def test_functions_stay_small():
    long = {
        f"{short(path)}:{node.name}": lines
        for path in LIBRARY
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or 0) - node.lineno + 1 - docstring_lines(node)) > MAX_FUNCTION_LINES
    }
    assert not long, f"more than {MAX_FUNCTION_LINES} lines beside docstrings: {long}"


def test_the_library_does_not_print():
    found = [f"{short(path)}:{call.lineno}" for path in LIBRARY for call in calls(path, "print")]
    assert not found, "say it through logging, rich or typer"


def test_pickles_are_never_loaded_from_outside():
    for path in PYTHON:
        for call in calls(path, "torch.load"):
            safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)
            assert safe, f"{short(path)}:{call.lineno}: torch.load without weights_only=True"
        assert not calls(path, "pickle.load"), short(path)


def test_one_place_writes_files_whole():
    """`insightedit.files` keeps permissions, others' files and names of temporary ones right; copies of it did not."""
    temporary = {  # places for what ends with the process
        "insightedit/training/processes.py",
        "insightedit/pipelines/folder_pipeline.py",
        "data_recipes/runner/cluster.py",
    }
    for path in LIBRARY:
        if short(path) not in {"insightedit/files.py", *temporary}:
            for name in ("os.replace", "os.rename", "tempfile.mkstemp", "tempfile.mkdtemp"):
                assert not calls(path, name), f"{short(path)} calls {name}: write through insightedit.files"


def loads_what_may_bring_code(path: Path) -> list[int]:
    """Lines where `from_pretrained` of a class that is none of ours stands without `trust_remote_code=False`."""
    own = {node.name for one in LIBRARY for node in tree(one).body if isinstance(node, ast.ClassDef)}
    lines = []
    for node in ast.walk(tree(path)):
        if not (isinstance(node, ast.Attribute) and node.attr == "from_pretrained"):
            continue
        home = ast.unparse(node.value)
        if home not in own and home not in {
            "cls",
            "super()",
            "PeftConfig",
            "pipeline_class(read_json(Path(place) / INDEX), place)",
        }:
            lines.append(node.lineno)
    return lines


def test_no_repository_s_code_is_run_or_asked_about():
    """All is loaded in one place, `load_pretrained`, which says so; or handed to `read`, which says so, too."""
    told = ROOT / "insightedit/modeling/pretrained.py", ROOT / "insightedit/evaluation/metrics/pretrained.py"
    for path in told:
        assert 'trust_remote_code"] = False' in path.read_text() or "trust_remote_code=False" in path.read_text()
    metrics = {f"{short(path)}:{line}" for path in told for line in loads_what_may_bring_code(path)}
    found = {f"{short(path)}:{line}" for path in LIBRARY for line in loads_what_may_bring_code(path)} - metrics
    in_read = {
        f"{short(path)}:{argument.lineno}"
        for path in LIBRARY
        for call in calls(path, "read")
        for argument in call.args
    }
    said = {
        f"{short(path)}:{call.lineno}"
        for path in LIBRARY
        for call in ast.walk(tree(path))
        if isinstance(call, ast.Call)
        and any(k.arg == "trust_remote_code" and ast.unparse(k.value) == "False" for k in call.keywords)
    }
    assert not found - in_read - said, "load it through insightedit.modeling.pretrained.load_pretrained"


def asks_for_a_recipe(source: str) -> list[int]:
    """Lines that compare a recipe's name, match on it, or look something up by it."""

    def is_recipe(node: ast.AST | None) -> bool:
        if isinstance(node, ast.Subscript):
            node = node.slice
        name = node.value if isinstance(node, ast.Constant) else getattr(node, "id", getattr(node, "attr", None))
        return name in {"recipe", "recipe_name"}

    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            asked = any(is_recipe(o) and not isinstance(o, ast.Constant) for o in operands)
        elif isinstance(node, ast.Match):
            asked = is_recipe(node.subject)
        elif isinstance(node, ast.Subscript):
            asked = is_recipe(node.slice) and not isinstance(node.slice, ast.Constant)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            texts = node.func.attr in {"startswith", "endswith"} and is_recipe(node.func.value)
            chosen = node.func.attr == "get" and any(
                is_recipe(a) and not isinstance(a, ast.Constant) for a in node.args
            )
            asked = texts or chosen
        else:
            continue
        lines += [node.lineno] if asked else []
    return lines


def test_a_recipe_is_a_yaml_plus_nothing():
    found = [f"{short(path)}:{line}" for path in LIBRARY for line in asks_for_a_recipe(path.read_text("utf-8"))]
    assert not found, f"no code asks for a recipe's name: {found}"


@pytest.mark.parametrize(
    "code",
    [
        'if recipe == "mgie": pass',
        'if "mgie" != config.recipe: pass',
        'x = recipe_name in ("mgie", "mige")',
        'x = contract["recipe"] == "mgie"',
        'match config.recipe:\n    case "mgie": pass',
        "x = BUILDERS[config.recipe]",
        "x = BUILDERS.get(recipe)",
        'x = config.recipe.startswith("mi")',
    ],
)
def test_asking_for_a_recipe_is_noticed(code):
    assert asks_for_a_recipe(code) == [1]


@pytest.mark.parametrize("code", ['x = {"recipe": config.recipe}', 'x = card["recipe"]', 'y = Path("runs") / recipe'])
def test_naming_a_recipe_is_not_asking_for_it(code):
    assert asks_for_a_recipe(code) == []


def test_no_file_names_a_machine_or_leaves_a_note_to_do():
    machine = re.compile(r"(?<!\w)/(work|home|root|Users|mnt|data)/[\w.]")
    later = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
    found = [
        f"{short(path)}:{number}"
        for path in TEXT
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if machine.search(line) or later.search(line)
    ]
    assert not found, found


def test_no_module_takes_everything_from_another():
    stars = [
        short(path)
        for path in PYTHON
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]
    assert not stars


def test_no_module_is_called_utils():
    assert not [short(p) for p in LIBRARY if p.stem in {"utils", "helpers", "misc", "common"}]


SILENT = """
import importlib, json, os, random, sys
import rich.style, torch, diffusers, transformers  # rich.style draws a random number when it is imported
before = dict(os.environ)
state = random.getstate()
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
changed = {k for k in set(before) | set(os.environ) if before.get(k) != os.environ.get(k)}
watched = ("CUDA_VISIBLE_DEVICES", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")
ours = {k for k in changed if "INSIGHT" in k or k in watched}
assert not ours, ours
assert random.getstate() == state, "an import drew or set random numbers"
assert not os.listdir("."), os.listdir(".")
"""


def modules() -> list[str]:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in LIBRARY]
    return [name.removesuffix(".__init__") for name in names if name.rpartition(".")[2] not in ENTRY_POINTS]


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )


def test_imports_are_silent(tmp_path):
    """Every module, in one process: no text, no file, no change of the environment or of the random state."""
    import json

    needs_more = {"insightedit.training.deepspeed_engine"}  # deepspeed itself compiles, prints and sets variables
    done = run(tmp_path, "-c", SILENT, json.dumps([name for name in modules() if name not in needs_more]))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_no_library_talks_either(tmp_path):
    """Where nothing else was imported before; what the commands import says nothing on the way."""
    done = run(
        tmp_path,
        "-c",
        "import insightedit.stage3, insightedit.export.folder, insightedit.evaluation.core.editing_methods",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_the_package_loads_nothing_heavy(tmp_path):
    code = (
        "import sys, time; start = time.perf_counter(); import insightedit; took = time.perf_counter() - start\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'omegaconf'} & set(sys.modules)\n"
        "assert not heavy, heavy\nassert insightedit.__version__ and 'Editor' in dir(insightedit)\n"
        "assert len(sys.modules) < 200, len(sys.modules)"
    )
    done = run(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")


def test_public_names_are_there_and_others_are_refused():
    import insightedit

    for name in insightedit.__all__:
        assert getattr(insightedit, name) is not None
    with pytest.raises(AttributeError, match="has no `Pipeline`; it has BIM, Config"):
        insightedit.Pipeline  # noqa: B018


def test_help_answers_without_torch(tmp_path):
    done = run(tmp_path, "-X", "importtime", "-m", "insightedit", "--help")
    assert done.returncode == 0, done.stderr
    assert "edit" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "diffusers", "transformers"}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path):
    import json

    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not [cell["source"] for cell in code if cell["outputs"] or cell["execution_count"] is not None]


def test_there_are_notebooks_to_check():
    assert [path.name for path in (ROOT / "notebooks").glob("*.ipynb")] == ["edit_image.ipynb"]
