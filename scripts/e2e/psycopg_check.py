"""psycopg 3 against the server that PGHOST, PGPORT, PGDATABASE and PGUSER name.

Prints `ok - …` or `FAIL - …` for each check and ends with 1 when one failed.
"""

import datetime as dt
import sys
import threading
import traceback
import uuid
from decimal import Decimal

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

failed = 0
checks = []


def check(function):
    checks.append(function)
    return function


def connect(**options):
    return psycopg.connect("", connect_timeout=10, **options)


def expect(error, function, *arguments):
    try:
        function(*arguments)
    except error as caught:
        return caught
    raise AssertionError(f"{error.__name__} was expected")


EVERY_TYPE = [
    ("boolean", [True, False]),
    ("smallint", [-32768, 0, 32767]),
    ("integer", [-(2**31), 0, 2**31 - 1]),
    ("bigint", [-(2**63), 0, 2**63 - 1]),
    ("real", [0.0, 1.5, -1048576.5, float("inf")]),
    ("double precision", [0.0, 0.1, -1.7976931348623157e308, 5e-324, float("-inf")]),
    ("numeric(20,4)", [Decimal("0.0000"), Decimal("-1234567890123456.7891"), Decimal("1.5000")]),
    ("numeric", [Decimal("0"), Decimal("3.14159"), Decimal("-12345678901234567890.123456789")]),
    ("text", ["", "plain", "tab\tline\nquote'\"back\\slash", "žluťoučký 漢字 🐘", "x" * 100_000]),
    ("varchar(30)", ["", "thirty"]),
    ("bytea", [b"", b"\x00\xff\\'", bytes(range(256)) * 50]),
    ("date", [dt.date(1, 1, 1), dt.date(1969, 12, 31), dt.date(2024, 2, 29), dt.date(9999, 12, 31)]),
    ("time", [dt.time(0, 0), dt.time(23, 59, 59, 999999)]),
    ("timestamp", [dt.datetime(1970, 1, 1), dt.datetime(1900, 1, 1, 0, 0, 0, 1), dt.datetime(2024, 2, 29, 12, 34, 56, 789012)]),
    (
        "timestamptz",
        [
            dt.datetime(2024, 7, 1, 12, 0, tzinfo=dt.timezone.utc),
            dt.datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.timezone(dt.timedelta(hours=-5))),
        ],
    ),
    ("uuid", [uuid.UUID(int=0), uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")]),
]


@check
def every_type_goes_in_and_comes_out_in_text_and_binary():
    with connect(autocommit=True) as connection:
        connection.prepare_threshold = None
        for place in ("primary", "mirror"):
            connection.execute(f"SET scry.read_from = '{place}'")
            for nth, (kind, values) in enumerate(EVERY_TYPE):
                table = f"round_trip_{nth}"
                connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, value {kind})")
                for marker in ("%t", "%b"):
                    for number, value in enumerate([*values, None]):
                        connection.execute(
                            f"INSERT INTO {table} VALUES (%s, {marker}) "
                            f"ON CONFLICT (id) DO UPDATE SET value = excluded.value",
                            (number, value),
                        )
                    for binary in (False, True):
                        cursor = connection.cursor(binary=binary)
                        rows = cursor.execute(f"SELECT value FROM {table} ORDER BY id").fetchall()
                        found = [row[0] for row in rows]
                        assert found == [*values, None], f"{kind}, {place}, in {marker}, out {binary}: {found!r:.300}"
                connection.execute(f"DROP TABLE {table}")


@check
def types_are_named_to_the_client():
    with connect() as connection:
        connection.execute(
            "CREATE TABLE named (a boolean, b int2, c int4, d int8, e float4, f float8, g numeric(8,3), h text, "
            "i varchar(7), j char(5), k bytea, l date, m time, n timestamp, o timestamptz, p uuid, q jsonb)"
        )
        cursor = connection.execute("SELECT * FROM named")
        names = [column.name for column in cursor.description]
        assert names == list("abcdefghijklmnopq"), names
        oids = [column.type_code for column in cursor.description]
        assert oids == [16, 21, 23, 20, 700, 701, 1700, 25, 1043, 1042, 17, 1082, 1083, 1114, 1184, 2950, 3802], oids
        assert cursor.description[6].precision == 8 and cursor.description[6].scale == 3
        assert cursor.description[8].display_size == 7, cursor.description[8].display_size
        connection.rollback()


