"""One of several processes that train the stand-in with DeepSpeed; started by a launcher.

python -m torch.distributed.run --nproc-per-node 2 tests/training/worker.py RUN_DIR ZERO_NAME MAX_MINUTES
PRECISION
"""

from __future__ import annotations

import argparse
import os
import sys

from insightedit.config.load import ConfigError
from insightedit.training.loop import fit
from insightedit.training.objectives import TrainingStep
from insightedit.training.processes import start_processes, stop_processes
from tests.training.standin import SmallEditor, SmallLoader, objective, small_config


def main() -> None:
    """Train, save, say what was done; a user's mistake ends with exit code 2."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir")
    parser.add_argument("deepspeed")
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--local_rank", type=int)
    arguments = parser.parse_args()
    config = small_config(
        engine="deepspeed",
        deepspeed=arguments.deepspeed,
        max_minutes=arguments.minutes,
        precision=arguments.precision,
        gradient_accumulation_steps=2,
        max_steps=4,
    )
    rank = int(os.environ.get("RANK", 0))
    try:
        processes = start_processes(config.train)
        summary = fit(
            TrainingStep(SmallEditor(), objective, config), SmallLoader(rank), arguments.run_dir, processes=processes
        )
        if rank == 0:
            sys.stdout.write(
                f"steps={summary.steps} resumed={summary.resumed_from} loss={summary.losses['loss']:.6f}\n"
            )
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    finally:
        stop_processes()


if __name__ == "__main__":
    main()
