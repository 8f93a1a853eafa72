"""Bad input of every kind: after each, the connection answers (or is closed cleanly where the protocol is lost) and the data is as it was."""

import os
import random
import resource
import struct
import sys
import threading

from wire import Connection, Gone, ServerError, bind, fields, message, text

IS_SCRY = os.environ.get("PGDATABASE", "scry") == "scry"
failed = 0


def check(name, function):
    global failed
    try:
        function()
        data_is_intact()
        print(f"ok - hostile: {name}", flush=True)
    except Exception as caught:  # every failure is one line of the report
        failed += 1
        print(f"FAIL - hostile: {name}: {type(caught).__name__}: {caught}", flush=True)


def data_is_intact():
    connection = Connection()
    rows = connection.query("SELECT count(*), sum(id), min(name), max(name) FROM guarded")
    assert rows == [["100", "4950", "name 0", "name 99"]], f"the data changed: {rows}"
    connection.close()


def refused(states, run):
    """`run` fails with one of the SQLSTATEs."""
    try:
        run()
    except ServerError as caught:
        if caught.state not in states:
            raise AssertionError(f"{caught}, expected {states}") from caught
        return
    raise AssertionError(f"an error {states} was expected")


def statements():
    """Statements that fail, by both protocols, and the connection goes on."""
    connection = Connection()
    for states, sql in [
        (["42601"], "SELEC 1"),
        (["42601"], "SELECT 'open"),
        (["42601"], "SELECT (((1"),
        (["42601", "0A000"], "GRIBBLE the table"),
        (["0A000", "42601"], "CREATE EXTENSION nothing"),
        (["42704"], "CREATE TABLE wrong (a nothing)"),
        (["42P01"], "SELECT * FROM nothing"),
        (["42883"], "SELECT nothing(1)"),
        (["22012"], "SELECT 1 / 0"),
        (["22012"], "UPDATE guarded SET name = CAST(id / (id - 50) AS text)"),
        (["22003"], "SELECT 9223372036854775807 + 1"),
        (["22003"], "SELECT 99999999999::int"),
        (["22003"], "SELECT 1e400::float8"),
        (["22003"], "INSERT INTO guarded VALUES (99999999999, 'x')"),
        (["22P02"], "SELECT 'abc'::int"),
        (["22007", "22008"], "SELECT 'not a date'::date"),
        (["22008"], "SELECT '2023-02-29'::date"),
        (["22P02", "22023"], "SELECT '\\xzz'::bytea"),
        (["23505"], "INSERT INTO guarded VALUES (200, 'x'), (5, 'again')"),
        (["23505"], "UPDATE guarded SET id = 7 WHERE id = 8"),
        (["23502"], "INSERT INTO guarded VALUES (NULL, 'x')"),
        (["42601", "42P01", "0A000"], "SELECT * FROM guarded; SELECT 1 FROM nothing"),
    ]:
        for run in (connection.query, connection.extended):
            try:
                run(sql)
            except ServerError as caught:
                several = run == connection.extended and ";" in sql
                assert caught.state in states or several, f"{sql}: {caught}, expected {states}"
            else:
                raise AssertionError(f"{sql}: an error {states} was expected")
            assert connection.query("SELECT 1") == [["1"]]
    connection.close()


def invalid_utf8():
    connection = Connection()
    for sql in (b"SELECT '\xff\xfe'", b"SELECT '\xc3'", b"\xff", b"INSERT INTO guarded VALUES (500, '\xed\xa0\x80')"):
        refused(["22021"], lambda: connection.query(sql))
    refused(["22021"], lambda: connection.extended("INSERT INTO guarded VALUES (500, $1)", [b"\xff"]))
    refused(["22021"], lambda: connection.extended("INSERT INTO guarded VALUES (500, $1)", [b"a\0b"]))
    refused(["22021"], lambda: connection.extended("SELECT $1::text", [b"\xc0\x80"], [25], [1]))
    connection.send(message(b"Q", text("COPY guarded FROM STDIN")))
    assert connection.receive()[0] == b"G"
    connection.send(message(b"d", b"500\t\xff\n") + message(b"c"))
    refused(["22021"], connection.until_ready)
    assert connection.query("SELECT 1") == [["1"]]


