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
target=${1:-scry}
before=()
binary=$SCRY
if [ "$target" = postgres ]; then
  postgres_user
  before=("${AS_POSTGRES[@]}")
  binary=$PGBIN/postgres
  cp "$BIN/histories" "$WORK/histories"
else
  ln -s "$BIN/histories" "$WORK/histories"
fi
mkdir -m 1777 "$WORK/sites"
"${before[@]}" "$WORK/histories" --server "$target" --binary "$binary" --folder "$WORK/sites/one" --seconds "$seconds" \
  --round-seconds "${ROUND_SECONDS:-6}" --clients "${HISTORY_CLIENTS:-8}" ${SEED:+--seed "$SEED"} || {
  # What a failed round left is worth more than a clean disk.
  SCRY_KEEP=1
  exit 1
}
