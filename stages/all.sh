#!/usr/bin/env bash
# Everything of a recipe in order: [miniatures] -> its stages -> an exported pipeline folder.
# Each step is resumable: give the same command again after a stop, and it goes on where it was.
#
#   stages/all.sh --overlay tiny                      a CPU, a minute; random miniature models
#   SIZE=mini stages/all.sh --overlay mini            trains the miniature models first, then the stages on them
#   NPROC=8 stages/all.sh                             eight GPUs, LLaVA-1.5-7B and Stable Diffusion 1.5
#
#   RECIPE  recipe (default insightedit)       STAGES  stages to run (default: those of the recipe)
#   SIZE    miniature models to train first (default none)
#   RUNS    folder of the runs (default runs/RECIPE)   EXPORT  where the pipeline goes (default RUNS/model)
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
source "$here/python.sh"
export PYTHON=$python
recipe=${RECIPE:-insightedit}
list='
import sys
from insightedit.console import one_sentence_errors
from insightedit.config import load_config
with one_sentence_errors():
    print(*load_config(sys.argv[1]).stages)'
stages=${STAGES:-$("$python" -c "$list" "$recipe")}
for number in $stages; do
    if [[ ! $number =~ ^[123]$ ]]; then
        echo "error: STAGES is '$stages', must be numbers from 1 to 3 with spaces between them" >&2
        exit 2
    fi
done
runs=${RUNS:-runs/$recipe}
export_to=${EXPORT:-$runs/model}

if [[ -n ${SIZE:-} ]]; then
    "$python" -m insightedit.miniatures all --size "$SIZE"
fi
last=""
for number in $stages; do
    "$here/stage$number.sh" --recipe "$recipe" "$@" "output_dir=$runs/stage$number"
    last=$number
done
exec "$python" -m insightedit export "$runs/stage$last" -o "$export_to"
