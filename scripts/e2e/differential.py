"""Sends the same statements to scry and to PostgreSQL, and lists where the answers differ.

    differential.py --scry PORT --postgres PORT [--differences FILE] FILE…

A file is one of these, by its name:

- `expressions*`: a scalar expression on each line, up to the first tab. Each is asked for by itself, and of a one-row table, which
  in scry are two executors.
- `types*`: a type's name, a tab, the text of a value, and what follows.
- `*.test`: a sqllogictest script, of which the statements and queries count; those on indexes and views are passed over.
- any other: blocks, as the golden scripts have them. A block is SQL, up to a line `----` or an empty line; what stands between
  `----` and the empty line is not looked at. `@name` before the SQL chooses a session; behind the SQL, `data:` and lines are what COPY
  FROM STDIN reads, and each line `params:` is one execution with the parameters that follow it, parted by tabs (`\\N` is NULL).
  Behind `@name waits` the SQL is begun and has to wait for a lock; a later `@name goes on`, without SQL, takes its answers.
  Without ORDER BY the rows may come in any order.

What PostgreSQL cannot answer is passed over, and counted: scripts that create an election or have a session of another user, and blocks
of EXPLAIN or of something in schema `scry` or named `scry_…`. These blocks are run all the same, for what they change or set.

`# differs: NAME` before a block, or as a line before an expression, says that its answers differ on purpose. NAME is explained in FILE, in
a line that begins with `- **NAME**`. It is a failure when they do not differ any more. Behind NAME may stand `undone`: what the block does is rolled back in both
servers, since only one does it; `ends`: the rest of the script is passed over; `mirror`: of an expression, only of a table.

Columns are compared by name, type and modifier; queries are asked again by the extended protocol for binary values; errors by
SQLSTATE, message, detail, hint, position, context and the objects they name.
"""

import argparse
import re
import select
import struct
import sys
import time

import wire

# Fields of an error or notice that count beside severity, SQLSTATE and message. The others tell where in the server's source it was
# raised, and what a schema or type is called.
FIELDS = {
    "D": "detail",
    "H": "hint",
    "P": "position",
    "W": "context",
    "t": "table",
    "c": "column",
    "n": "constraint",
}


# How long a statement may take to come to a lock that it has to wait for, and how long it waits for one.
WAIT_SECONDS = 20
LOCK_SECONDS = 4


class Block:
    def __init__(self, line):
        self.line = line
        self.session = "main"
        self.waits = self.goes_on = False
        self.sql = ""
        self.data = None
        self.parameters = []
        self.differs = self.way = None


def differs_of(comment):
    """The name of a difference and what stands behind it."""
    found = re.match(r"#\s*differs:\s*(\S+)(?:\s+(undone|ends|mirror))?$", comment)
    return found.groups() if found else None


def read_blocks(lines):
    blocks, differs, block, skipping = [], (None, None), None, False
    for number, line in enumerate(lines, 1):
        if not line:
            block, skipping = None, False
            continue
        if skipping:
            continue
        if block is None:
            if line.startswith("#"):
                differs = differs_of(line) or differs
                continue
            block = Block(number)
            (block.differs, block.way), differs = differs, (None, None)
            blocks.append(block)
        if line == "----":
            skipping = True
        elif line.startswith("@"):
            name, _, how = line[1:].partition(" ")
            block.session, block.waits, block.goes_on = name, how == "waits", how == "goes on"
        elif line == "data:":
            block.data = ""
        elif line.startswith("params:"):
            given = line[len("params:") :].removeprefix(" ")
            block.parameters.append([None if v == "\\N" else v for v in given.split("\t")] if given else [])
        elif block.data is not None:
            block.data += line + "\n"
        else:
            block.sql += line + "\n"
    return blocks


