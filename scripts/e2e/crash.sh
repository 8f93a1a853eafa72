#!/usr/bin/env bash
# Load, kill -9, restart, check: see benches/src/crash.
#
#   crash.sh [scry|postgres]          RUNS=100 SEED=number WORKERS=6 LOAD_MS_MAX=1500 FRESH_EVERY=20
#   RECYCLE=1 crash.sh                the audit trail is let go of behind checkpoints, and the mirror is removed now and then
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

load_programs
work_folder
SITES=$WORK/sites
run_over crash_loop "${1:-scry}" --folder "$SITES" --runs "${RUNS:-100}" --workers "${WORKERS:-6}" \
  --load-ms-max "${LOAD_MS_MAX:-1500}" --fresh-every "${FRESH_EVERY:-20}" ${SEED:+--seed "$SEED"} ${RECYCLE:+--recycle}
