#!/usr/bin/env bash
# What candidate futures cost. Prints Markdown for benches/RESULTS.md.
#
#   futures.sh ratios      queries of futures beside the same queries of the present, over TPC-H lineitem; SCALE=1 ROUNDS=11
#   futures.sh idle        OLTP beside open candidates that nobody works in, and their memory; ACCOUNTS=100 (pgbench's scale),
#                          CANDIDATES=1000 CLIENTS=16 ROUNDS=7 SECONDS_EACH=10
#
#   futures.sh scenarios   scenarios over lineitem: candidates beside copies of the table in PostgreSQL 15 and in DuckDB, which pip
#                          brings; SCALE=1 SCENARIOS=10
#
#   FOLDER=where the data directories go (default: TMPDIR), SCRY_NO_BUILD=1 SCRY=path of a program that is built already
export SCRY_PROFILE=${SCRY_PROFILE:-release}
[ -z "${FOLDER:-}" ] || export TMPDIR=$FOLDER
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

PART=${1:-ratios}
if [ -z "${SCRY_NO_BUILD:-}" ]; then
  # Apart: together they would build the server with other features than its users get.
  (cd "$REPO" && cargo build --profile "$PROFILE" -p scry && cargo build --profile "$PROFILE" -p scry-benches --bins)
fi
psycopg_python
work_folder
SCALE=${SCALE:-1}

# rows TABLE: writes the table's rows, and sets ROWS_FILE.
rows() {
  ROWS_FILE=$WORK/$1.tsv
  log "writing $1 at scale $SCALE"
  "$BIN/tpch" rows "$1" --scale "$SCALE" --out "$ROWS_FILE" >/dev/null
}

case $PART in
  ratios)
    rows lineitem
    lineitem=$ROWS_FILE
    rows orders
    start_scry
    "$PYTHON" "$REPO/scripts/bench/futures.py" ratios --scry "$SCRY_PID:$SCRY_PORT:scry" --lineitem "$lineitem" \
      --orders "$ROWS_FILE" --rounds "${ROUNDS:-11}"
    ;;
  idle)
    start_scry "$WORK/without"
    without=$SCRY_PID:$SCRY_PORT:scry
    start_scry "$WORK/beside"
    "$PYTHON" "$REPO/scripts/bench/futures.py" idle --without "$without" --beside "$SCRY_PID:$SCRY_PORT:scry" \
      --scale "${ACCOUNTS:-100}" --candidates "${CANDIDATES:-1000}" --clients "${CLIENTS:-16}" --rounds "${ROUNDS:-7}" \
      --seconds "${SECONDS_EACH:-10}"
    ;;
  scenarios)
    python_with duckdb 'duckdb>=1'
    rows lineitem
    # As in compare.sh: room in memory and for the log.
    SCRY_POSTGRES_SETTINGS="shared_buffers=2048MB work_mem=64MB max_wal_size=8GB checkpoint_timeout=30min"
    start_postgres
    start_scry
    "$PYTHON" "$REPO/scripts/bench/scenarios.py" --scry "$SCRY_PID:$SCRY_PORT:scry" --scry-folder "$SCRY_DATA" \
      --postgres "$POSTGRES_PID:$POSTGRES_PORT:postgres" --duckdb-folder "$WORK" --lineitem "$ROWS_FILE" \
      --scenarios "${SCENARIOS:-10}" --settings "$SCRY_POSTGRES_SETTINGS"
    ;;
  *) die "ratios, idle or scenarios, not $PART" ;;
esac