@check
def char_is_padded_and_compares_without_its_blanks():
    with connect() as connection:
        connection.execute("CREATE TABLE padded (c char(5))")
        connection.execute("INSERT INTO padded VALUES ('ab')")
        assert connection.execute("SELECT c FROM padded WHERE c = 'ab'").fetchone() == ("ab   ",)
        expect(errors.StringDataRightTruncation, connection.execute, "INSERT INTO padded VALUES ('abcdef')")
        connection.rollback()


@check
def jsonb_is_json():
    with connect() as connection:
        connection.execute("CREATE TABLE documents (id int PRIMARY KEY, value jsonb)")
        value = {"a": [1, 2.5, None, True], "b": {"c": "žluťoučký"}}
        connection.execute("INSERT INTO documents VALUES (1, %s)", (Jsonb(value),))
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            assert cursor.execute("SELECT value FROM documents WHERE id = 1").fetchone() == (value,)
        expect(errors.InvalidTextRepresentation, connection.execute, "INSERT INTO documents VALUES (2, '{broken')")
        connection.rollback()


@check
def loads_by_executemany_and_by_copy():
    with connect() as connection:
        connection.execute("CREATE TABLE loaded (id int PRIMARY KEY, name text, price numeric(10,2), made timestamptz)")
        rows = [(n, f"name {n}", Decimal(n) / 4, dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)) for n in range(500)]
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO loaded VALUES (%s, %s, %s, %s)", rows)
            assert cursor.rowcount == 500, cursor.rowcount
        with connection.cursor() as cursor:
            with cursor.copy("COPY loaded (id, name, price) FROM STDIN") as copy:
                for n in range(500, 3000):
                    copy.write_row((n, None if n % 7 == 0 else f"tab\t{n}\\", Decimal(n)))
            assert cursor.rowcount == 2500, cursor.rowcount
        connection.commit()
        cursor = connection.execute("SELECT count(*), sum(price), count(name) FROM loaded")
        names = 3000 - len([n for n in range(500, 3000) if n % 7 == 0])
        assert cursor.fetchone() == (3000, sum(Decimal(n) / 4 for n in range(500)) + sum(range(500, 3000)), names)
        with connection.cursor() as cursor, cursor.copy("COPY loaded TO STDOUT") as copy:
            assert len(list(copy.rows())) == 3000
        with connection.cursor() as cursor, cursor.copy("COPY (SELECT id FROM loaded WHERE id < 3 ORDER BY id) TO STDOUT") as copy:
            assert [row for row in copy.rows()] == [("0",), ("1",), ("2",)]
        connection.execute("DROP TABLE loaded")


@check
def a_broken_copy_leaves_nothing_and_the_connection_lives():
    with connect(autocommit=True) as connection:
        connection.execute("CREATE TABLE half (id int PRIMARY KEY)")

        def broken(lines):
            with connection.cursor() as cursor, cursor.copy("COPY half FROM STDIN") as copy:
                for line in lines:
                    copy.write(line)

        expect(errors.InvalidTextRepresentation, broken, ["1\n", "two\n"])
        expect(errors.BadCopyFileFormat, broken, ["1\n", "2\t3\n"])
        expect(errors.UniqueViolation, broken, ["1\n", "1\n"])

        class Mine(Exception):
            pass

        def abandoned():
            with connection.cursor() as cursor, cursor.copy("COPY half FROM STDIN") as copy:
                copy.write("1\n")
                raise Mine

        expect(Mine, abandoned)
        assert connection.execute("SELECT count(*) FROM half").fetchone() == (0,)
        connection.execute("DROP TABLE half")


@check
def returning_and_upsert():
    with connect() as connection:
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY, hits int NOT NULL DEFAULT 1, note text)")
        cursor = connection.execute("INSERT INTO kept (id) VALUES (1), (2) RETURNING id, hits, note")
        assert cursor.fetchall() == [(1, 1, None), (2, 1, None)]
        cursor = connection.execute(
            "INSERT INTO kept (id, note) VALUES (2, 'x'), (3, 'y') "
            "ON CONFLICT (id) DO UPDATE SET hits = kept.hits + 1, note = excluded.note RETURNING id, hits"
        )
        assert cursor.fetchall() == [(2, 2), (3, 1)]
        cursor = connection.execute("INSERT INTO kept (id) VALUES (3), (4) ON CONFLICT DO NOTHING")
        assert cursor.rowcount == 1, cursor.rowcount
        cursor = connection.execute("UPDATE kept SET hits = hits * 10 WHERE id IN (SELECT id FROM kept WHERE hits > 1) RETURNING *")
        assert cursor.fetchall() == [(2, 20, "x")]
        cursor = connection.execute("DELETE FROM kept WHERE note IS NULL RETURNING id")
        assert sorted(cursor.fetchall()) == [(1,), (4,)]
        connection.rollback()


