"""Queries of futures beside the same queries of the present, and OLTP beside idle candidates. Started by futures.sh.

Every figure is a ratio within one run: what is compared alternates, and the median of the rounds' ratios counts.
"""

import argparse
import datetime
import statistics
import sys
import time

import psycopg

from servers import LINEITEM, ORDERS, Server, machine, pgbench

median = statistics.median

# `$` stands for lineitem in the present or in a future.
SHAPES = {
    "TPC-H q1": "SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice), "
    "sum(l_extendedprice * (1 - l_discount)), sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)), avg(l_quantity), "
    "avg(l_extendedprice), avg(l_discount), count(*) FROM $ WHERE l_shipdate <= date '1998-09-02' "
    "GROUP BY l_returnflag, l_linestatus",
    "TPC-H q6": "SELECT sum(l_extendedprice * l_discount) FROM $ WHERE l_shipdate >= date '1994-01-01' "
    "AND l_shipdate < date '1995-01-01' AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24",
    "group by, aggregates": "SELECT l_suppkey % 100, count(*), sum(l_quantity), avg(l_tax) FROM $ GROUP BY 1",
    "filter, sum": "SELECT sum(l_extendedprice) FROM $ WHERE l_partkey < 1000 OR l_quantity = 7",
    "text LIKE": "SELECT count(*) FROM $ WHERE l_comment LIKE '%express%'",
    "text LIKE, no row": "SELECT count(*) FROM $ WHERE l_comment LIKE 'never'",
    "greatest text": "SELECT max(l_comment) FROM $",
    "filter of few rows": "SELECT sum(l_quantity) FROM $ WHERE l_orderkey BETWEEN 10000 AND 10100",
    "join": "SELECT o_orderpriority, count(*), sum(l_extendedprice) FROM $ JOIN orders ON o_orderkey = l_orderkey "
    "WHERE o_orderdate < date '1993-01-01' GROUP BY o_orderpriority",
    "count": "SELECT count(*) FROM $",
}
# What each candidate changes, as a condition, and how much slower than the present its future may be.
CHANGED = {"hundredth": ("l_orderkey % 100 = 7", 1.1), "tenth": ("l_orderkey % 10 = 3", 1.5)}
TIMES_MIN_SECONDS = 0.05


def connect(server, **settings):
    environment = server.environment
    connection = psycopg.connect(
        host=environment["PGHOST"], port=environment["PGPORT"], dbname=environment["PGDATABASE"], user=environment["PGUSER"],
        autocommit=True, prepare_threshold=None,
    )
    for name, value in settings.items():
        connection.execute(f"SET {name.replace('__', '.')} = '{value}'")
    return connection


def rows_of(connection, sql):
    """The rows that a statement answers; None: it has no result."""
    done = connection.execute(sql)
    return done.fetchall() if done.description else None


def seconds(connection, sql, times=1):
    began = time.perf_counter()
    for _ in range(times):
        rows_of(connection, sql)
    return (time.perf_counter() - began) / times


def ratios(arguments):
    """Futures against the present over lineitem."""
    server = Server("scry", arguments.scry)
    server.sql(LINEITEM.format(", PRIMARY KEY (l_orderkey, l_linenumber)"), ORDERS.format(", PRIMARY KEY (o_orderkey)"))
    for table, path in (("lineitem", arguments.lineitem), ("orders", arguments.orders)):
        server.sql(f"\\copy {table} from '{path}'")
    main = connect(server, scry__read_from="mirror")
    rows = main.execute("SELECT count(*) FROM lineitem").fetchone()[0]
    main.execute("CREATE ELECTION e WITH (winners = any)")
    changed = {}
    for name, (condition, _) in CHANGED.items():
        main.execute(f"CREATE CANDIDATE {name} IN e")
        with connect(server, scry__candidate=f"e/{name}") as inside:
            update = "UPDATE lineitem SET l_discount = l_discount + 0.01, l_extendedprice = l_extendedprice * 1.01 WHERE "
            changed[name] = inside.execute(update + condition).rowcount
    print(f"\n## Queries of futures, {datetime.date.today():%Y-%m-%d}\n")
    print(f"Machine: {machine()}.  ")
    parts = ", ".join(f"{name} {count:,}" for name, count in changed.items())
    print(f"lineitem of {rows:,} rows, of which candidates have changed ({parts}); median of {arguments.rounds} alternating rounds.\n")
    print("| query | present, ms | 1 % changed / present | 10 % changed / present |\n|---|---:|---:|---:|")
    missed = []
    for shape, sql in SHAPES.items():
        present = sql.replace("$", "lineitem")
        queries = [present] + [sql.replace("$", f'"e/{name}".lineitem') for name in CHANGED]
        # Once each: columns come into the cache, overlays are laid.
        times = max(1, round(TIMES_MIN_SECONDS / max(seconds(main, query) for query in queries)))
        rounds = [[seconds(main, query, times) for query in queries] for _ in range(arguments.rounds)]
        found = [median(taken[nth] / taken[0] for taken in rounds) for nth in range(1, len(queries))]
        milliseconds = median(taken[0] for taken in rounds) * 1e3
        print(f"| {shape} | {milliseconds:.1f} | " + " | ".join(f"{ratio:.2f}" for ratio in found) + " |", flush=True)
        for (name, (_, limit)), ratio in zip(CHANGED.items(), found):
            if ratio > limit:
                missed.append(f"{shape}, {name}: {ratio:.2f} is more than {limit}")
    print("\n".join(missed), file=sys.stderr)


