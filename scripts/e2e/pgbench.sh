#!/usr/bin/env bash
# Unmodified pgbench in all its modes, with a watcher on the mirror that compares the four sums of one snapshot.
#
#   pgbench.sh [scry|postgres]        SCALE=10 SECONDS_EACH=5 CLIENTS="1 4 16 64" MODES="simple extended prepared"
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

SCALE=${SCALE:-10}
SECONDS_EACH=${SECONDS_EACH:-5}
CLIENTS=${CLIENTS:-1 4 16 64}
MODES=${MODES:-simple extended prepared}

# One run of pgbench; prints its rate. Fails on a failed transaction, an aborted client or no transaction at all.
run_pgbench() {
  local script=$1 mode=$2 clients=$3 output rate
  output=$(pgbench -n -b "$script" -M "$mode" -c "$clients" -j "$((clients < 4 ? clients : 4))" -T "$SECONDS_EACH" 2>&1) ||
    { printf '%s\n' "$output"; return 1; }
  if ! grep -q '^number of failed transactions: 0 ' <<<"$output" || grep -qiE 'error|aborted' <<<"$output"; then
    printf '%s\n' "$output"
    return 1
  fi
  rate=$(sed -n 's/^tps = \([0-9]*\).*/\1/p' <<<"$output")
  [ "${rate:-0}" -gt 0 ] || { printf '%s\n' "$output"; return 1; }
  printf '%s tps' "$rate"
}

# Writes with the watcher beside them.
run_watched() {
  local script=$1 mode=$2 clients=$3 watcher rate
  "$BIN/consistency" --script "$script" >"$WORK/watcher.out" 2>&1 &
  watcher=$!
  STARTED+=("$watcher")
  if rate=$(run_pgbench "$script" "$mode" "$clients"); then
    ok "pgbench $script, $mode, $clients clients: 0 failed, $rate"
  else
    fail "pgbench $script, $mode, $clients clients"
    printf '%s\n' "$rate" | tail -n 30 | sed 's/^/    /'
  fi
  kill -TERM "$watcher" 2>/dev/null || true
  wait "$watcher" || FAILED=1
  cat "$WORK/watcher.out"
}

load_programs
start_target "${1:-scry}"
check "pgbench -i -s $SCALE" pgbench -q -i -s "$SCALE"
check "accounts are loaded" test "$(psql -XAtc 'select count(*) from pgbench_accounts')" = "$((SCALE * 100000))"

for script in tpcb-like simple-update; do
  for mode in $MODES; do
    for clients in $CLIENTS; do
      run_watched "$script" "$mode" "$clients"
    done
  done
done
for mode in $MODES; do
  for clients in $CLIENTS; do
    if rate=$(run_pgbench select-only "$mode" "$clients"); then
      ok "pgbench select-only, $mode, $clients clients: 0 failed, $rate"
    else
      fail "pgbench select-only, $mode, $clients clients"
      printf '%s\n' "$rate" | tail -n 30 | sed 's/^/    /'
    fi
  done
done

# The primary itself agrees with what pgbench believes that it did.
check "accounts and history agree on the primary" test t = "$(psql -XAtq \
  -c "set scry.read_from = 'primary'" \
  -c 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)')"
exit $FAILED
