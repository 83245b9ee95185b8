"""All benchmarks by name; a module is imported when its benchmark is asked for."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import cast

from insightedit.evaluation.benchmarks.base import Benchmark, Loader

MODULES = {
    "reason-edit": "reason_edit",
    "advancededit": "advancededit",
    "magicbrush": "magicbrush",
    "emu-edit": "emu_edit",
    "evr": "evr",
    "gier": "gier",
    "ma5k": "ma5k",
    "migebench": "migebench",
    "dreambench": "dreambench",
    "gedit": "gedit",
    "imgedit": "imgedit",
    "scenes": "scenes",
}
OTHER_NAMES = {
    "reasonedit": "reason-edit",
    "advancededit-eval": "advancededit",
    "emu": "emu-edit",
    "emuedit": "emu-edit",
    "emu-edit-test-set": "emu-edit",
    "ma5k-req": "ma5k",
    "mige-bench": "migebench",
    "gedit-bench": "gedit",
    "imgedit-bench": "imgedit",
}


def benchmark_name(name: str) -> str:
    """The name of a benchmark as the registry has it, whatever its case and hyphens.

    Raises:
        ValueError: if there is no such benchmark; with the names that come close.
    """
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    wanted = OTHER_NAMES.get(wanted, wanted)
    if wanted not in MODULES:
        close = difflib.get_close_matches(wanted, [*MODULES, *OTHER_NAMES], n=2, cutoff=0.6)
        meant = list(dict.fromkeys(OTHER_NAMES.get(one, one) for one in close))
        hint = f"did you mean {' or '.join(meant)}? There are" if meant else "there are"
        raise ValueError(f"unknown benchmark {name!r}: {hint} {', '.join(MODULES)}.")
    return wanted


def benchmark_loader(name: str) -> Loader:
    """The module that reads a benchmark: `CARD` and `load`.

    Raises:
        ValueError: if there is no such benchmark.
    """
    module = f"insightedit.evaluation.benchmarks.{MODULES[benchmark_name(name)]}"
    return cast(Loader, importlib.import_module(module))


def load_benchmark(name: str, folder: str | Path, split: str | None = None) -> Benchmark:
    """Read and check the folder of a benchmark.

    Args:
        name: of the benchmark, e.g. "magicbrush".
        folder: as the user got it.
        split: one of the card's splits; None = the first.

    Raises:
        BenchmarkError: naming all that is wrong with the folder.
        ValueError: for an unknown benchmark or split.
    """
    return benchmark_loader(name).load(Path(folder), split=split)
