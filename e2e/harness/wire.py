"""PostgreSQL's protocol by hand, for clients that misbehave."""

import socket
import struct
from types import TracebackType
from typing import Self

PROTOCOL_3_0 = 196608
SSL_REQUEST = struct.pack(">II", 8, 80877103)
GSS_REQUEST = struct.pack(">II", 8, 80877104)
CANCEL_CODE = 80877102


def startup(user: str, database: str, version: int = PROTOCOL_3_0, settings: dict[str, str] | None = None) -> bytes:
    """A startup packet."""
    pairs = ["user", user, "database", database, *(text for pair in (settings or {}).items() for text in pair)]
    body = struct.pack(">I", version) + b"".join(text.encode() + b"\0" for text in pairs) + b"\0"
    return struct.pack(">I", len(body) + 4) + body


def cancel_request(key: bytes) -> bytes:
    """A cancel request with what BackendKeyData told: a process and its key."""
    return struct.pack(">II", 8 + len(key), CANCEL_CODE) + key


def message(tag: bytes, body: bytes) -> bytes:
    """A message with its tag and length."""
    return tag + struct.pack(">I", len(body) + 4) + body


def query(sql: str) -> bytes:
    """A simple query."""
    return message(b"Q", sql.encode() + b"\0")


class Wire:
    """A TCP connection on which anything can be said."""

    def __init__(self, port: int, receive_buffer_bytes: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def receive(self) -> tuple[bytes, bytes]:
        """The next message: its tag and its body; an empty tag when the other side has closed."""
        try:
            head = self._stream.read(5)
        except ConnectionResetError:
            head = b""
        if len(head) < 5:
            return b"", b""
        return head[:1], self._stream.read(struct.unpack(">I", head[1:])[0] - 4)

    def rest(self) -> bytes:
        """All bytes up to the end."""
        return self._stream.read()

    def until(self, *tags: bytes) -> bytes:
        """Skip messages up to one of these tags and return its body; the end of the connection is the tag `b""`."""
        while True:
            tag, body = self.receive()
            if tag in tags:
                return body
            assert tag, f"closed while waiting for {tags}"

    def complaint(self) -> dict[str, str]:
        """The fields of the next error: `C` SQLSTATE, `M` message, `S` severity; empty when closed without one."""
        body = self.until(b"E", b"")
        return {field[:1].decode(): field[1:].decode() for field in body.split(b"\0") if field}

    def is_closed(self) -> bool:
        """Read on until the other side closes; the connection's timeout ends the patience."""
        self.until(b"")
        return True

    def vanish(self) -> None:
        """Be gone as a process is that was killed while its network lived: the other side gets a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stream.close()
        self.socket.close()

    def fall_silent(self) -> None:
        """Say that nothing will follow, and do not take what is still said."""
        self.socket.shutdown(socket.SHUT_WR)

    def log_in(self, user: str = "trusted", database: str = "shop") -> bytes:
        """Log in where nobody asks for a password; what BackendKeyData tells: a process and its key."""
        self.send(startup(user, database))
        key = self.until(b"K")
        self.until(b"Z")
        return key