@check
def a_statement_prepared_by_the_driver_survives_its_fifth_use():
    with connect() as connection:
        connection.prepare_threshold = 2
        connection.execute("CREATE TABLE often (id int PRIMARY KEY, name text)")
        for n in range(20):
            connection.execute("INSERT INTO often VALUES (%s, %s)", (n, f"n{n}"))
            assert connection.execute("SELECT name FROM often WHERE id = %s", (n,)).fetchone() == (f"n{n}",)
            assert connection.execute("SELECT count(*) FROM often WHERE id <= %s", (n,)).fetchone() == (n + 1,)
        connection.rollback()


@check
def pipelines():
    with connect(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS piped")
        connection.execute("CREATE TABLE piped (id int PRIMARY KEY)")
        with connection.pipeline():
            cursors = [connection.execute("INSERT INTO piped VALUES (%s) RETURNING id", (n,)) for n in range(50)]
        assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(50)]
        try:
            with connection.pipeline():
                connection.execute("INSERT INTO piped VALUES (100)")
                connection.execute("INSERT INTO piped VALUES (100)")
                connection.execute("INSERT INTO piped VALUES (101)")
        except errors.UniqueViolation:
            pass
        else:
            raise AssertionError("the second insert must fail")
        # The pipeline is one implicit transaction up to its Sync.
        assert connection.execute("SELECT count(*) FROM piped WHERE id >= 100").fetchone() == (0,)
        connection.execute("DROP TABLE piped")


@check
def transactions_and_savepoints():
    with connect(autocommit=True) as connection, connect(autocommit=True) as other:
        connection.execute("DROP TABLE IF EXISTS ledger")
        connection.execute("CREATE TABLE ledger (id int PRIMARY KEY, amount int)")
        with connection.transaction():
            connection.execute("INSERT INTO ledger VALUES (1, 10)")
            assert other.execute("SELECT count(*) FROM ledger").fetchone() == (0,)
            # The session's own rows are part of its analytic queries.
            assert connection.execute("SELECT count(*), sum(amount) FROM ledger").fetchone() == (1, 10)
            try:
                with connection.transaction():
                    connection.execute("INSERT INTO ledger VALUES (2, 20)")
                    connection.execute("INSERT INTO ledger VALUES (1, 99)")
            except errors.UniqueViolation:
                pass
            assert connection.execute("SELECT count(*), sum(amount) FROM ledger").fetchone() == (1, 10)
            connection.execute("UPDATE ledger SET amount = amount + 1")
            assert connection.execute("SELECT count(*), sum(amount) FROM ledger").fetchone() == (1, 11)
        assert other.execute("SELECT sum(amount) FROM ledger").fetchone() == (11,)
        try:
            with connection.transaction():
                connection.execute("DELETE FROM ledger")
                assert connection.execute("SELECT count(*) FROM ledger").fetchone() == (0,)
                raise RuntimeError
        except RuntimeError:
            pass
        assert other.execute("SELECT count(*) FROM ledger").fetchone() == (1,)
        connection.execute("DROP TABLE ledger")


@check
def read_committed_waits_and_sees_the_other_commit():
    with connect(autocommit=True) as first, connect() as second:
        first.execute("DROP TABLE IF EXISTS waited")
        first.execute("CREATE TABLE waited (id int PRIMARY KEY, amount int)")
        first.execute("INSERT INTO waited VALUES (1, 100)")
        second.execute("UPDATE waited SET amount = amount + 1 WHERE id = 1")
        outcome = []
        thread = threading.Thread(
            target=lambda: outcome.append(first.execute("UPDATE waited SET amount = amount + 10 WHERE id = 1").rowcount)
        )
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "the second writer must wait"
        second.commit()
        thread.join(10)
        assert outcome == [1], outcome
        assert first.execute("SELECT amount FROM waited WHERE id = 1").fetchone() == (111,)
        first.execute("DROP TABLE waited")


