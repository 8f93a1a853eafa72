#!/usr/bin/env bash
# Random concurrent transactions with kill -9 in them, and whether their isolation level allows what they saw: see
# benches/src/histories.
#
#   histories.sh [minutes] [scry|postgres]     SEED=number HISTORY_CLIENTS=8 ROUND_SECONDS=6 HISTORY_SECONDS=60
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

load_programs
work_folder
seconds=${HISTORY_SECONDS:-60}
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
  seconds=$(($1 * 60))
  shift
fi
SITES=$WORK/sites
run_over histories "${1:-scry}" --folder "$SITES/one" --seconds "$seconds" --round-seconds "${ROUND_SECONDS:-6}" \
  --clients "${HISTORY_CLIENTS:-8}" ${SEED:+--seed "$SEED"}
