#!/usr/bin/env bash
# Stage 3 on one machine. NPROC processes (default 1); everything else goes to the stage:
#   stages/stage3.sh --overlay tiny
#   NPROC=8 stages/stage3.sh train.batch_size=16
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/launch.sh" 3 "$@"