def wrong_parameters():
    connection = Connection()
    for states, sql, parameters, types, formats in [
        (["22P02"], "SELECT $1::int", [b"x"], [], []),
        (["22003"], "SELECT $1::int", [b"99999999999"], [], []),
        (["22P03", "08P01"], "SELECT $1::int", [b"\0\0"], [23], [1]),
        (["22P03", "08P01"], "SELECT $1::int8", [b"\0" * 9], [20], [1]),
        (["22P03", "08P01"], "SELECT $1::numeric", [b"\0\x01"], [1700], [1]),
        (["22P03", "08P01"], "SELECT $1::numeric", [struct.pack("!hhhh", 1, 0, 0x1234, 0) + b"\0\x01"], [1700], [1]),
        (["22P03", "08P01"], "SELECT $1::uuid", [b"short"], [2950], [1]),
        (["22008"], "SELECT $1::timestamp", [struct.pack("!q", -(2**62))], [1114], [1]),
        (["08P01"], "SELECT $1::int, $2::int", [b"1"], [], []),
        (["08P01"], "SELECT 1", [b"1"], [], []),
        (["08P01"], "SELECT $1::int", [b"1"], [23], [0, 0, 0]),
        (["22023", "08P01"], "SELECT $1::int", [b"1"], [23], [7]),
        (["42P02", "42P18", "08P01"], "SELECT $0", [], [], []),
    ]:
        try:
            connection.extended(sql, parameters, types, formats)
        except ServerError as caught:
            assert caught.state in states, f"{sql} {parameters}: {caught}, expected {states}"
        else:
            raise AssertionError(f"{sql} {parameters} {formats}: an error {states} was expected")
        assert connection.query("SELECT 1") == [["1"]]
    connection.close()


def wrong_names():
    """Statements and portals that do not exist, or exist already."""
    connection = Connection()
    for states, data in [
        (["26000"], message(b"B", b"\0nothing\0" + struct.pack("!HHH", 0, 0, 0))),
        (["34000"], message(b"E", b"nothing\0" + struct.pack("!I", 0))),
        (["26000"], message(b"D", b"Snothing\0")),
        (["34000"], message(b"D", b"Pnothing\0")),
        (["42P05"], 2 * message(b"P", b"twice\0SELECT 1\0" + struct.pack("!H", 0))),
    ]:
        connection.send(data + message(b"S"))
        refused(states, connection.until_ready)
    # Closing what is not there is no error.
    connection.send(message(b"C", b"Snothing\0") + message(b"S"))
    connection.until_ready()
    assert connection.query("SELECT 1") == [["1"]]


def answered_or_closed(data, start=True):
    """After broken bytes the server answers an error or closes; it never hangs and never dies."""
    connection = Connection(start=start, timeout=20)
    try:
        connection.send(data)
        connection.socket.shutdown(1)
        while True:
            connection.receive()
    except (Gone, OSError, struct.error):
        pass
    finally:
        connection.close()


def malformed_messages():
    for data in [
        message(b"\x00"),
        message(b"!", b"what"),
        b"Q" + struct.pack("!I", 0),
        b"Q" + struct.pack("!I", 3),
        b"Q" + struct.pack("!i", -1) + b"SELECT 1\0",
        b"Q" + struct.pack("!I", 0x7FFFFFFF) + b"SELECT 1\0",
        b"Q" + struct.pack("!I", 100) + b"short",
        message(b"Q", b"no terminator"),
        message(b"Q", b""),
        message(b"P", b""),
        message(b"P", b"\0SELECT 1"),
        message(b"P", b"\0SELECT 1\0" + struct.pack("!H", 60000)),
        message(b"B", b"\0\0" + struct.pack("!HH", 0, 65535)),
        message(b"B", b"\0\0" + struct.pack("!HHi", 0, 1, 2**31 - 1)),
        message(b"B", b"\0\0" + struct.pack("!HHi", 0, 1, -5)),
        message(b"E", b"\0"),
        message(b"D", b"X\0"),
        message(b"D", b""),
        message(b"C", b"Z\0"),
        message(b"d", b"copy data outside of copy"),
        message(b"c"),
        message(b"f", b"x\0"),
        message(b"F", b"function call"),
        message(b"p", b"password\0"),
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
    ]:
        answered_or_closed(data)


def malformed_startups():
    for data in [
        b"",
        b"\0",
        struct.pack("!I", 0),
        struct.pack("!I", 4),
        struct.pack("!II", 8, 0),
        struct.pack("!II", 8, 196608),
        struct.pack("!II", 9, 196608) + b"\0",
        struct.pack("!II", 0x7FFFFFFF, 196608),
        struct.pack("!II", 16, 196608) + b"user\0abc",
        struct.pack("!II", 8, 0x00020000),
        struct.pack("!II", 13, 0x00030063) + b"user\0",
        struct.pack("!II", 8, 80877103),  # SSLRequest
        struct.pack("!II", 8, 80877104),  # GSSENCRequest
        2 * struct.pack("!II", 8, 80877103),
        struct.pack("!II", 12, 80877102) + b"\0\0\0\0",  # a cut CancelRequest
        struct.pack("!IIII", 16, 80877102, 12345, 67890),  # cancel of nobody
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        os.urandom(64),
    ]:
        answered_or_closed(data, start=False)


