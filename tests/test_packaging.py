"""The wheel: what travels in it, and that it works where no checkout is."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

pytest.importorskip("setuptools")
pytest.importorskip("wheel")

ROOT = Path(__file__).parents[1]
PARTS = ("insightedit", "data_recipes", "configs", "setup.py", "pyproject.toml", "LICENSE", "README.md")
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", ".train")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy, so that the checkout stays as it is."""
    copy = tmp_path_factory.mktemp("source")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, ignore=IGNORED)
        elif (ROOT / part).exists():
            shutil.copy(ROOT / part, copy / part)
    code = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return next(out.glob("*.whl"))


def travelling(folder: str, *suffixes: str) -> set[str]:
    """Files of the checkout that a wheel must hold, as the wheel names them."""
    files = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {p.relative_to(ROOT).as_posix() for p in files if not suffixes or p.suffix in suffixes}


def test_all_that_is_needed_travels(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = travelling("insightedit") | travelling("data_recipes")
    wanted |= {f"insightedit/{name}" for name in travelling("configs")}
    assert not wanted - names, f"missing: {sorted(wanted - names)[:10]}"


def test_nothing_else_travels(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"insightedit", "data_recipes"}
    assert not [name for name in names if name.endswith((".pyc", ".pt", ".bin", ".ckpt"))]


def test_the_wheel_says_what_it_is(wheel):
    files = zipfile.ZipFile(wheel)
    metadata = next(n for n in files.namelist() if n.endswith(".dist-info/METADATA"))
    text = files.read(metadata).decode()
    assert re.search(r"^License(-Expression)?: Apache-2.0$", text, re.MULTILINE)
    for need in ("torch", "torchvision", "transformers>=5", "diffusers>=0.38"):
        assert f"Requires-Dist: {need}\n" in text
    for extra in ("train", "data", "eval", "notebook", "dev"):
        assert f"Provides-Extra: {extra}\n" in text
    entry = next(n for n in files.namelist() if n.endswith("entry_points.txt"))
    assert "insightedit = insightedit.cli:main" in files.read(entry).decode()


def imported(path: Path) -> set[str]:
    """Top names of the packages that a file imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def test_every_import_is_declared(wheel):
    files = zipfile.ZipFile(wheel)
    metadata = files.read(next(n for n in files.namelist() if n.endswith(".dist-info/METADATA"))).decode()
    declared = {
        name.lower().replace("_", "-") for name in re.findall(r"^Requires-Dist: ([\w.-]+)", metadata, re.MULTILINE)
    }
    homes = packages_distributions()
    paths = [path for folder in ("insightedit", "data_recipes") for path in (ROOT / folder).rglob("*.py")]
    for path in paths:
        for name in imported(path) - {"insightedit", "data_recipes"}:
            candidates = {home.lower().replace("_", "-") for home in homes.get(name, [name])}
            assert candidates & declared, f"{path.relative_to(ROOT)} imports {name}, setup.py does not name it"


@pytest.fixture(scope="module")
def bin_folder(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel in it; other packages are seen through a .pth, the checkout is not."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False, symlinks=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    zipfile.ZipFile(wheel).extractall(site)
    (site / "other_packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = scripts / "insightedit"
    command.write_text(
        f"#!{scripts / 'python'}\nimport sys\nfrom insightedit.cli.main import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    return scripts


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "INSIGHTEDIT"))}
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=clean, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.mark.slow
def test_the_installed_package_is_the_wheels(bin_folder, tmp_path):
    code = "import insightedit, insightedit.config as c; print(insightedit.__file__, c.config_root(), sep='*')"
    for line in run(tmp_path, bin_folder / "python", "-c", code).stdout.strip().split("*"):
        assert Path(line).is_relative_to(bin_folder.parent)


@pytest.mark.slow
def test_help_of_the_installed_command(bin_folder, tmp_path):
    assert "edit" in run(tmp_path, bin_folder / "insightedit", "--help").stdout


@pytest.mark.slow
def test_a_stage_trains_from_the_installed_package(bin_folder, tmp_path):
    words = ["--recipe", "insightedit", "--overlay", "tiny", "max_steps=2"]
    run(tmp_path, bin_folder / "python", "-m", "insightedit.stage1", *words)
    assert (tmp_path / "runs/insightedit/stage1/contract.json").is_file()


@pytest.mark.slow
def test_scenes_are_written_by_the_installed_package(bin_folder, tmp_path):
    words = ["--out", tmp_path / "scenes", "--count", 4, "--size", 64, "--split", "train"]
    run(tmp_path, bin_folder / "python", "-m", "data_recipes.scenes", *words)
    assert any((tmp_path / "scenes").rglob("*"))


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / "insightedit/weights/default/model_index.json").is_file(), reason="no default weights here"
)
def test_the_installed_package_edits(bin_folder, tmp_path):
    from PIL import Image

    Image.new("RGB", (96, 64), "teal").save(tmp_path / "source.png")
    run(tmp_path, bin_folder / "insightedit", "edit", "source.png", "make it darker", "-o", "out.png", "--seed", 0)
    with Image.open(tmp_path / "out.png") as edited:
        assert edited.size == (96, 64)
