#!/usr/bin/env bash
# scry beside PostgreSQL 15, in one run on one machine, with the same durability: every commit is on disk before it is
# acknowledged (PostgreSQL: fsync = on, synchronous_commit = on, its defaults). Both servers keep their files in the same folder;
# rounds alternate between them. Prints Markdown for benches/RESULTS.md.
#
#   compare.sh                        SCALE=10 ROUNDS=3 SECONDS_EACH=10 CLIENTS="1 16 64"
#                                     SCRIPTS="tpcb-like simple-update select-only" (also hot-row: one row, updated by all)
#                                     BUSY= scripts whose latency is taken while others write to the same disk, e.g. simple-update
#                                     COPY_SCALE=1 (TPC-H scale of lineitem; 0 leaves COPY out), COPY_ROUNDS=3
#                                     SCRY_SOCKETS=1: pgbench comes by Unix-domain sockets instead of the loopback, to both
#                                     FOLDER=where the data directories go (default: TMPDIR)
#                                     SCRY_NO_BUILD=1 SCRY=path of a program that is built already
export SCRY_PROFILE=${SCRY_PROFILE:-release}
[ -z "${FOLDER:-}" ] || export TMPDIR=$FOLDER
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

if [ -z "${SCRY_NO_BUILD:-}" ]; then
  # Apart: together they would build the server with other features than its users get.
  (cd "$REPO" && cargo build --profile "$PROFILE" -p scry && cargo build --profile "$PROFILE" -p scry-benches --bins)
fi
load_programs
work_folder

COPY_SCALE=${COPY_SCALE:-1}
COPY_FILE=
if [ "$COPY_SCALE" != 0 ]; then
  COPY_FILE=$WORK/lineitem.tsv
  log "writing lineitem at scale $COPY_SCALE"
  "$BIN/tpch" rows lineitem --scale "$COPY_SCALE" --out "$COPY_FILE" >/dev/null
fi

# A quarter of the memory up to 2 GB for shared_buffers, as PostgreSQL's documentation advises, and room for the log, so that no
# checkpoint falls into a short round. Everything else is PostgreSQL's default.
memory_mb=$(($(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo) / 1024))
buffers=$((memory_mb / 4 < 2048 ? memory_mb / 4 : 2048))
SCRY_POSTGRES_SETTINGS="shared_buffers=${buffers}MB max_wal_size=8GB min_wal_size=1GB checkpoint_timeout=30min max_connections=200"
start_postgres
start_scry
cd "$WORK"
python3 "$REPO/scripts/bench/compare.py" \
  --scry "$SCRY_PID:$SCRY_PORT:scry:$SCRY_HOST" --postgres "$POSTGRES_PID:$POSTGRES_PORT:postgres:$POSTGRES_HOST" \
  --scale "${SCALE:-10}" --rounds "${ROUNDS:-3}" --seconds "${SECONDS_EACH:-10}" \
  --clients ${CLIENTS:-1 16 64} --scripts ${SCRIPTS:-tpcb-like simple-update select-only} \
  ${BUSY:+--busy $BUSY} ${COPY_FILE:+--copy "$COPY_FILE" --copy-rounds "${COPY_ROUNDS:-3}"} \
  --settings "$SCRY_POSTGRES_SETTINGS"