def refused_startups():
    """An unknown database and a missing user are refused with their SQLSTATE."""
    for states, pairs in [
        (["3D000"], [("user", "scry"), ("database", "no such database")]),
        (["28000"], [("database", "scry")]),
    ]:
        connection = Connection(start=False)
        body = struct.pack("!I", 196608) + b"".join(text(k) + text(v) for k, v in pairs) + b"\0"
        connection.send(struct.pack("!I", len(body) + 4) + body)
        kind, body = connection.receive()
        while kind not in (b"E", b"Z"):
            kind, body = connection.receive()
        assert kind == b"E", f"{pairs}: accepted"
        assert fields(body).get("C") in states, f"{pairs}: {fields(body)}"


def random_bytes():
    generator = random.Random(20260101)
    for _ in range(100):
        size = generator.randrange(1, 2000)
        data = generator.randbytes(size)
        answered_or_closed(data, start=generator.random() < 0.7)
    # Valid messages with damaged bodies reach deeper.
    for _ in range(300):
        body = bytearray(
            generator.choice(
                [
                    b"\0SELECT id FROM guarded WHERE id = $1\0" + struct.pack("!HI", 1, 23),
                    bind([b"1"], [0]),
                    b"\0" + struct.pack("!I", 0),
                    b"S\0",
                    text("SELECT count(*) FROM guarded"),
                ]
            )
        )
        for _ in range(generator.randrange(1, 4)):
            body[generator.randrange(len(body))] = generator.randrange(256)
        kind = generator.choice([b"P", b"B", b"E", b"D", b"Q", b"C"])
        answered_or_closed(message(kind, bytes(body)) + message(b"S"))


def oversized():
    """A row above the limit is refused; one below it goes in and out."""
    connection = Connection()
    connection.query("CREATE TABLE large (id int PRIMARY KEY, value text)")
    connection.query(f"INSERT INTO large VALUES (1, '{'x' * (4 << 20)}')")
    assert connection.query("SELECT length(value) FROM large WHERE id = 1") == [[str(4 << 20)]]
    if IS_SCRY:
        refused(["54000", "54001", "53200"], lambda: connection.query(f"INSERT INTO large VALUES (2, '{'y' * (20 << 20)}')"))
        refused(["54000", "53200"], lambda: connection.extended("INSERT INTO large VALUES (2, $1)", [b"z" * (20 << 20)]))
        copy = message(b"Q", text("COPY large FROM STDIN"))
        connection.send(copy)
        assert connection.receive()[0] == b"G"
        for _ in range(20):
            connection.send(message(b"d", b"3\t" * (not _) + b"c" * (1 << 20)))
        connection.send(message(b"d", b"\n") + message(b"c"))
        refused(["54000", "53200"], connection.until_ready)
    assert connection.query("SELECT count(*) FROM large") == [["1"]]
    connection.query("DROP TABLE large")


def deep_nesting():
    """Deep expressions and long lists end in an answer or an error, not in a dead server."""
    connection = Connection()
    for sql in [
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
        "SELECT 1" + " + 1" * 20_000,
        "SELECT 1 WHERE " + "NOT " * 20_000 + "true",
        "SELECT 1 WHERE 1 = 1" + " AND 1 = 1" * 10_000,
        "SELECT id FROM guarded WHERE id IN (" + ", ".join(str(n) for n in range(50_000)) + ")",
        "SELECT * FROM " + "(SELECT * FROM " * 500 + "guarded" + ") x" * 500,
        "SELECT " + "CASE WHEN true THEN " * 3_000 + "1" + " END" * 3_000,
    ]:
        try:
            connection.query(sql)
        except ServerError as caught:
            assert caught.state in ("54001", "54000", "42601"), f"{sql[:40]}: {caught}"
        assert connection.query("SELECT 1") == [["1"]], sql[:40]


