#!/usr/bin/env bash
# The embedded default from nothing, in the time that there is: base models, stages, measurement, export. Resumable:
# after a stop the same command goes on where it was; with more MINUTES a finished run trains on.
#
#   MINUTES=11 stages/default.sh              one accelerator at 128 px, else the processor's cores at 64 px
#   MINUTES=600 stages/default.sh             ten hours
#   MINUTES=11 stages/default.sh --dry-run    the plan with the minutes of every part
#
#   MINUTES   wall clock of everything, all sessions together (default 60)
#   RUNS      folder of the run (default runs/default)
#   SIZE      pixels of a side: 64 or 128           PACK     folder with further photographs to train on
#   WORKERS   processes of each part that render    EXPORT   where a copy of the finished model goes
#   SHARD_MB  also pack the results in files of at most so many MiB, seven and a record at most
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
words=()
for name in MINUTES RUNS SIZE PACK WORKERS EXPORT SHARD_MB; do
    if [[ -n ${!name:-} ]]; then
        option=${name,,}
        words+=("--${option//_/-}" "${!name}")
    fi
done
# one thread a part unless the plan gives it more: threads of two parts that share cores wait for each other
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "$python" -m insightedit.training.default ${words[@]+"${words[@]}"} "$@"
