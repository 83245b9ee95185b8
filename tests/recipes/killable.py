"""A run of the toy recipe in a process of its own, so that tests can kill it: `python killable.py OUT KEY=VALUE...`.

Its standard output tells each task as it is done.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from data_recipes.runner.flow import RunStopped
from data_recipes.runner.progress import ProgressReporter
from data_recipes.runner.run import run_recipe
from tests.recipes.toy import toy_config


class Say(ProgressReporter):
    def begin(self, inputs, units, steps):
        sys.stdout.write("begin\n")
        sys.stdout.flush()

    def unit_done(self, report):
        sys.stdout.write(f"{report['unit']}\n")
        sys.stdout.flush()


def main() -> None:
    out, *words = sys.argv[1:]
    changes = dict(word.split("=") for word in words)
    told = {key: int(value) if value.isdecimal() else value for key, value in changes.items()}
    how = told.pop("how", None)
    if how is not None:
        told["steps"] = {"fault": {"how": how}}
    try:
        run_recipe(toy_config(Path(out), **told), Say())
    except RunStopped as error:
        sys.exit(f"stopped: {error}")


if __name__ == "__main__":
    main()