@check
def repeatable_read_refuses_to_overwrite():
    with connect() as first, connect(autocommit=True) as second:
        second.execute("DROP TABLE IF EXISTS repeated")
        second.execute("CREATE TABLE repeated (id int PRIMARY KEY, amount int)")
        second.execute("INSERT INTO repeated VALUES (1, 100)")
        first.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert first.execute("SELECT amount FROM repeated WHERE id = 1").fetchone() == (100,)
        second.execute("UPDATE repeated SET amount = 200 WHERE id = 1")
        assert first.execute("SELECT amount FROM repeated WHERE id = 1").fetchone() == (100,)
        assert first.execute("SELECT sum(amount) FROM repeated").fetchone() == (100,)
        caught = expect(errors.SerializationFailure, first.execute, "UPDATE repeated SET amount = 1 WHERE id = 1")
        assert caught.sqlstate == "40001"
        first.rollback()
        second.execute("DROP TABLE repeated")


@check
def a_deadlock_ends_one_of_two():
    with connect() as first, connect() as second:
        first.execute("DROP TABLE IF EXISTS crossed")
        first.execute("CREATE TABLE crossed (id int PRIMARY KEY, amount int)")
        first.execute("INSERT INTO crossed VALUES (1, 0), (2, 0)")
        first.commit()
        first.execute("UPDATE crossed SET amount = 1 WHERE id = 1")
        second.execute("UPDATE crossed SET amount = 2 WHERE id = 2")
        outcome = []

        def cross():
            try:
                second.execute("UPDATE crossed SET amount = 2 WHERE id = 1")
                outcome.append("went through")
                second.commit()
            except errors.DeadlockDetected as caught:
                outcome.append(caught.sqlstate)
                second.rollback()

        thread = threading.Thread(target=cross)
        thread.start()
        try:
            first.execute("UPDATE crossed SET amount = 1 WHERE id = 2")
            outcome.append("went through")
            first.commit()
        except errors.DeadlockDetected as caught:
            outcome.append(caught.sqlstate)
            first.rollback()
        thread.join(20)
        assert sorted(outcome) == ["40P01", "went through"], outcome
        first.execute("DROP TABLE crossed")
        first.commit()


@check
def select_for_update_holds_the_row():
    with connect() as first, connect() as second:
        first.execute("DROP TABLE IF EXISTS held")
        first.execute("CREATE TABLE held (id int PRIMARY KEY)")
        first.execute("INSERT INTO held VALUES (1)")
        first.commit()
        assert first.execute("SELECT * FROM held WHERE id = 1 FOR UPDATE").fetchone() == (1,)
        outcome = []
        thread = threading.Thread(target=lambda: outcome.append(second.execute("DELETE FROM held WHERE id = 1").rowcount))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "the row must be held"
        first.rollback()
        thread.join(10)
        assert outcome == [1], outcome
        second.rollback()
        first.execute("DROP TABLE held")
        first.commit()


