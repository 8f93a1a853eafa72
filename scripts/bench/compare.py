"""Measures two servers that are already running, round by round, and prints Markdown. Started by compare.sh.
"""

import argparse
import contextlib
import datetime
import os
import statistics
import subprocess
import sys
import time

from servers import BusyDisk, LINEITEM, Server, latencies, machine, pgbench, settle


def lag(server):
    """Mirror lag since the last reset, commit to applied, in ms: p50, p99, max. The server counts every commit."""
    figures = server.sql("SELECT lag_p50_us, lag_p99_us, lag_max_us FROM scry_stat_mirror").split("|")
    return [int(figure) / 1000 for figure in figures]


def copy(server, path, rows):
    rates, cpus = [], []
    for key in ("", ", PRIMARY KEY (l_orderkey, l_linenumber)"):
        server.sql("DROP TABLE IF EXISTS lineitem", LINEITEM.format(key))
        before, began = settle(server), time.monotonic()
        server.sql(f"\\copy lineitem from '{path}'")
        seconds = time.monotonic() - began
        cpus.append((settle(server) - before) / rows * 1e6)
        rates.append(rows / seconds)
        found = server.sql("SELECT count(*) FROM lineitem")
        if int(found) != rows:
            sys.exit(f"{server.name}: {found} rows after COPY, {rows} sent")
    server.sql("DROP TABLE lineitem")
    return rates, cpus


def table(title, unit, rows):
    print(f"\n### {title}\n")
    print(f"| {unit} | scry | PostgreSQL 15 | scry / PostgreSQL |\n|---|---:|---:|---:|")
    for name, ours, theirs, digits in rows:
        print(f"| {name} | {ours:,.{digits}f} | {theirs:,.{digits}f} | {ours / theirs if theirs else 0:.2f} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--scry", required=True)
    parser.add_argument("--postgres", required=True)
    parser.add_argument("--scale", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--scripts", nargs="+", default=["tpcb-like", "simple-update", "select-only"])
    parser.add_argument("--copy")
    parser.add_argument("--copy-rounds", type=int, default=3)
    parser.add_argument("--busy", nargs="*", default=[], help="scripts whose latency is taken while others write to the disk")
    parser.add_argument("--busy-clients", type=int, default=16)
    parser.add_argument("--settings", default="")
    arguments = parser.parse_args()
    where = machine()
    scry, postgres = Server("scry", arguments.scry), Server("postgres", arguments.postgres)
    servers = [scry, postgres]
    rates, cpus, lags = {}, {}, {}

    # COPY first: into servers that hold nothing yet.
    copy_rates, copy_cpus = {}, {}
    if arguments.copy:
        rows = int(subprocess.run(["wc", "-l", arguments.copy], capture_output=True, text=True, check=True).stdout.split()[0])
        open(arguments.copy, "rb").read()  # into the page cache, for both alike
        for nth in range(arguments.copy_rounds):
            for server in servers:
                found, cpu = copy(server, arguments.copy, rows)
                for key, rate, cost in zip(("no key", "primary key"), found, cpu):
                    copy_rates.setdefault((server.name, key), []).append(rate)
                    copy_cpus.setdefault((server.name, key), []).append(cost)
                print(f"copy {nth + 1} {server.name}: {found[0]:,.0f} and {found[1]:,.0f} rows/s", file=sys.stderr)

    for server in servers:
        server.run("pgbench", "-q", "-i", "-s", str(arguments.scale))
    for script in arguments.scripts:
        for clients in arguments.clients:
            for nth in range(arguments.rounds):
                # Who goes first changes, so that neither always inherits the other's background work.
                for server in servers if nth % 2 == 0 else servers[::-1]:
                    if server is scry and script != "select-only":
                        scry.sql("SELECT scry_stat_reset()")
                    rate, cpu = pgbench(server, script, clients, arguments.seconds)
                    rates.setdefault((server.name, script, clients), []).append(rate)
                    cpus.setdefault((server.name, script, clients), []).append(cpu)
                    print(f"{script} {clients} {server.name}: {rate:,.0f} tps, {cpu:.1f} µs CPU", file=sys.stderr)
                    if server is scry and script != "select-only":
                        lags.setdefault((script, clients), []).append(lag(scry))

    # Each round with the disk for itself and then with others on it.
    times, states = {}, ("idle", *BusyDisk.KINDS)
    for script in arguments.busy:
        for nth in range(arguments.rounds):
            for server in servers if nth % 2 == 0 else servers[::-1]:
                for state in states:
                    with BusyDisk(os.getcwd(), state) if state in BusyDisk.KINDS else contextlib.nullcontext():
                        found = latencies(server, script, arguments.busy_clients, arguments.seconds)
                    times.setdefault((server.name, script, state), []).append(found)
                    print(f"{script}, disk {state}, {server.name}: {found[0]:,.0f} tps, p99 {found[2]:.1f} ms", file=sys.stderr)

    median = lambda values: statistics.median(values)
    print(f"\n## {datetime.date.today():%Y-%m-%d}\n")
    print(f"Machine: {where}.  ")
    print(
        f"pgbench scale {arguments.scale}, prepared, median of {arguments.rounds} alternating rounds of {arguments.seconds} s; pgbench runs on "
        f"the same cores and comes by {scry.transport()}. PostgreSQL 15: {arguments.settings}, else defaults (fsync and synchronous_commit on).  "
    )
    print(f"Resident memory of scry at the end: {scry.resident_bytes() // 2**20:,} MB.")
    points = [(script, clients) for script in arguments.scripts for clients in arguments.clients]
    table(
        "Transactions per second",
        "script, clients",
        [
            (f"{s}, {c}", median(rates["scry", s, c]), median(rates["postgres", s, c]), 0)
            for s, c in points
        ],
    )
    table(
        "Server CPU time per transaction, µs (less is better)",
        "script, clients",
        [(f"{s}, {c}", median(cpus["scry", s, c]), median(cpus["postgres", s, c]), 1) for s, c in points],
    )
    if copy_rates:
        for title, found, digits in (
            (f"COPY of {rows:,} lineitem rows, rows/s", copy_rates, 0),
            ("Server CPU time per row of COPY, µs (less is better)", copy_cpus, 2),
        ):
            table(title, "table", [
                (key, median(found["scry", key]), median(found["postgres", key]), digits) for key in ("no key", "primary key")
            ])
    if times:
        columns = ("tps", "p50, ms", "p99, ms", "max, ms")
        table(
            f"Latency of {arguments.busy_clients} clients, also while others write synchronously to the same disk: "
            + ", ".join(f"{name} = {writers} of {size // 1024} KiB" for name, (writers, size) in BusyDisk.KINDS.items()),
            "script, disk, figure",
            [
                (
                    f"{script}, {state}, {column}",
                    *(median([found[place] for found in times[server.name, script, state]]) for server in servers),
                    2 if place else 0,
                )
                for script in arguments.busy for state in states for place, column in enumerate(columns)
            ],
        )
    if lags:
        print("\n### Mirror lag under that load: commit to applied, ms\n")
        print("| script, clients | p50 | p99 | max |\n|---|---:|---:|---:|")
        for (script, clients), rounds in lags.items():
            p50, p99, slowest = (values for values in zip(*rounds))
            print(f"| {script}, {clients} | {median(p50):.1f} | {median(p99):.1f} | {max(slowest):.1f} |")


main()
