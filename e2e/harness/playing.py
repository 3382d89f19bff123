"""Scripts of messages, played to a server or to the proxy, and everything that comes back."""

from collections.abc import Sequence
from dataclasses import dataclass

from .messages import SYNC
from .wire import Wire, query


@dataclass(frozen=True)
class Step:
    """Send, then read up to this message, so many times."""

    send: bytes
    until: bytes = b"Z"
    times: int = 1


def ask(*parts: bytes) -> Step:
    """Messages that end in Sync."""
    return Step(b"".join(parts) + SYNC)


def say(*statements: str) -> list[Step]:
    """Simple queries, one after the other."""
    return [Step(query(sql)) for sql in statements]


# The servers are on this machine.
_PATIENCE_SECONDS = 5


def played(port: int, steps: Sequence[Step]) -> list[tuple[str, str]]:
    """All messages that come back, as text."""
    told = []
    # What hangs is told as such, soon.
    with Wire(port) as wire:
        wire.socket.settimeout(_PATIENCE_SECONDS)
        wire.log_in()
        for step in steps:
            wire.send(step.send)
            left = step.times
            while left:
                try:
                    tag, body = wire.receive()
                except TimeoutError:
                    return [*told, ("", "no answer")]
                told.append((tag.decode(), shown(tag, body)))
                left -= tag == step.until
                if not tag:
                    return told
    return told


def shown(tag: bytes, body: bytes) -> str:
    """A message without what differs from run to run: object ids of tables, and lines of PostgreSQL's sources."""
    if tag in (b"E", b"N"):
        fields = [field for field in body.split(b"\0") if field and field[:1] not in b"FLR"]
        return " ".join(field.decode() for field in fields)
    return "" if tag == b"T" and b"a\0" in body else body.decode("latin-1").replace("\0", "|")
