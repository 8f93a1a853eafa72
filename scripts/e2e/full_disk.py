"""A disk that fills up: `fill` writes until the server refuses, `room` goes on in the same server once there is room again, `read_only` finds
that nothing can be written any more, `check` looks for everything that was acknowledged after a restart; `mirror` and `mirror_again` do without a
disk for the mirror.

After the refusal the server still answers reads. What was acknowledged is kept in FULL_DISK_JOURNAL between the runs.
"""

import os
import random
import sys
import time

from wire import Connection, Gone, ServerError

JOURNAL = os.environ["FULL_DISK_JOURNAL"]
ROWS = 100
# Nothing that files of rows could make smaller.
TEXT = random.Random(1).randbytes(5_000).hex()


def fill():
    connection = Connection()
    connection.query("CREATE TABLE filled (id int PRIMARY KEY, value text)")
    acknowledged, error = 0, None
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        values = ", ".join(f"({acknowledged + n}, '{TEXT}')" for n in range(ROWS))
        try:
            connection.query(f"INSERT INTO filled VALUES {values}")
        except (ServerError, Gone) as caught:
            error = caught
            break
        acknowledged += ROWS
    with open(JOURNAL, "w") as file:
        file.write(str(acknowledged))
    assert error is not None, f"{acknowledged} rows fitted into the small disk"
    assert isinstance(error, ServerError), "the connection must stay"
    assert error.state == "53100", error
    print(f"ok - full disk: refused after {acknowledged} rows: {error}")
    # Smaller writes may still find room; a refusal must be as clean as the first.
    for id in range(-10, 0):
        try:
            connection.query(f"INSERT INTO filled VALUES ({id}, 'small')")
        except ServerError as caught:
            assert caught.state == "53100", caught
    rows = Connection().query("SELECT id FROM filled WHERE id = 1")
    assert rows == [["1"]], rows
    print("ok - full disk: reads go on")


def room():
    """Something else on the disk was deleted: commits are taken again, without a restart."""
    connection = Connection()
    deadline = time.monotonic() + 60
    while True:
        try:
            connection.query(f"INSERT INTO filled VALUES (-30, '{TEXT}')")
            break
        except ServerError as caught:
            assert caught.state == "53100", caught
            assert time.monotonic() < deadline, "there is room, and commits are refused all the same"
    connection.query("CREATE SEQUENCE numbers")
    print("ok - full disk: writes go on when there is room again")


def read_only():
    """The file system has become read-only, as one does that has met an error."""
    connection = Connection()
    # A number is of no commit. A commit that is lost stays visible until a restart, and what depends on it is refused.
    try:
        connection.query("SELECT nextval('numbers')")
        raise AssertionError("a number was given that cannot be on disk")
    except ServerError as caught:
        assert caught.state == "58030", caught
    try:
        connection.query("INSERT INTO filled VALUES (-40, 'lost')")
        raise AssertionError("a commit was acknowledged that cannot be on disk")
    except ServerError as caught:
        assert caught.state == "58030", caught
        print(f"ok - read-only file system: refused: {caught}")
    acknowledged = int(open(JOURNAL).read())
    for place in ("primary", "mirror"):
        session = Connection()
        session.query(f"SET scry.read_from = '{place}'")
        rows = session.query(f"SELECT count(*) FROM filled WHERE id >= 0 AND id < {acknowledged}")
        assert rows == [[str(acknowledged)]], f"{place}: {rows}, acknowledged {acknowledged}"
    print("ok - read-only file system: reads go on")


def mirror():
    """More rows than the mirror's disk holds: they are served from memory."""
    connection = Connection()
    connection.query("CREATE TABLE wide (id int PRIMARY KEY, value text)")
    for n in range(20):
        connection.query(
            f"INSERT INTO wide SELECT g, 'value ' || (g::bigint * 7919 % 1000003)::text || (g::bigint * g % 1000033)::text "
            f"FROM generate_series({n * 10_000}, {n * 10_000 + 9_999}) AS g(g)"
        )
    connection.query("SET scry.read_from = 'mirror'")
    rows = connection.query("SELECT count(*), max(id) FROM wide")
    assert rows == [["200000", "199999"]], rows
    print("ok - full disk of the mirror: queries and commits go on")


def mirror_again():
    connection = Connection()
    connection.query("SET scry.read_from = 'mirror'")
    rows = connection.query("SELECT count(*), max(id) FROM wide")
    assert rows == [["200000", "199999"]], rows
    connection.query("INSERT INTO wide VALUES (-1, 'one more')")
    connection.query("DELETE FROM wide WHERE id = -1")
    print("ok - full disk of the mirror: it is complete after a restart")


def check():
    acknowledged = int(open(JOURNAL).read())
    connection = Connection()
    for place in ("primary", "mirror"):
        connection.query(f"SET scry.read_from = '{place}'")
        rows = connection.query(f"SELECT count(*), sum(length(value)) FROM filled WHERE id >= 0 AND id < {acknowledged}")
        assert rows == [[str(acknowledged), str(acknowledged * len(TEXT))]], f"{place}: {rows}, acknowledged {acknowledged}"
        beyond = int(connection.query(f"SELECT count(*) FROM filled WHERE id >= {acknowledged}")[0][0])
        assert beyond in (0, ROWS), f"{place}: {beyond} rows of the refused statement"
    connection.query("INSERT INTO filled VALUES (-20, 'writes go on')")
    print(f"ok - full disk: all {acknowledged} acknowledged rows are there after a restart with room")


try:
    {"fill": fill, "room": room, "read_only": read_only, "check": check, "mirror": mirror, "mirror_again": mirror_again}[sys.argv[1]]()
except Exception as caught:  # one line of the report
    print(f"FAIL - full disk, {sys.argv[1]}: {type(caught).__name__}: {caught}")
    sys.exit(1)
