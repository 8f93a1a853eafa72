#!/usr/bin/env bash
# TPC-H: all eight tables by COPY, all 22 queries on the mirror against the reference answers, while pgbench writes.
#
#   tpch.sh [scry|postgres]           SCALE=0.01
#                                     TPCH=folder with queries/ and answers-sf$SCALE/ (default: benches/testdata/tpch, which has the
#                                     answers for 0.01, then shared/data/tpch beside the checkout)
#                                     REQUIRED=1: missing answers are an error, else the check is skipped with a message
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

SCALE=${SCALE:-0.01}
if [ -z "${TPCH:-}" ]; then
  TPCH=$REPO/benches/testdata/tpch
  [ -d "$TPCH/answers-sf$SCALE" ] || TPCH=$(find_beside shared/data/tpch)
fi
if [ -z "$TPCH" ] || [ ! -d "$TPCH/answers-sf$SCALE" ]; then
  [ -z "${REQUIRED:-}" ] || die "no reference answers for TPC-H scale $SCALE: set TPCH to a folder with queries/ and answers-sf$SCALE/"
  log "skipped - tpch: no folder with queries/ and answers-sf$SCALE/ (set TPCH)"
  exit 0
fi

load_programs
start_target "${1:-scry}"
pgbench -q -i -s 1 >/dev/null 2>&1 || die "pgbench -i failed"
pgbench -n -M prepared -c 4 -T 100000 >"$WORK/pgbench.out" 2>&1 &
WRITER=$!
STARTED+=("$WRITER")

if output=$("$BIN/tpch" load --scale "$SCALE" 2>&1); then
  printf '%s\n' "$output"
  ok "tpch scale $SCALE loaded by COPY"
else
  fail "tpch load"
  printf '%s\n' "$output" | tail -n 20 | sed 's/^/    /'
fi
"$BIN/tpch" check --queries "$TPCH/queries" --answers "$TPCH/answers-sf$SCALE" || FAILED=1

# pgbench must have written all the while.
if kill -0 "$WRITER" 2>/dev/null && ! grep -qiE 'error|aborted' "$WORK/pgbench.out"; then
  kill -INT "$WRITER" 2>/dev/null || true
  kill -TERM "$WRITER" 2>/dev/null || true
  wait "$WRITER" 2>/dev/null || true
  check "pgbench wrote meanwhile" test "$(psql -XAtc 'select count(*) from pgbench_history')" -gt 0
else
  fail "pgbench beside the queries"
  head -n 20 "$WORK/pgbench.out" | sed 's/^/    /'
fi
exit $FAILED
