"""One of several processes that run stages one after the other, so that all of them start once.

python -m torch.distributed.run --nproc-per-node 2 tests/training/zero_worker.py SESSIONS.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from insightedit.training.processes import stop_processes
from tests.training.golden import STAGES


def main() -> None:
    """Run the sessions that the file lists as [stage, words]."""
    try:
        for number, words in json.loads(Path(sys.argv[-1]).read_text()):
            STAGES[number](words)
    finally:
        stop_processes()


if __name__ == "__main__":
    main()
