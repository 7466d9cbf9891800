#!/usr/bin/env bash
# Run a sweep on every GPU of this machine, or on as many processes as GPUS says, then show the tables:
#   GPUS=4 scripts/eval_gpus.sh NAME|FILE [options of `vidcompress eval`]
set -euo pipefail
: "${1:?name a sweep of configs/, or a TOML file}"
. "$(dirname "${BASH_SOURCE[0]}")/eval_lib.sh"
GPUS="${GPUS:-$(nvidia-smi --list-gpus | wc -l)}"
sweep "$1" "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node "$GPUS" -- "${@:2}"
