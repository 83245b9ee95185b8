#!/usr/bin/env bash
# Start one stage: launch.sh NUMBER [arguments of the stage]. Called by stage1.sh, stage2.sh and stage3.sh.
#   NPROC   processes on this machine, one per GPU (default 1: plain python; more: the deepspeed launcher)
#   PYTHON  interpreter (default: python.sh says which)
set -euo pipefail
if [[ $# -lt 1 || ! $1 =~ ^[123]$ ]]; then
    echo "usage: $0 1|2|3 [arguments of the stage]" >&2
    exit 2
fi
number=$1
shift
nproc=${NPROC:-1}
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
if [[ ! $nproc =~ ^[1-9][0-9]*$ ]]; then
    echo "error: NPROC is '$nproc', must be a positive whole number" >&2
    exit 2
fi
if ((nproc == 1)); then
    exec "$python" -m "insightedit.stage$number" "$@"
fi
require deepspeed "several processes need it: pip install 'insightedit[train]'"
exec "$python" -m deepspeed.launcher.runner --num_gpus "$nproc" --module "insightedit.stage$number" "$@"
