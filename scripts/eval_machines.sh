#!/usr/bin/env bash
# Run a sweep on several machines that share a file system; start it on each of them, with its own MACHINE_RANK:
#   MACHINES=2 MACHINE_RANK=0 MASTER=host0 GPUS=8 scripts/eval_machines.sh NAME|FILE [options of `vidcompress eval`]
# GPUS is the number on each machine, MASTER the address of machine 0. Rows of lmms-eval are started by machine 0 alone:
# give every machine methods of its own instead, as docs/reproduce.md says.
set -euo pipefail
: "${1:?name a sweep of configs/, or a TOML file}"
: "${MACHINES:?how many machines}" "${MACHINE_RANK:?which of them this is, from 0}" "${MASTER:?address of machine 0}"
. "$(dirname "${BASH_SOURCE[0]}")/eval_lib.sh"
GPUS="${GPUS:-$(nvidia-smi --list-gpus | wc -l)}"
sweep "$1" "${PYTHON:-python}" -m accelerate.commands.launch --multi_gpu --num_machines "$MACHINES" \
    --machine_rank "$MACHINE_RANK" --main_process_ip "$MASTER" --main_process_port "${MASTER_PORT:-29500}" \
    --num_processes "$((MACHINES * GPUS))" --mixed_precision no --dynamo_backend no -- "${@:2}"