@check
def errors_have_their_sqlstate_and_context():
    with connect(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS strict")
        connection.execute("CREATE TABLE strict (id int PRIMARY KEY, name varchar(3) NOT NULL, small int2)")
        connection.execute("INSERT INTO strict VALUES (1, 'a', 1)")
        for state, sql in [
            ("42601", "SELEC 1"),
            ("42P01", "SELECT * FROM nothing"),
            ("42703", "SELECT nothing FROM strict"),
            ("42P07", "CREATE TABLE strict (id int)"),
            ("42883", "SELECT nothing(1)"),
            ("42704", "CREATE TABLE wrong (a nothing)"),
            ("22012", "SELECT 1 / 0"),
            ("22012", "SELECT id / (id - id) FROM strict"),
            ("22012", "SELECT sum(id / (id - 1)) FROM strict"),
            ("22003", "INSERT INTO strict VALUES (2, 'b', 40000)"),
            ("22003", "SELECT 9223372036854775807 + 1"),
            ("22003", "INSERT INTO strict VALUES (99999999999, 'b', 1)"),
            ("22P02", "SELECT 'x'::int"),
            ("22007", "SELECT 'x'::date"),
            ("22008", "SELECT '2024-02-30'::date"),
            ("22P02", "SELECT 'x'::uuid"),
            ("22001", "INSERT INTO strict VALUES (2, 'long', 1)"),
            ("23505", "INSERT INTO strict VALUES (1, 'b', 1)"),
            ("23502", "INSERT INTO strict VALUES (2, NULL, 1)"),
            ("42804", "INSERT INTO strict VALUES (2, 'b', true)"),
            ("42601", "INSERT INTO strict VALUES (2, 'b', 1, 4)"),
            ("42803", "SELECT id, count(*) FROM strict"),
        ]:
            for run in (lambda: connection.execute(sql), lambda: connection.execute(sql, prepare=True, binary=True)):
                try:
                    run()
                except psycopg.Error as caught:
                    assert caught.sqlstate == state, f"{sql}: {caught.sqlstate} {caught}, expected {state}"
                else:
                    raise AssertionError(f"{sql}: {state} was expected")
        caught = expect(errors.UniqueViolation, connection.execute, "INSERT INTO strict VALUES (1, 'b', 1)")
        assert caught.diag.constraint_name == "strict_pkey", caught.diag.constraint_name
        assert caught.diag.table_name == "strict", caught.diag.table_name
        caught = expect(errors.NotNullViolation, connection.execute, "INSERT INTO strict VALUES (2, NULL, 1)")
        assert caught.diag.column_name == "name", caught.diag.column_name
        assert connection.execute("SELECT count(*) FROM strict").fetchone() == (1,)
        connection.execute("DROP TABLE strict")


@check
def a_failed_transaction_refuses_until_rollback():
    with connect() as connection:
        expect(errors.DivisionByZero, connection.execute, "SELECT 1 / 0")
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        expect(errors.InFailedSqlTransaction, connection.execute, "SELECT 1")
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


@check
def cancel_ends_a_waiting_statement():
    with connect() as holder, connect() as waiter:
        holder.execute("DROP TABLE IF EXISTS blocked")
        holder.execute("CREATE TABLE blocked (id int PRIMARY KEY)")
        holder.execute("INSERT INTO blocked VALUES (1)")
        holder.commit()
        holder.execute("DELETE FROM blocked WHERE id = 1")
        timer = threading.Timer(0.3, waiter.cancel_safe)
        timer.start()
        caught = expect(errors.QueryCanceled, waiter.execute, "DELETE FROM blocked WHERE id = 1")
        assert caught.sqlstate == "57014"
        waiter.rollback()
        holder.rollback()
        holder.execute("DROP TABLE blocked")
        holder.commit()


@check
def large_results_arrive_whole():
    with connect() as connection:
        connection.execute("CREATE TABLE wide (id int PRIMARY KEY, text text)")
        with connection.cursor() as cursor, cursor.copy("COPY wide FROM STDIN") as copy:
            for n in range(20_000):
                copy.write_row((n, f"{n:>500}"))
        connection.commit()
        seen = 0
        for row in connection.cursor().stream("SELECT id, text FROM wide ORDER BY id"):
            assert row == (seen, f"{seen:>500}")
            seen += 1
        assert seen == 20_000
        connection.rollback()
        connection.execute("DROP TABLE wide")


@check
def server_side_cursors():
    with connect() as connection:
        connection.execute("CREATE TABLE fetched (id int PRIMARY KEY)")
        with connection.cursor() as cursor, cursor.copy("COPY fetched FROM STDIN") as copy:
            for n in range(1, 1001):
                copy.write_row((n,))
        with connection.cursor("named") as cursor:
            cursor.execute("SELECT id FROM fetched ORDER BY id")
            assert cursor.fetchmany(10) == [(n,) for n in range(1, 11)]
            assert cursor.fetchone() == (11,)
            assert len(cursor.fetchall()) == 989
        connection.rollback()


@check
def session_settings():
    with connect(autocommit=True) as connection:
        assert connection.info.server_version >= 140000, connection.info.server_version
        assert connection.info.encoding == "utf-8"
        connection.execute("SET TIME ZONE 'UTC'")
        assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)
        connection.execute("SET application_name = 'checker'")
        assert connection.execute("SHOW application_name").fetchone() == ("checker",)
        assert connection.info.parameter_status("application_name") == "checker"
        expect(psycopg.Error, connection.execute, "SET no_such_setting = 1")


def main():
    global failed
    wanted = sys.argv[1:]
    for function in checks:
        if wanted and function.__name__ not in wanted:
            continue
        name = function.__name__.replace("_", " ")
        try:
            function()
            print(f"ok - psycopg: {name}", flush=True)
        except Exception as caught:  # every failure is one line of the report
            failed += 1
            print(f"FAIL - psycopg: {name}: {type(caught).__name__}: {str(caught).strip()}", flush=True)
            place = [frame for frame in traceback.extract_tb(caught.__traceback__) if frame.filename == __file__][-1]
            print(f"    line {place.lineno}: {place.line}", flush=True)
    sys.exit(1 if failed else 0)


main()
