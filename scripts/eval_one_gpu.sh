#!/usr/bin/env bash
# Run a sweep in one process, on the first GPU or on the CPU, then show the tables:
#   scripts/eval_one_gpu.sh NAME|FILE [options of `vidcompress eval`]
set -euo pipefail
: "${1:?name a sweep of configs/, or a TOML file}"
. "$(dirname "${BASH_SOURCE[0]}")/eval_lib.sh"
sweep "$1" "${PYTHON:-python}" -- "${@:2}"