def idle(arguments):
    """Two servers with pgbench's tables, one of them with open candidates that nobody works in."""
    without, beside = Server("without", arguments.without), Server("beside", arguments.beside)
    for server in (without, beside):
        server.run("pgbench", "-q", "-i", "-s", str(arguments.scale))
    rows = int(beside.sql("SELECT count(*) FROM pgbench_accounts"))
    # What loading leaves behind settles before memory is counted.
    for server in (without, beside):
        pgbench(server, "simple-update", arguments.clients, arguments.seconds)
    time.sleep(5)
    before = beside.resident_bytes()
    main = connect(beside)
    main.execute("CREATE ELECTION e")
    opened = []
    for nth in range(arguments.candidates):
        opened.append(seconds(main, f"CREATE CANDIDATE c{nth} IN e"))
        with connect(beside, scry__candidate=f"e/c{nth}") as inside:
            first = nth * arguments.changed + 1
            inside.execute(
                "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid BETWEEN "
                f"{first} AND {first + arguments.changed - 1}"
            )
    time.sleep(5)
    bytes_each = (beside.resident_bytes() - before) / arguments.candidates
    rounds = []
    for nth in range(arguments.rounds):
        pair = (without, beside) if nth % 2 == 0 else (beside, without)
        rates = {server: pgbench(server, "simple-update", arguments.clients, arguments.seconds) for server in pair}
        rounds.append((rates[without], rates[beside]))
        print(f"round {nth + 1}: {rates[without][0]:,.0f} and {rates[beside][0]:,.0f} tps", file=sys.stderr)
    print(f"\n## Open candidates that nobody works in, {datetime.date.today():%Y-%m-%d}\n")
    print(f"Machine: {machine()}.  ")
    print(
        f"Two servers with pgbench_accounts of {rows:,} rows, one with {arguments.candidates:,} open candidates, each of which has changed "
        f"{arguments.changed} rows; {arguments.rounds} alternating rounds of {arguments.seconds} s.\n"
    )
    print("| | |\n|---|---:|")
    print(f"| CREATE CANDIDATE through a session, durable: median, ms | {median(opened) * 1e3:.2f} |")
    print(f"| memory of a candidate, KiB | {bytes_each / 1024:.1f} |")
    for what, column, digits in (("tps", 0, 0), ("server CPU per transaction, µs", 1, 1)):
        ours, theirs = (median(pair[which][column] for pair in rounds) for which in (1, 0))
        ratio = median(pair[1][column] / pair[0][column] for pair in rounds)
        name = f"simple-update, {arguments.clients} clients, {what}: beside candidates, without, ratio"
        print(f"| {name} | {ours:,.{digits}f}, {theirs:,.{digits}f}, {ratio:.3f} |")


def main():
    parser = argparse.ArgumentParser()
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("ratios")
    part.add_argument("--scry", required=True)
    part.add_argument("--lineitem", required=True)
    part.add_argument("--orders", required=True)
    part.add_argument("--rounds", type=int, default=11)
    part.set_defaults(run=ratios)
    part = parts.add_parser("idle")
    part.add_argument("--without", required=True)
    part.add_argument("--beside", required=True)
    part.add_argument("--scale", type=int, default=100)
    part.add_argument("--candidates", type=int, default=1000)
    part.add_argument("--changed", type=int, default=10)
    part.add_argument("--clients", type=int, default=16)
    part.add_argument("--rounds", type=int, default=7)
    part.add_argument("--seconds", type=int, default=10)
    part.set_defaults(run=idle)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
