# Sourced by the other scripts: sets `python`, the interpreter that has insightedit.
#   PYTHON names it; else that of the activated environment, else the one that `make` put into .venv, else `python`.
python=${PYTHON:-python}
venv=$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/python
if [[ -z ${PYTHON:-}${VIRTUAL_ENV:-}${CONDA_PREFIX:-} && -x $venv ]]; then
    python=$venv
fi

require() { # MODULE HINT: end in one sentence where the interpreter lacks a module
    "$python" -c 'import sys; from importlib.util import find_spec; sys.exit(find_spec(sys.argv[1]) is None)' "$1" \
        2>/dev/null && return
    echo "error: $python has no $1: $2" >&2
    exit 2
}

for module in omegaconf torch typer; do
    require $module "\`make edit\` installs it into .venv, PYTHON=... names another interpreter"
done
