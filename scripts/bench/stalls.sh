#!/usr/bin/env bash
# Does anybody wait long under full load? pgbench for a while, and the longest transaction of each second.
#
#   stalls.sh [scry|postgres]         MINUTES=60 SCRIPT=tpcb-like CLIENTS=16 SCALE=10 BOUND_MS=100
#                                     SCRY_NO_BUILD=1 SCRY=path of a program that is built already
#
# Fails when a transaction took longer than the bound. The audit trail is let go of behind checkpoints, so that the disk does not fill.
export SCRY_PROFILE=${SCRY_PROFILE:-release}
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

MINUTES=${MINUTES:-60}
SCRIPT=${SCRIPT:-tpcb-like}
CLIENTS=${CLIENTS:-16}
SCALE=${SCALE:-10}
BOUND_MS=${BOUND_MS:-100}
target=${1:-scry}

if [ -z "${SCRY_NO_BUILD:-}" ] && [ "$target" = scry ]; then
  (cd "$REPO" && cargo build --profile "$PROFILE" -p scry)
fi
work_folder
case $target in
  scry)
    printf '[log]\nrecycle = true\nkeep_mib = 256\n' >"$WORK/scry.toml"
    start_scry "$WORK/scry" --config "$WORK/scry.toml"
    ;;
  *) start_target "$target" ;;
esac
cd "$WORK"
pgbench -i -q -s "$SCALE" >/dev/null 2>&1 || die "pgbench -i failed"
pgbench -n -b "$SCRIPT" -M prepared -c "$CLIENTS" -j "$((CLIENTS < 4 ? CLIENTS : 4))" -T "$((MINUTES * 60))" \
  -l --aggregate-interval=1 >"$WORK/pgbench.out" 2>&1 || { tail "$WORK/pgbench.out" >&2; die "pgbench failed"; }

# Each thread of pgbench writes a line a second: its beginning, transactions, of their latencies in µs the sum, the sum of squares, the least, the greatest.
python3 - "$BOUND_MS" "$WORK"/pgbench_log.* <<'PYTHON'
import collections, sys
bound = float(sys.argv[1])
counts, longest = collections.Counter(), collections.Counter()
for path in sys.argv[2:]:
    for line in open(path):
        fields = line.split()
        second = int(fields[0])
        counts[second] += int(fields[1])
        if int(fields[1]) > 0:
            longest[second] = max(longest[second], float(fields[5]) / 1000)
seconds = sorted(counts)[1:-1]
rates = sorted(counts[second] for second in seconds)
waits = sorted(longest[second] for second in seconds)
at = lambda values, part: values[min(len(values) - 1, int(part * len(values)))]
print(f"{len(seconds)} seconds, {sum(rates):,} transactions")
print(f"transactions in a second: median {at(rates, 0.5):,}, 1 % {at(rates, 0.01):,}, least {rates[0]:,}")
print(f"longest transaction of a second, ms: median {at(waits, 0.5):.1f}, 99 % {at(waits, 0.99):.1f}, 99.9 % {at(waits, 0.999):.1f}, longest {waits[-1]:.1f}")
over = [(second - seconds[0], longest[second]) for second in seconds if longest[second] > bound]
print(f"seconds with one over {bound:.0f} ms: {len(over)}" + "".join(f"\n  second {second}: {wait:.1f} ms" for second, wait in over[:50]))
sys.exit(bool(over))
PYTHON
