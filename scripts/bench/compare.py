"""Measures two servers that are already running, round by round, and prints Markdown. Started by compare.sh.

CPU time is utime + stime of the server's processes and their children, from /proc, over a round, divided by the round's
transactions; children that have ended are in their parent's account once they were waited for.
"""

import argparse
import datetime
import os
import re
import statistics
import subprocess
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")
LINEITEM = (
    "CREATE TABLE lineitem (l_orderkey bigint NOT NULL, l_partkey integer NOT NULL, l_suppkey integer NOT NULL, "
    "l_linenumber integer NOT NULL, l_quantity decimal(15,2) NOT NULL, l_extendedprice decimal(15,2) NOT NULL, "
    "l_discount decimal(15,2) NOT NULL, l_tax decimal(15,2) NOT NULL, l_returnflag char(1) NOT NULL, "
    "l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL, "
    "l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL{})"
)


class Server:
    def __init__(self, name, where):
        self.name = name
        pid, port, database = where.split(":")
        self.pid = int(pid)
        self.environment = {
            **os.environ, "PGHOST": "127.0.0.1", "PGPORT": port, "PGDATABASE": database, "PGUSER": "scry",
        }

    def run(self, *command, check=True):
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if check and done.returncode != 0:
            sys.exit(f"{self.name}: {' '.join(command)}: {done.stdout}{done.stderr}")
        return done

    def sql(self, *statements):
        commands = [part for statement in statements for part in ("-c", statement)]
        return self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *commands).stdout.strip()

    def cpu_seconds(self):
        """CPU time of the server so far: its processes', and that of its children which have ended."""
        total = 0
        pids = [self.pid]
        while pids:
            pid = pids.pop()
            try:
                fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
                pids += [int(child) for child in open(f"/proc/{pid}/task/{pid}/children").read().split()]
            except FileNotFoundError:
                continue
            # utime, stime, cutime, cstime: fields 14 to 17, counted from 1, of which ")" ends the second.
            total += sum(int(field) for field in fields[11:15])
        return total / TICKS

    def resident_mb(self):
        pages = open(f"/proc/{self.pid}/statm").read().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") // 2**20


def settle(server):
    """Lets ended backends be waited for, so that their CPU time is in the account."""
    time.sleep(0.3)
    return server.cpu_seconds()


def pgbench(server, script, clients, seconds):
    before = settle(server)
    done = server.run(
        "pgbench", "-n", "-b", script, "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(seconds),
    )
    cpu = settle(server) - before
    transactions = int(re.search(r"number of transactions actually processed: (\d+)", done.stdout)[1])
    failures = int(re.search(r"number of failed transactions: (\d+)", done.stdout)[1])
    if failures or "aborted" in done.stdout + done.stderr:
        sys.exit(f"{server.name}: {script}, {clients} clients: {done.stdout}{done.stderr}")
    rate = float(re.search(r"^tps = ([0-9.]+)", done.stdout, re.M)[1])
    return rate, cpu / transactions * 1e6


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


def machine():
    model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    memory = int(re.search(r"MemTotal:\s+(\d+)", open("/proc/meminfo").read())[1]) // 2**20
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} × {model[1] if model else 'unknown processor'}, {memory} GB, Linux {os.uname().release}, "
        f"load before the run {load:.1f}"
    )


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

    median = lambda values: statistics.median(values)
    print(f"\n## {datetime.date.today():%Y-%m-%d}\n")
    print(f"Machine: {where}.  ")
    print(
        f"pgbench scale {arguments.scale}, prepared, median of {arguments.rounds} alternating rounds of {arguments.seconds} s; pgbench runs on "
        f"the same cores. PostgreSQL 15: {arguments.settings}, else defaults (fsync and synchronous_commit on).  "
    )
    print(f"Resident memory of scry at the end: {scry.resident_mb():,} MB.")
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
    if lags:
        print("\n### Mirror lag under that load: commit to applied, ms\n")
        print("| script, clients | p50 | p99 | max |\n|---|---:|---:|---:|")
        for (script, clients), rounds in lags.items():
            p50, p99, slowest = (values for values in zip(*rounds))
            print(f"| {script}, {clients} | {median(p50):.1f} | {median(p99):.1f} | {max(slowest):.1f} |")


main()
