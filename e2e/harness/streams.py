"""PostgreSQL's protocol by hand for very many clients at once, in one thread."""

import asyncio
import struct

from .wire import cancel_request, query, startup


class WireStream:
    """A client that is logged in."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._port, self._reader, self._writer = port, reader, writer
        self._key = b""

    @classmethod
    async def log_in(cls, port: int, user: str = "trusted", database: str = "shop") -> "WireStream":
        """Log in where nobody asks for a password."""
        stream = cls(port, *await asyncio.open_connection("127.0.0.1", port))
        stream.send(startup(user, database))
        await stream.answer()
        return stream

    @property
    def pid(self) -> int:
        """The number that the login told."""
        return int(struct.unpack(">I", self._key[:4])[0])

    def send(self, messages: bytes) -> None:
        """Send without waiting for anything."""
        self._writer.write(messages)

    async def answer(self) -> list[tuple[bytes, bytes]]:
        """All messages up to ReadyForQuery."""
        told = []
        while not told or told[-1][0] != b"Z":
            head = await self._reader.readexactly(5)
            told.append((head[:1], await self._reader.readexactly(struct.unpack(">I", head[1:])[0] - 4)))
            if head[:1] == b"K":
                self._key = told[-1][1]
        return told

    async def rows(self, sql: str) -> list[list[str]]:
        """The rows of a simple query, as text."""
        self.send(query(sql))
        return [_cells(body) for tag, body in await self.answer() if tag == b"D"]

    async def cancel(self) -> None:
        """Ask for what runs to be cancelled; returns when the request has been taken."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(cancel_request(self._key))
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async def close(self) -> None:
        """Close without a word."""
        self._writer.close()
        await self._writer.wait_closed()


def error_of(told: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """The fields of the error among these messages; empty where there is none."""
    for tag, body in told:
        if tag == b"E":
            return {field[:1].decode(): field[1:].decode() for field in body.split(b"\0") if field}
    return {}


def _cells(body: bytes) -> list[str]:
    (count,), at, cells = struct.unpack(">H", body[:2]), 2, []
    for _ in range(count):
        (length,) = struct.unpack(">i", body[at : at + 4])
        cells.append(body[at + 4 : at + 4 + max(length, 0)].decode())
        at += 4 + max(length, 0)
    return cells
