#!/usr/bin/env bash
# One stage on several machines that reach each other by ssh without a password and share the run folder:
#   HOSTFILE=hosts stages/multi_node.sh 1 [arguments of the stage]
# `hosts` holds one line per machine, e.g.
#   node-a slots=8
#   node-b slots=8
set -euo pipefail
if [[ $# -lt 1 || ! $1 =~ ^[123]$ ]]; then
    echo "usage: HOSTFILE=hosts $0 1|2|3 [arguments of the stage]" >&2
    exit 2
fi
hostfile=${HOSTFILE:-hosts}
if [[ ! -f $hostfile ]]; then
    echo "error: the host file $hostfile does not exist: one line per machine, e.g. 'node-a slots=8'; HOSTFILE=FILE names it" >&2
    exit 2
fi
number=$1
shift
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
require deepspeed "several processes need it: pip install 'insightedit[train]'"
exec "$python" -m deepspeed.launcher.runner --hostfile "$hostfile" --module "insightedit.stage$number" "$@"
