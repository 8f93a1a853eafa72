"""A disk that fills up: `fill` writes until the server refuses, `check` looks for everything that was acknowledged.

After the refusal the server still answers reads. What was acknowledged is kept in FULL_DISK_JOURNAL between the two runs.
"""

import os
import sys
import time

from wire import Connection, Gone, ServerError

JOURNAL = os.environ["FULL_DISK_JOURNAL"]
ROWS = 100
TEXT = "d" * 10_000


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
    assert error.state in ("53100", "58030", "25006"), error
    print(f"ok - full disk: refused after {acknowledged} rows: {error}")
    # Smaller writes may still find room; a refusal must be as clean as the first.
    for id in range(-10, 0):
        try:
            connection.query(f"INSERT INTO filled VALUES ({id}, 'small')")
        except ServerError as caught:
            assert caught.state in ("53100", "58030", "25006"), caught
    rows = Connection().query("SELECT id FROM filled WHERE id = 1")
    assert rows == [["1"]], rows
    print("ok - full disk: reads go on")


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
    {"fill": fill, "check": check}[sys.argv[1]]()
except Exception as caught:  # one line of the report
    print(f"FAIL - full disk, {sys.argv[1]}: {type(caught).__name__}: {caught}")
    sys.exit(1)
