#!/usr/bin/env bash
# Everything of a recipe in order: [foundation] -> its stages -> an exported pipeline folder.
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
python=${PYTHON:-python}
recipe=${RECIPE:-insightedit}
list='
import sys
from insightedit.config import ConfigError, load_config
try:
    print(*load_config(sys.argv[1]).stages)
except ConfigError as error:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(2)'
stages=${STAGES:-$("$python" -c "$list" "$recipe")}
runs=${RUNS:-runs/$recipe}
export_to=${EXPORT:-$runs/model}

if [[ -n ${SIZE:-} ]]; then
    "$python" -m insightedit.foundation all --size "$SIZE"
fi
last=""
for number in $stages; do
    "$here/stage$number.sh" --recipe "$recipe" "$@" "output_dir=$runs/stage$number"
    last=$number
done
exec "$python" -m insightedit export "$runs/stage$last" -o "$export_to"
