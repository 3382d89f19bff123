"""What clients send, message by message."""

import struct

from .wire import message

SYNC, FLUSH = message(b"S", b""), message(b"H", b"")
COPY_DONE = message(b"c", b"")


def text(*words: str) -> bytes:
    """Words, each with its end."""
    return b"".join(word.encode() + b"\0" for word in words)


def parse(sql: str, name: str = "") -> bytes:
    """Parse, all types left to the server."""
    return message(b"P", text(name, sql) + b"\0\0")


def bind(*values: str, name: str = "", portal: str = "") -> bytes:
    """Bind, everything as text."""
    body = b"".join(struct.pack(">I", len(value)) + value.encode() for value in values)
    return message(b"B", text(portal, name) + b"\0\0" + struct.pack(">H", len(values)) + body + b"\0\0")


def describe(kind: str = "P", name: str = "") -> bytes:
    """Describe a portal, or a statement: S."""
    return message(b"D", kind.encode() + text(name))


def execute(rows: int = 0, portal: str = "") -> bytes:
    """Execute, up to so many rows."""
    return message(b"E", text(portal) + struct.pack(">I", rows))


def close(kind: str, name: str) -> bytes:
    """Close a portal or a statement."""
    return message(b"C", kind.encode() + text(name))


def run(sql: str, *values: str) -> bytes:
    """An unnamed statement from Parse to Execute."""
    return parse(sql) + bind(*values) + describe() + execute()


def function_call(number: int, *arguments: bytes | None, binary: bool = False) -> bytes:
    """A call by the function-call protocol; `None` is NULL, and the result has the arguments' format."""
    values = b"".join(
        b"\xff" * 4 if argument is None else struct.pack(">I", len(argument)) + argument for argument in arguments
    )
    head = struct.pack(">IHHH", number, 1, binary, len(arguments))
    return message(b"F", head + values + struct.pack(">H", binary))


def copy_data(text: str) -> bytes:
    """Some COPY data."""
    return message(b"d", text.encode())
