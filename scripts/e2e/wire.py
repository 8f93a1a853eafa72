"""The PostgreSQL protocol, version 3, by hand: for tests that send what no driver would send."""

import os
import socket
import struct

HOST = os.environ.get("PGHOST", "127.0.0.1")
PORT = int(os.environ.get("PGPORT", "5433"))
DATABASE = os.environ.get("PGDATABASE", "scry")
USER = os.environ.get("PGUSER", "scry")


class Gone(Exception):
    """The server closed the connection."""


class ServerError(Exception):
    def __init__(self, fields):
        self.fields = fields
        self.state = fields.get("C", "?????")
        super().__init__(f"{fields.get('S')} {self.state}: {fields.get('M')}")


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


def text(value):
    return value.encode() + b"\0"


class Connection:
    """A socket and the messages on it."""

    def __init__(self, start=True, timeout=30, port=PORT, database=DATABASE):
        self.socket = socket.create_connection((HOST, port), timeout=timeout)
        self.buffer = b""
        if start:
            body = struct.pack("!I", 196608) + text("user") + text(USER) + text("database") + text(database) + b"\0"
            self.send(struct.pack("!I", len(body) + 4) + body)
            self.until_ready()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as caught:
            raise Gone from caught

    def exactly(self, count):
        while len(self.buffer) < count:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError as caught:
                raise Gone from caught
            if not data:
                raise Gone
            self.buffer += data
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def receive(self):
        kind = self.exactly(1)
        (length,) = struct.unpack("!I", self.exactly(4))
        return kind, self.exactly(length - 4)

    def until_ready(self):
        """Messages up to ReadyForQuery; raises the first error, after the server is ready again or has closed the connection."""
        messages, error = [], None
        while True:
            try:
                kind, body = self.receive()
            except Gone:
                raise error or Gone from None
            if kind == b"E":
                error = error or ServerError(fields(body))
            messages.append((kind, body))
            if kind == b"Z":
                self.status = body
                break
        if error:
            raise error
        return messages

    def query(self, sql):
        """Rows as lists of text, by the simple protocol."""
        self.send(message(b"Q", (sql if isinstance(sql, bytes) else sql.encode()) + b"\0"))
        return [row(body) for kind, body in self.until_ready() if kind == b"D"]

    def extended(self, sql, parameters=(), types=(), formats=()):
        """One statement by the extended protocol, with parameters as bytes."""
        self.send(
            message(b"P", b"\0" + sql.encode() + b"\0" + struct.pack("!H", len(types)) + b"".join(struct.pack("!I", t) for t in types))
            + message(b"B", bind(parameters, formats))
            + message(b"E", b"\0" + struct.pack("!I", 0))
            + message(b"S")
        )
        return [row(body) for kind, body in self.until_ready() if kind == b"D"]

    def close(self):
        self.socket.close()


def bind(parameters, formats=(), results=()):
    body = b"\0\0" + struct.pack("!H", len(formats)) + b"".join(struct.pack("!H", f) for f in formats)
    body += struct.pack("!H", len(parameters))
    for value in parameters:
        body += struct.pack("!i", -1) if value is None else struct.pack("!I", len(value)) + value
    return body + struct.pack("!H", len(results)) + b"".join(struct.pack("!H", f) for f in results)


def fields(body):
    found = {}
    while body and body[0]:
        end = body.index(b"\0", 1)
        found[chr(body[0])] = body[1:end].decode(errors="replace")
        body = body[end + 1 :]
    return found


def row(body):
    (count,) = struct.unpack("!H", body[:2])
    at, values = 2, []
    for _ in range(count):
        (length,) = struct.unpack("!i", body[at : at + 4])
        at += 4
        if length < 0:
            values.append(None)
        else:
            values.append(body[at : at + length].decode())
            at += length
    return values