def copy_broken_off():
    """COPY that fails, that the client ends, and whose client disappears: nothing of it stays."""
    connection = Connection()
    for lines, end, states in [
        ([b"300\tname\n", b"x\tname\n"], message(b"c"), ["22P02"]),
        ([b"300\tname\textra\n"], message(b"c"), ["22P04"]),
        ([b"300\n"], message(b"c"), ["22P04"]),
        ([b"300\tname\n300\tagain\n"], message(b"c"), ["23505"]),
        ([b"300\tname\n"], message(b"f", text("client says no")), ["57014"]),
        ([b"300\tna", b"me\n301"], message(b"c"), ["22P04"]),
    ]:
        connection.send(message(b"Q", text("COPY guarded FROM STDIN")))
        assert connection.receive()[0] == b"G"
        for line in lines:
            connection.send(message(b"d", line))
        connection.send(end)
        refused(states, connection.until_ready)
        assert connection.query("SELECT 1") == [["1"]]
    lost = Connection()
    lost.send(message(b"Q", text("COPY guarded FROM STDIN")) + message(b"d", b"300\tname\n"))
    lost.close()
    # A query within COPY is a protocol error that ends the COPY or the connection.
    mixed = Connection()
    mixed.send(message(b"Q", text("COPY guarded FROM STDIN")))
    mixed.receive()
    mixed.send(message(b"d", b"300\tname\n") + message(b"Q", text("SELECT 1")))
    try:
        refused(["08P01", "57014"], mixed.until_ready)
    except Gone:
        pass


def vanished_while_waiting():
    """A client that vanishes while its statement waits frees what it holds."""
    if not IS_SCRY:
        return  # PostgreSQL looks for its clients only when client_connection_check_interval says so.
    holder, lost = Connection(), Connection()
    holder.query("BEGIN")
    holder.query("UPDATE guarded SET name = name WHERE id = 1")
    lost.query("BEGIN")
    lost.query("UPDATE guarded SET name = 'lost' WHERE id = 2")
    lost.send(message(b"Q", text("UPDATE guarded SET name = 'lost' WHERE id = 1")))
    lost.close()
    Connection().query("UPDATE guarded SET name = name WHERE id = 2")
    holder.query("ROLLBACK")


def abandoned_transactions():
    """A client that vanishes leaves no lock and no row."""
    for _ in range(20):
        connection = Connection()
        connection.query("BEGIN")
        connection.query("UPDATE guarded SET name = 'taken'")
        connection.query("INSERT INTO guarded VALUES (400, 'never')")
        connection.close()
    connection = Connection()
    connection.query("UPDATE guarded SET name = name WHERE id = 1")


troubles = []


def at_work(connection, number):
    """One of a crowd that writes while the others read."""
    try:
        for _ in range(20):
            connection.query(f"UPDATE guarded SET name = name WHERE id = {number % 100}")
    except (ServerError, Gone, OSError) as caught:
        troubles.append(caught)


def a_crowd():
    """Thousands of connections at once, those beyond the limit refused with 53300, and the first still works."""
    crowd, refusals = [Connection()], 0
    # More than the two thousand that scry takes unless told otherwise.
    for _ in range(2_100 if IS_SCRY else 400):
        try:
            crowd.append(Connection())
        except ServerError as caught:
            assert caught.state == "53300", caught
            refusals += 1
    assert len(crowd) >= 90, len(crowd)
    if IS_SCRY:
        assert len(crowd) >= 1_900 and refusals > 0, f"{len(crowd)} taken, {refusals} refused"
    workers = [threading.Thread(target=at_work, args=(connection, n)) for n, connection in enumerate(crowd[:200])]
    for worker in workers:
        worker.start()
    for connection in crowd[200:]:
        assert connection.query("SELECT name FROM guarded WHERE id = 42") == [["name 42"]]
    for worker in workers:
        worker.join()
    assert not troubles, troubles[:3]
    for connection in crowd:
        connection.close()


def silent_connections():
    """Connections that never speak do not keep others out."""
    silent = [Connection(start=False) for _ in range(50)]
    data_is_intact()
    for connection in silent:
        connection.close()


def a_reader_that_does_not_read():
    """A client that asks for much and reads nothing holds up nobody."""
    lazy = Connection()
    lazy.send(message(b"Q", text("SELECT a.name, b.name, c.name FROM guarded a, guarded b, guarded c")))
    other = Connection()
    for n in range(20):
        assert other.query(f"SELECT name FROM guarded WHERE id = {n}") == [[f"name {n}"]]
    lazy.close()


def main():
    # Every connection of the crowd is a file here, too.
    files, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    connection = Connection()
    connection.query("DROP TABLE IF EXISTS guarded")
    connection.query("CREATE TABLE guarded (id int PRIMARY KEY, name text)")
    connection.query("INSERT INTO guarded VALUES " + ", ".join(f"({n}, 'name {n}')" for n in range(100)))
    connection.close()
    for function in [
        statements,
        invalid_utf8,
        wrong_parameters,
        wrong_names,
        malformed_messages,
        malformed_startups,
        refused_startups,
        random_bytes,
        oversized,
        deep_nesting,
        copy_broken_off,
        vanished_while_waiting,
        abandoned_transactions,
        a_crowd,
        silent_connections,
        a_reader_that_does_not_read,
    ]:
        check(function.__name__.replace("_", " "), function)
    sys.exit(1 if failed else 0)


main()
