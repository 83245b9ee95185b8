"""All benchmarks by name; a module is imported when its benchmark is asked for.

A benchmark is a module, a class or an object with `CARD` and either `load(folder, split=...)`, which gives a
`Benchmark`, or `samples(folder, split)`, which yields its `BenchmarkSample`s; `PROTOCOLS` may say what measures it. One
of somebody else is named by where it lies, `my_package.my_module:MyBenchmark`, on the command line too.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from insightedit.evaluation.benchmarks.base import Benchmark, Card, Loader, reads

# the module of each has its name, with underlines
MODULES = (
    "reason-edit", "advancededit", "magicbrush", "emu-edit", "evr", "gier", "ma5k", "migebench", "dreambench", "gedit",
    "imgedit", "scenes", "photos",
)  # fmt: skip
OTHER_NAMES = {
    "reasonedit": "reason-edit", "advancededit-eval": "advancededit", "emu": "emu-edit", "emuedit": "emu-edit",
    "emu-edit-test-set": "emu-edit", "ma5k-req": "ma5k", "mige-bench": "migebench", "gedit-bench": "gedit",
    "imgedit-bench": "imgedit",
}  # fmt: skip


def did_you_mean(name: str, known: Iterable[str], meant: Callable[[str], str] = str) -> str:
    """The end of a sentence about a name that there is not: those that come close, and all there are."""
    known = list(known)
    close = dict.fromkeys(map(meant, difflib.get_close_matches(name, known, n=2, cutoff=0.6)))
    listed = ", ".join(one for one in known if meant(one) == one)
    return f"did you mean {' or '.join(close)}? There are {listed}." if close else f"there are {listed}."


def load_named(name: str, what: str) -> Any:
    """A thing of somebody else: `my_package.my_module:Thing` (a class is called), or a module `my_module:`."""
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
        found = getattr(found, attribute) if attribute else found
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{name} is no {what} that can be imported ({error}): name it as MODULE:NAME, with the module's folder on "
            "PYTHONPATH."
        ) from error
    return found() if isinstance(found, type) else found


def benchmark_name(name: str) -> str:
    """The name of a benchmark as the registry has it, whatever its case and hyphens; `MODULE:NAME` as it is."""
    if ":" in name:
        return name
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    wanted = OTHER_NAMES.get(wanted, wanted)
    if wanted not in MODULES:
        told = did_you_mean(wanted, [*MODULES, *OTHER_NAMES], lambda one: OTHER_NAMES.get(one, one))
        raise ValueError(f"unknown benchmark {name!r}: {told}")
    return wanted


def benchmark_loader(name: str) -> Loader:
    """What reads a benchmark: `CARD` and `load`."""
    name = benchmark_name(name)
    if name in MODULES:
        return load_named(f"insightedit.evaluation.benchmarks.{name.replace('-', '_')}", "benchmark")
    found = load_named(name, "benchmark")
    if not isinstance(getattr(found, "CARD", None), Card) or not (hasattr(found, "load") or hasattr(found, "samples")):
        raise ValueError(f"{name} is no benchmark: give it a `CARD` and `samples(folder, split)`, or `load`.")
    if found.CARD.name in MODULES:
        raise ValueError(f"{name} is called {found.CARD.name}, as one of ours: give its card another name.")
    return found if hasattr(found, "load") else _Checked(found)


class _Checked:
    """A benchmark that only yields samples; their pictures and ids are checked as those of ours."""

    def __init__(self, benchmark: Any) -> None:
        self.CARD, self.PROTOCOLS = benchmark.CARD, getattr(benchmark, "PROTOCOLS", ("magicbrush_v1",))
        self.load = reads(self.CARD)(lambda notes, part: list(benchmark.samples(notes.folder, part)))


def load_benchmark(name: str, folder: str | Path, split: str | None = None) -> Benchmark:
    """Read and check the folder of a benchmark ("magicbrush", or MODULE:NAME); `split` None is the card's first."""
    return benchmark_loader(name).load(Path(folder), split=split)
