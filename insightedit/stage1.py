"""Stage 1, align: the Q-Former learns to speak CLIP text from the language model's edit tokens. Captions.

    python -m insightedit.stage1 --overlay tiny                        a CPU, seconds
    python -m insightedit.stage1 train.batch_size=32 optim.lr=1e-4     one GPU
    deepspeed --num_gpus 8 --module insightedit.stage1                 many GPUs, configs/deepspeed/zero2.json
    python -m insightedit.stage1 --recipe smartedit --restart          anew, the old run is kept aside

The run folder is runs/RECIPE/stage1 (output_dir=DIR changes it). A run that was stopped, or killed, goes on
when the
same command is given again.
"""

from __future__ import annotations

from functools import partial

from insightedit.training.run import run_from_command_line, run_stage

main = partial(run_stage, 1, description=__doc__)

if __name__ == "__main__":
    run_from_command_line(main)
