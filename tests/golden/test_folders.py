"""Model folders as exports and importers write them: files, the keys of their JSON, and every tensor.

A tensor is told by its type, its shape and two numbers: its norm, and its sum along a wave, which sees another order.
Other processors round otherwise in the last bits; so the numbers are compared within a thousandth.
`python -m tests.golden.test_folders` writes all anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from insightedit.config import list_recipes, load_config
from insightedit.export.folder import export_run
from tests.runs import TINY
from tests.training.golden import STAGES

FOLDERS = Path(__file__).parents[1] / "data" / "golden" / "folders"
IMPORTERS = ("instructpix2pix", "mgie", "mige", "smartedit")
TOLERANCE = 1e-3
WRITES = "INSIGHTEDIT_WRITE_GOLDEN_FOLDERS"


def train_all(folder: Path, recipe: str) -> Path:
    """Train the stages of a recipe on the tiny models; returns the last one's run folder."""
    before = Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        for stage in load_config(recipe).stages:
            run = STAGES[stage](["--recipe", recipe, *TINY])
    finally:
        os.chdir(before)
    return folder / run.run_dir


def fingerprint(tensor: torch.Tensor) -> list[float]:
    """[norm, sum along a wave], to five digits."""
    values = tensor.double().flatten()
    wave = torch.from_numpy(np.cos(np.arange(1, values.numel() + 1, dtype=np.float64)))
    return [float(f"{number:.5g}") for number in (values.norm().item(), (values @ wave).item())]


def keys_of(value: Any, prefix: str = "") -> list[str]:
    """The paths of a JSON value's keys, lists' items as one, keys that are files without their folders."""
    if isinstance(value, dict):
        return [path for key, item in value.items() for path in keys_of(item, f"{prefix}.{Path(key).name}")]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return sorted({path for item in value for path in keys_of(item, f"{prefix}[]")})
    return [prefix.removeprefix(".")]


def described(folder: Path) -> dict[str, Any]:
    """File -> what is kept of it. Tensors whose names differ in numbers only stand in one line."""
    out: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            groups: dict[str, list[list[float]]] = {}
            for tensor_name, tensor in sorted(load_file(path).items()):
                kind = str(tensor.dtype).removeprefix("torch.")
                pattern = re.sub(r"(?<=\.)\d+(?=\.)", "*", tensor_name)
                groups.setdefault(f"{pattern} {kind} {list(tensor.shape)}", []).append(fingerprint(tensor))
                groups.setdefault("names", []).append(tensor_name)
            out[name] = {**groups, "names": digest_of_names(groups.pop("names"))}
        elif path.suffix == ".json" and path.name != "tokenizer.json":
            out[name] = sorted(keys_of(json.loads(path.read_text(encoding="utf-8"))))
        else:
            out[name] = None
    return out


def digest_of_names(names: list[Any]) -> str:
    """Which numbers the names hold."""
    import hashlib

    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def check(found: dict[str, Any], kept: dict[str, Any]) -> None:
    """Assert that a folder is as it was."""
    assert list(found) == list(kept), "files"
    for name, tells in kept.items():
        if not isinstance(tells, dict):
            assert found[name] == tells, name
            continue
        assert list(found[name]) == list(tells), f"{name}: tensors, their types or shapes"
        assert found[name]["names"] == tells["names"], f"{name}: names"
        for group, numbers in tells.items():
            if group == "names":
                continue
            assert len(found[name][group]) == len(numbers), f"{name}: {group}"
            for now, before in zip(found[name][group], numbers, strict=True):
                assert now == pytest.approx(before, rel=TOLERANCE, abs=TOLERANCE * max(1, before[0])), group


def compare(name: str, folder: Path) -> None:
    """A folder with what is kept under a name, which is written anew where the environment says so."""
    if os.environ.get(WRITES):
        text = json.dumps(described(folder), indent=1)
        text = re.sub(r"\[\s+(-?[\d.e+-]+),\s+(-?[\d.e+-]+)\s+\]", r"[\1, \2]", text)
        (FOLDERS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    check(described(folder), json.loads((FOLDERS / f"{name}.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recipe -> the export of its tiny run, in `RECIPE/model`; the runs lie in `RECIPE/runs`. Read only."""
    root = tmp_path_factory.mktemp("golden")
    return {recipe: export_run(train_all(root / recipe, recipe), root / recipe / "model") for recipe in list_recipes()}


@pytest.mark.parametrize("recipe", list_recipes())
def test_an_export_is_what_it_was(exported, recipe):
    compare(f"export-{recipe}", exported[recipe])


@pytest.mark.parametrize("system", IMPORTERS)
def test_an_import_is_what_it_was(made, system):
    compare(f"import-{system}", made[system][0])


def test_another_order_or_name_is_seen(exported):
    kept = described(exported["mgie"])
    weights = "bridge/diffusion_pytorch_model.safetensors"
    for change in ({"names": "other"}, {next(iter(kept[weights])): [[0.0, 0.0]]}):
        with pytest.raises(AssertionError):
            check(kept, {**kept, weights: {**kept[weights], **change}})
    values = torch.randn(64)
    assert fingerprint(values)[1] != pytest.approx(fingerprint(values.flip(0))[1], abs=0.1)


if __name__ == "__main__":
    FOLDERS.mkdir(parents=True, exist_ok=True)
    words = ["-m", "pytest", "-q", "-p", "no:xdist", __file__, "-k", "is_what_it_was"]
    sys.exit(subprocess.run([sys.executable, *words], env={**os.environ, WRITES: "1"}, check=False).returncode)