def read_expressions(lines):
    blocks, differs = [], (None, None)
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if line.startswith("#"):
            differs = differs_of(line) or differs
            continue
        expression = line.split("\t")[0].removeprefix("~")
        for sql in (f"select {expression}", f"select {expression} from (values (1)) as one (unit)"):
            block = Block(number)
            block.sql, (block.differs, block.way) = sql, differs
            blocks.append(block)
        if differs[1] == "mirror":
            blocks[-2].differs = None
        differs = (None, None)
    return blocks


def read_types(lines):
    blocks, differs = [], (None, None)
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if line.startswith("#"):
            differs = differs_of(line) or differs
            continue
        name, text = line.split("\t")[:2]
        block = Block(number)
        block.sql = "select '" + text.replace("'", "''") + f"'::{name}"
        (block.differs, block.way), differs = differs, (None, None)
        blocks.append(block)
    return blocks


def read_logictest(lines):
    blocks, block, skipped, answer = [], None, False, False
    for number, line in enumerate(lines, 1):
        word, _, rest = line.partition(" ")
        if not line.strip():
            if block and not skipped and not re.match(r"(create|drop|reindex)\s+(unique\s+)?(index|view|trigger)|reindex", block.sql, re.I):
                blocks.append(block)
            if block:
                skipped = False
            block, answer = None, False
        elif block is None and word in ("skipif", "onlyif"):
            skipped |= (rest.split("#")[0].strip() == "postgresql") == (word == "skipif")
        elif block is None and word in ("statement", "query"):
            block = Block(number)
        elif block and line == "----":
            answer = True
        elif block and not answer:
            block.sql += line + "\n"
    return blocks


def script_passed_over(path):
    """Why PostgreSQL cannot run this script, or None."""
    if path.endswith(".test"):
        return None
    sql, answer = "", False
    with open(path, encoding="utf-8") as file:
        for line in file:
            answer = line.strip() and (answer or line == "----\n")
            if re.match(r"@\w+ of ", line):
                return "has sessions of other users"
            if not answer and not line.startswith("#"):
                sql += line
    return "is about elections" if re.search(r"\bcreate\s+election\b|\bscry\.create_election\b", sql, re.I) else None


def is_scrys_own(sql):
    """Whether PostgreSQL cannot have the same answer."""
    return re.match(r"\s*explain\b", sql, re.I) or re.search(r"\bscry(\.|_)\w", sql, re.I)


def read(path):
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    base = path.rsplit("/", 1)[-1]
    if base.endswith(".test"):
        return read_logictest([*lines, ""])
    if base.startswith("expressions"):
        return read_expressions(lines)
    if base.startswith("types"):
        return read_types(lines)
    return read_blocks(lines)


def columns(body):
    (count,) = struct.unpack("!H", body[:2])
    at, described = 2, []
    for _ in range(count):
        end = body.index(b"\0", at)
        name = body[at:end].decode()
        oid, _, modifier, _ = struct.unpack("!IhiH", body[end + 7 : end + 19])
        described.append(f"{name}:{oid}" + (f"({modifier})" if modifier != -1 else ""))
        at = end + 19
    return described


def raw_row(body, show):
    (count,) = struct.unpack("!H", body[:2])
    at, values = 2, []
    for _ in range(count):
        (length,) = struct.unpack("!i", body[at : at + 4])
        at += 4
        if length < 0:
            values.append("NULL")
        else:
            values.append(show(body[at : at + length]))
            at += length
    return "|".join(values)


def as_hex(value):
    """The sign of NaN means nothing."""
    return {"fff8000000000000": "7ff8000000000000", "ffc00000": "7fc00000"}.get(value.hex(), value.hex())


def as_text(value):
    return value.decode(errors="replace")


def notice(body):
    found = wire.fields(body)
    text = f"{found.get('V')} {found.get('C')}: {found.get('M')}"
    for field, name in FIELDS.items():
        if field in found:
            text += f"\n{name}: {found[field]}"
    return text


