"""Stage 2, understand: language model (LoRA), image adapter and UNet learn to edit together, without BIM.

    python -m insightedit.stage2 --overlay tiny                        a CPU, seconds; after stage 1
    python -m insightedit.stage2 --init-from runs/insightedit/stage1   another run folder of stage 1
    deepspeed --num_gpus 8 --module insightedit.stage2                 many GPUs, configs/deepspeed/zero2.json
    python -m insightedit.stage2 train.max_minutes=55                  stops in time; the same command goes on

The run folder is runs/RECIPE/stage2 (output_dir=DIR changes it); samples/ in it shows the same edits as
they get better.
"""

from __future__ import annotations

from functools import partial

from insightedit.training.run import run_from_command_line, run_stage

main = partial(run_stage, 2, description=__doc__)

if __name__ == "__main__":
    run_from_command_line(main)
