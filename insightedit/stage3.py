"""Stage 3, edit: everything of stage 2 and the bidirectional interaction (BIM), on the full mixture.

    python -m insightedit.stage3 --overlay tiny                        a CPU, seconds; after stage 2
    python -m insightedit.stage3 train.ema_decay=0.999                 with a running average of the weights
    deepspeed --num_gpus 8 --module insightedit.stage3                 many GPUs, configs/deepspeed/zero2.json
    python -m insightedit.stage3 --recipe smartedit                    another recipe: no image branch
    python -m insightedit.stage3 --init-from my-editor                 fine-tune a finished model, exported or imported

The run folder is runs/RECIPE/stage3 (output_dir=DIR changes it). `insightedit export` makes a pipeline of it.
"""

from __future__ import annotations

from functools import partial

from insightedit.training.run import run_from_command_line, run_stage

main = partial(run_stage, 3, description=__doc__)

if __name__ == "__main__":
    run_from_command_line(main)