class Server:
    def __init__(self, name, port, database, count_of_waiters):
        self.name, self.port, self.database = name, port, database
        self.count_of_waiters = count_of_waiters
        self.sessions = {}
        # Sessions whose statements wait, and have not been answered.
        self.waiting = set()

    def session(self, name):
        if name not in self.sessions:
            session = wire.Connection(port=self.port, database=self.database)
            session.query("set timezone = 'UTC'")
            session.query(f"set lock_timeout = {LOCK_SECONDS * 1000}")
            self.sessions[name] = session
        return self.sessions[name]

    def end_file(self):
        for session in self.sessions.values():
            session.close()
        self.sessions, self.waiting = {}, set()
        session = self.session("cleaner")
        for (table,) in session.query("select tablename from pg_tables where schemaname = 'public'"):
            session.query(f'drop table if exists "{table}" cascade')

    def answers(self, session, show, data=None):
        """What the server says until it is ready: (kind, text) pairs."""
        found = []
        while True:
            kind, body = session.receive()
            if kind == b"T":
                found.append(("columns", " ".join(columns(body))))
            elif kind == b"D":
                found.append(("row", raw_row(body, show)))
            elif kind == b"C":
                found.append(("tag", as_text(body[:-1])))
            elif kind == b"I":
                found.append(("tag", "empty"))
            elif kind == b"E":
                # What came before a statement failed is its own affair: columns were described, some rows perhaps sent.
                while found and found[-1][0] in ("columns", "row", "parameters", "copy"):
                    found.pop()
                found.append(("error", notice(body)))
            elif kind == b"N":
                found.append(("notice", notice(body)))
            elif kind == b"t":
                (count,) = struct.unpack("!H", body[:2])
                found.append(("parameters", str(list(struct.unpack(f"!{count}I", body[2:])))))
            elif kind == b"d":
                found.append(("copy", as_text(body).rstrip("\n")))
            elif kind == b"G":
                session.send(wire.message(b"d", (data or "").encode()) + wire.message(b"c"))
            elif kind == b"Z":
                found.append(("status", as_text(body)))
                return found

    def simple(self, block):
        session = self.session(block.session)
        if block.goes_on:
            if block.session not in self.waiting:
                return []
            self.waiting.discard(block.session)
            return self.answers(session, as_text)
        before = self.waiters()
        session.send(wire.message(b"Q", block.sql.encode() + b"\0"))
        if block.waits and self.comes_to_wait(session, before):
            self.waiting.add(block.session)
            return [("waits", "")]
        return self.answers(session, as_text, block.data)

    def waiters(self):
        """How many statements have had to wait so far, or wait now: what rises when one more does."""
        ((count,),) = self.session("watcher").query(self.count_of_waiters)
        return int(count)

    def comes_to_wait(self, session, before):
        """Whether a statement that was sent has to wait; not if it is answered."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            if session.buffer or select.select([session.socket], [], [], 0.01)[0]:
                return False
            if self.waiters() > before:
                return True
        raise TimeoutError(f"{self.name} neither answers nor waits for a lock")

    def extended(self, block, parameters, binary):
        session = self.session(block.session)
        values = [None if value is None else value.encode() for value in parameters]
        session.send(
            wire.message(b"P", b"\0" + block.sql.encode() + b"\0\0\0")
            + wire.message(b"D", b"S\0")
            + wire.message(b"B", wire.bind(values, results=[1] if binary else []))
            + wire.message(b"E", b"\0" + struct.pack("!I", 0))
            + wire.message(b"S")
        )
        return self.answers(session, as_hex if binary else as_text, block.data)


def comparable(answers, ordered):
    """Rows between other answers in a fixed order, unless the statement has one."""
    if ordered:
        return answers
    out, rows = [], []
    for answer in [*answers, ("end", "")]:
        if answer[0] in ("row", "copy"):
            rows.append(answer)
            continue
        out.extend(sorted(rows))
        rows = []
        out.append(answer)
    return out


def is_query(sql):
    return re.match(r"\s*(select|values|with|table)\b", sql, re.IGNORECASE) and not re.search(
        r"\b(insert|update|delete|random|clock_timestamp|gen_random_uuid|set_config)\b", sql, re.IGNORECASE
    )


def compare(block, scry, postgres):
    """Pairs of differing answers, each a list of lines, with the way they were asked for."""
    ways = []
    if block.parameters:
        for parameters in block.parameters:
            ways.append((f"params {parameters}", lambda s, p=parameters: s.extended(block, p, False)))
    else:
        ways.append(("", lambda s: s.simple(block)))
        if is_query(block.sql) and not (block.waits or block.goes_on) and ";" not in block.sql.strip().rstrip(";"):
            ways.append(("binary", lambda s: s.extended(block, [], True)))
    ordered = re.search(r"\border\s+by\b", block.sql, re.IGNORECASE)
    found = []
    for way, ask in ways:
        ours, theirs = comparable(ask(scry), ordered), comparable(ask(postgres), ordered)
        if ours != theirs:
            found.append((way, ours, theirs))
            # What differs as text differs in binary, too.
            break
    return found


def shown(ours, theirs):
    """The lines that differ, `-` for scry's and `+` for PostgreSQL's."""
    lines = []
    common = 0
    while common < min(len(ours), len(theirs)) and ours[common] == theirs[common]:
        common += 1
    back = 0
    while back < min(len(ours), len(theirs)) - common and ours[-1 - back] == theirs[-1 - back]:
        back += 1
    for sign, answers in (("scry", ours), ("pg  ", theirs)):
        for kind, text in answers[common : len(answers) - back][:12]:
            for line in text.split("\n"):
                lines.append(f"{sign} {kind}: {line}")
    return lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--scry", type=int, required=True)
    parser.add_argument("--postgres", type=int, required=True)
    parser.add_argument("--differences")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    known = set()
    if options.differences:
        with open(options.differences, encoding="utf-8") as file:
            known = set(re.findall(r"^- \*\*(\S+)\*\*", file.read(), re.MULTILINE))
    scry = Server("scry", options.scry, "scry", "select value from scry_stat_engine where name = 'lock_waits'")
    postgres = Server("postgres", options.postgres, "postgres", "select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
    failed = False
    passed_over = {}
    for path in options.files:
        name = path.rsplit("/", 1)[-1]
        if why := script_passed_over(path):
            passed_over.setdefault(why, []).append(name)
            continue
        counts = {"same": 0, "expected": 0, "different": 0, "own": 0}
        blocks, left = read(path), 0
        for at, block in enumerate(blocks):
            where = f"{name}:{block.line}"
            if block.differs and block.differs not in known:
                print(f"FAIL - {where}: the difference {block.differs} is not explained")
                failed = True
            if is_scrys_own(block.sql):
                for server in (scry, postgres):
                    server.simple(block)
                counts["own"] += 1
                continue
            undone = block.way == "undone"
            if undone:
                for server in (scry, postgres):
                    server.session(block.session).query("begin")
            found = compare(block, scry, postgres)
            if undone:
                for server in (scry, postgres):
                    server.session(block.session).query("rollback")
            if bool(found) == bool(block.differs):
                counts["expected" if found else "same"] += 1
                if block.way == "ends":
                    left = len(blocks) - at - 1
                    break
                continue
            counts["different"] += 1
            failed = True
            if not found:
                print(f"FAIL - {where}: does not differ any more ({block.differs}): {block.sql.strip()}")
            for way, ours, theirs in found:
                print(f"FAIL - {where}: {way + ': ' if way else ''}{block.sql.strip()}")
                for line in shown(ours, theirs):
                    print(f"    {line}")
        for server in (scry, postgres):
            server.end_file()
        state = "not ok" if counts["different"] else "ok"
        print(f"{state} - {name}: {counts['same']} the same, {counts['expected']} differ as expected, {counts['different']} differ" + (f", {counts['own']} of scry's own" if counts["own"] else "") + (f", {left} passed over" if left else ""))
        sys.stdout.flush()
    for why, names in passed_over.items():
        print(f"passed over - {len(names)} scripts, each of which {why}: {' '.join(names)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
