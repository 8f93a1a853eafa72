#!/usr/bin/env bash
# Does anybody wait long under full load? pgbench for a while, and the longest transaction of each second.
#
#   stalls.sh [scry|postgres|disk]    MINUTES=60 SCRIPT=tpcb-like CLIENTS=16 SCALE=10 BOUND_MS=100
#                                     SCRY_NO_BUILD=1 SCRY=path of a program that is built already
#
# Fails when a transaction took longer than the bound. For the longest it says what else there was between the samples around that second: how long the
# log's own writes took, for how long a disk stood still (something was under way the whole time, and nothing was finished), what was written to the disks
# and how much of it by the server, checkpoints, and the processor time that the machine did not get. The audit trail is let go of behind checkpoints, so
# that the disk does not fill. With `disk` there is no server: one program writes 4 KiB durably 200 times a second, and each is a transaction: what the disk itself is like.
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
    http=127.0.0.1:$(free_port)
    start_scry "$WORK/scry" --config "$WORK/scry.toml" --http "$http"
    ;;
  disk) ;;
  *) start_target "$target" ;;
esac
cd "$WORK"
[ "$target" = disk ] || pgbench -i -q -s "$SCALE" >/dev/null 2>&1 || die "pgbench -i failed"
sample() {
  while sleep 1; do
    echo "at $(date +%s.%N) $(grep '^cpu ' /proc/stat)"
    # Of whole disks, which are those with a folder of their own here.
    cat /sys/block/*/stat | awk '{ sectors += $7 } END { printf "disks %.0f\n", sectors * 512 }'
    [ "$target" != scry ] || awk '$1 == "write_bytes:" { print "server", $2 }' "/proc/$SCRY_PID/io"
    [ "$target" != scry ] || curl -s "http://$http/metrics" | grep '^scry_\(log_write\|checkpoints_total\|admission\)' || true
  done
}
sample >"$WORK/samples" &
STARTED+=($!)
# Fifty times a second: who asks once a second does not see that a disk stands still.
python3 - >"$WORK/still" <<'PYTHON' &
import glob, time
AGAIN, LEAST = 0.02, 0.04
disks = [(path.split("/")[3], open(path)) for path in glob.glob("/sys/block/*/stat")]
since = {}
while True:
    now = time.time()
    for name, file in disks:
        file.seek(0)
        fields = [int(field) for field in file.read().split()]
        # Finished reads, writes, discards and flushes, as far as this kernel counts them.
        finished, under_way = sum(fields[at] for at in (0, 4, 11, 15) if at < len(fields)), fields[8]
        known, begin, most = since.get(name, (None, now, 0))
        if finished == known and under_way:
            since[name] = known, begin, max(most, under_way)
            continue
        if most and now - begin >= LEAST:
            print(name, begin, now, most, flush=True)
        since[name] = finished, now, 0
    time.sleep(AGAIN)
PYTHON
STARTED+=($!)
if [ "$target" = disk ]; then
  # A line for each second, as pgbench writes them.
  python3 - "$((MINUTES * 60))" "$WORK/written" >"$WORK/pgbench_log.disk" <<'PYTHON'
import mmap, os, sys, time
seconds, path = float(sys.argv[1]), sys.argv[2]
EVERY, BYTES, FILE_BYTES = 1 / 200, 4096, 64 << 20
piece = mmap.mmap(-1, 1 << 20)
with open(path, "wb", buffering=0) as file:
    for _ in range(FILE_BYTES // len(piece)):
        file.write(piece)
    os.fsync(file)
file = os.open(path, os.O_RDWR | os.O_DSYNC | os.O_DIRECT)
block = mmap.mmap(-1, BYTES)
begun = now = time.time()
second, took, at = int(now), [], 0
while now < begun + seconds:
    os.pwrite(file, block, at % FILE_BYTES)
    at += BYTES
    done = time.time()
    took.append(int((done - now) * 1e6))
    if int(done) != second:
        print(second, len(took), sum(took), sum(one * one for one in took), min(took), max(took), flush=True)
        second, took = int(done), []
    time.sleep(max(0, now + EVERY - done))
    now = time.time()
PYTHON
else
  pgbench -n -b "$SCRIPT" -M prepared -c "$CLIENTS" -j "$((CLIENTS < 4 ? CLIENTS : 4))" -T "$((MINUTES * 60))" \
    -l --aggregate-interval=1 >"$WORK/pgbench.out" 2>&1 || { tail "$WORK/pgbench.out" >&2; die "pgbench failed"; }
fi

# Each thread of pgbench writes a line a second: its beginning, transactions, of their latencies in µs the sum, the sum of squares, the least, the greatest.
python3 - "$BOUND_MS" "$WORK/samples" "$WORK/still" "$WORK"/pgbench_log.* <<'PYTHON'
import collections, re, sys
bound = float(sys.argv[1])
counts, longest = collections.Counter(), collections.Counter()
for path in sys.argv[4:]:
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

# Once a second, what has been counted since the start.
samples = []
for line in open(sys.argv[2]):
    if line.startswith("at "):
        _, time, _, *ticks = line.split()
        samples.append((float(time), {"all": sum(map(int, ticks[:8])), "steal": int(ticks[7])}))
    else:
        name, value = line.rsplit(" ", 1)
        samples[-1][1][name] = float(value)

# A disk, from when to when it stood still, and the most that was under way at once.
stills = [(name, float(begin), float(end), int(most)) for name, begin, end, most in map(str.split, open(sys.argv[3]))]

def still(second):
    """The longest time for which a disk stood still within a transaction that ended in this second, ms."""
    beside = [(1000 * (end - begin), most, name) for name, begin, end, most in stills if begin < second + 1 and end > second - longest[second] / 1000]
    return max(beside, default=(0, 0, ""))

def beside(second):
    earlier = [figures for time, figures in samples if time <= second]
    later = [figures for time, figures in samples if time >= second + 1]
    if not earlier or not later:
        return ""
    before, after = earlier[-1], later[0]
    grown = {name: value - before[name] for name, value in after.items() if name in before}
    said = [f"{100 * grown['steal'] / max(1, grown['all']):.0f} % of the processors' time stolen"]
    classes = sorted((float(found[1]), grown[name]) for name in grown if (found := re.search(r'seconds_bucket\{le="(.*)"\}', name)))
    within = [bound for bound, count in classes if count >= classes[-1][1]]
    if within:
        said.append(f"the log's writes took at most {within[0] * 1000:g} ms")
    stood, most, name = still(second)
    if stood:
        said.append(f"{name} stood still for {stood:.0f} ms with {most} under way")
    for who in ("disks", "server"):
        if who in grown:
            said.append(f"{grown[who] / 1e6:.0f} MB {'written' if who == 'disks' else 'of it by the server'}")
    if grown.get("scry_checkpoints_total"):
        said.append("a checkpoint ended")
    if after.get("scry_admission_delay_us"):
        said.append(f"commits delayed by {after['scry_admission_delay_us']:.0f} us")
    return ": " + ", ".join(said)

for second in sorted(seconds, key=lambda second: -longest[second])[:8]:
    print(f"  second {second - seconds[0]}: {longest[second]:.1f} ms{beside(second)}")
over = [second for second in seconds if longest[second] > bound]
beside_still = sum(still(second)[0] > longest[second] / 2 for second in over)
print(f"seconds with one over {bound:.0f} ms: {len(over)}, of these with a disk that stood still for more than half of it: {beside_still}")
sys.exit(bool(over))
PYTHON
