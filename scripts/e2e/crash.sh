#!/usr/bin/env bash
# Load, kill -9, restart, check: see benches/src/crash.
#
#   crash.sh [scry|postgres]          RUNS=100 SEED=number WORKERS=6 LOAD_MS_MAX=1500 FRESH_EVERY=20
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

load_programs
work_folder
target=${1:-scry}
before=()
binary=$SCRY
if [ "$target" = postgres ]; then
  postgres_user
  before=("${AS_POSTGRES[@]}")
  binary=$PGBIN/postgres
  cp "$BIN/crash_loop" "$WORK/crash_loop"
else
  ln -s "$BIN/crash_loop" "$WORK/crash_loop"
fi
mkdir -m 1777 "$WORK/sites"
"${before[@]}" "$WORK/crash_loop" --server "$target" --binary "$binary" --folder "$WORK/sites" \
  --runs "${RUNS:-100}" --workers "${WORKERS:-6}" --load-ms-max "${LOAD_MS_MAX:-1500}" \
  --fresh-every "${FRESH_EVERY:-20}" ${SEED:+--seed "$SEED"} || {
  # What a failed run left is worth more than a clean disk.
  SCRY_KEEP=1
  exit 1
}
