"""`insightedit.__all__`: what a user may import. A name that leaves it has a line in CHANGELOG.md."""

from __future__ import annotations

import subprocess
import sys

import insightedit

PUBLIC = {
    "BIM",
    "Config",
    "ConfigError",
    "EditBridge",
    "EditHead",
    "EditUNet",
    "Editor",
    "IAA",
    "InsightEditOutput",
    "InsightEditPipeline",
    "InterleavedEditPipeline",
    "LlavaComprehension",
    "QFormer",
    "__version__",
    "load_config",
    "load_pipeline",
}
COMMANDS = ("insightedit", "insightedit.miniatures", "data_recipes", "data_recipes.scenes")


def test_the_public_names_are_those_of_before():
    assert set(insightedit.__all__) == PUBLIC
    assert len(insightedit.__all__) == len(PUBLIC)
    assert all(getattr(insightedit, name) is not None for name in PUBLIC)


def test_a_module_that_is_called_by_name_is_one():
    """`python -m NAME` finds something to run, without running it."""
    code = "import importlib.util as u, sys\nassert all(u.find_spec(f'{n}.__main__') for n in sys.argv[1:]), sys.argv"
    done = subprocess.run([sys.executable, "-c", code, *COMMANDS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
