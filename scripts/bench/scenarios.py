"""What-if scenarios over TPC-H lineitem: candidates in scry, copies of the table in PostgreSQL 15 and in DuckDB. Started by
futures.sh.

Each scenario changes the price and the discount of every hundredth order. In PostgreSQL and DuckDB a scenario is a copy of
the table without its index, changed in place; committed, it either takes the table's place, which loses what others wrote meanwhile, or
the rows that differ are written back. One system after the other has the machine to itself.
"""

import argparse
import datetime
import os
import statistics
import sys
import time

import duckdb

from futures import SHAPES, connect, rows_of
from servers import LINEITEM, Server, machine

QUERIES = ("TPC-H q1", "TPC-H q6")
KEY = ("l_orderkey", "l_linenumber")
CHANGE = "SET l_discount = l_discount + 0.01, l_extendedprice = l_extendedprice * 1.01 WHERE l_orderkey % 100 = {}"
MIB = 2**20


def timed(run, *arguments):
    began = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - began


def folder_bytes(path):
    """What files take on the disk."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


class Scry:
    """Scenarios as candidates. Of each system: `run` takes a statement and answers its rows, `table` is a scenario in a query."""

    name = "scry: candidates"
    commits = ("ELECT CANDIDATE",)

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.connection = connect(server)
        self.inside = connect(server)
        self.run("SET scry.read_from = 'mirror'")

    def run(self, sql):
        return rows_of(self.connection, sql)

    def load(self, path):
        self.server.sql(LINEITEM.format(f", PRIMARY KEY ({', '.join(KEY)})"), f"\\copy lineitem from '{path}'")
        self.run("CREATE ELECTION e")

    def create(self, nth):
        self.run(f"CREATE CANDIDATE s{nth} IN e")
        self.inside.execute(f"SET scry.candidate = 'e/s{nth}'")
        self.inside.execute("UPDATE lineitem " + CHANGE.format(nth))

    def table(self, nth):
        return "lineitem" if nth is None else f'"e/s{nth}".lineitem'

    def commit(self, nth, how):
        self.inside.execute("SET scry.candidate = ''")
        self.run(f"ELECT CANDIDATE s{nth} IN e")

    def settle(self):
        self.run("SELECT count(*) FROM lineitem")

    def bytes(self):
        """Log, which is on the disk in segments made ahead, and mirror on the disk. All rows are in memory besides."""
        log = int(self.run("SELECT applied_lsn FROM scry_stat_mirror")[0][0])
        return log + folder_bytes(os.path.join(self.folder, "mirror"))


class Copies:
    """Scenarios as copies of the table."""

    commits = ("copy takes the table's place", "rows that differ are written back")

    def create(self, nth):
        self.run(f"CREATE TABLE s{nth} AS SELECT * FROM lineitem")
        self.run(f"UPDATE s{nth} " + CHANGE.format(nth))

    def table(self, nth):
        return "lineitem" if nth is None else f"s{nth}"

    def commit(self, nth, how):
        if how == self.commits[0]:
            self.run("BEGIN")
            self.run(f"ALTER TABLE s{nth} ADD PRIMARY KEY ({', '.join(KEY)})")
            self.run("ALTER TABLE lineitem RENAME TO lineitem_before")
            self.run(f"ALTER TABLE s{nth} RENAME TO lineitem")
            self.run("COMMIT")
            return
        keys = " AND ".join(f"l.{key} = s.{key}" for key in KEY)
        self.run(
            "UPDATE lineitem AS l SET l_discount = s.l_discount, l_extendedprice = s.l_extendedprice "
            f"FROM s{nth} AS s WHERE {keys} "
            "AND (l.l_discount, l.l_extendedprice) IS DISTINCT FROM (s.l_discount, s.l_extendedprice)"
        )


class Postgres(Copies):
    name = "PostgreSQL 15: copies"

    def __init__(self, server):
        self.server = server
        self.connection = connect(server)

    def run(self, sql):
        return rows_of(self.connection, sql)

    def load(self, path):
        self.server.sql(LINEITEM.format(f", PRIMARY KEY ({', '.join(KEY)})"), f"\\copy lineitem from '{path}'")
        self.settle()

    def settle(self):
        self.run("VACUUM ANALYZE")
        self.run("CHECKPOINT")

    def bytes(self):
        """Tables on the disk."""
        return int(self.run("SELECT pg_database_size(current_database())")[0][0])


class Duck(Copies):
    name = f"DuckDB {duckdb.__version__}: copies"

    def __init__(self, folder):
        self.path = os.path.join(folder, "lineitem.duckdb")
        self.connection = duckdb.connect(self.path)

    def run(self, sql):
        return self.connection.execute(sql).fetchall()

    def load(self, path):
        self.run(LINEITEM.format(f", PRIMARY KEY ({', '.join(KEY)})"))
        self.run(f"COPY lineitem FROM '{path}' (DELIMITER '\t', HEADER false)")
        self.settle()

    def settle(self):
        self.run("CHECKPOINT")

    def bytes(self):
        wal = self.path + ".wal"
        sizes = [os.stat(path).st_blocks * 512 for path in (self.path, wal) if os.path.exists(path)]
        return sum(sizes)


def measure(system, arguments):
    """Figures by name."""
    say = lambda text: print(f"{system.name}: {text}", file=sys.stderr, flush=True)
    say(f"loaded in {timed(system.load, arguments.lineitem):.1f} s")
    figures = {}
    disk = system.bytes()
    scenarios = range(arguments.scenarios)
    created = [timed(system.create, nth) for nth in scenarios]
    figures["create one, s"] = f"{statistics.median(created):.2f}"
    say(f"created in {sum(created):.1f} s")
    system.settle()
    figures["a scenario on disk, MiB"] = f"{(system.bytes() - disk) / MIB / len(scenarios):,.1f}"
    answers = {}
    for query in QUERIES:
        sql = SHAPES[query]
        present = statistics.median(timed(system.run, sql.replace("$", system.table(None))) for _ in range(3))
        figures[f"{query} on the table, ms"] = f"{present * 1e3:,.0f}"
        for what in ("first time", "again"):
            taken, answers[query] = [], []
            for nth in scenarios:
                taken.append(timed(lambda: answers[query].append(sorted(system.run(sql.replace("$", system.table(nth)))))))
            figures[f"{query} on each scenario, {what}: median, ms"] = f"{statistics.median(taken) * 1e3:,.0f}"
    # What is committed by taking the table's place comes last: the copies were made from the table before.
    for nth, how in reversed(list(enumerate(system.commits))):
        figures[f"commit one, s: {how}"] = f"{timed(system.commit, nth, how):.2f}"
    return figures, answers


def check(systems, answers):
    """All systems have answered alike."""
    for query in QUERIES:
        for system in systems[1:]:
            for nth, (ours, theirs) in enumerate(zip(answers[systems[0].name][query], answers[system.name][query])):
                for row, other in zip(ours, theirs, strict=True):
                    same = all(left == right or abs(float(left) - float(right)) <= 1e-9 * abs(float(left))
                               for left, right in zip(row, other, strict=True))
                    if not same:
                        sys.exit(f"{query} on scenario {nth}: {row} in {systems[0].name}, {other} in {system.name}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--scry", required=True)
    parser.add_argument("--scry-folder", required=True)
    parser.add_argument("--postgres", required=True)
    parser.add_argument("--duckdb-folder", required=True)
    parser.add_argument("--lineitem", required=True)
    parser.add_argument("--scenarios", type=int, default=10)
    parser.add_argument("--settings", default="")
    arguments = parser.parse_args()
    where = machine()
    systems = [
        Scry(Server("scry", arguments.scry), arguments.scry_folder),
        Postgres(Server("postgres", arguments.postgres)),
        Duck(arguments.duckdb_folder),
    ]
    figures, answers = {}, {}
    for system in systems:
        figures[system.name], answers[system.name] = measure(system, arguments)
    check(systems, answers)
    rows = sum(1 for _ in open(arguments.lineitem, "rb"))
    print(f"\n## Scenarios side by side, {datetime.date.today():%Y-%m-%d}\n")
    print(f"Machine: {where}.  ")
    print(
        f"{arguments.scenarios} scenarios over lineitem of {rows:,} rows, each with 1 % of them changed. "
        f"PostgreSQL 15: {arguments.settings}, else defaults.\n"
    )
    names = list(dict.fromkeys(name for found in figures.values() for name in found))
    print("| | " + " | ".join(system.name for system in systems) + " |")
    print("|---|" + "---:|" * len(systems))
    for name in names:
        print(f"| {name} | " + " | ".join(figures[system.name].get(name, "") for system in systems) + " |")


if __name__ == "__main__":
    main()
