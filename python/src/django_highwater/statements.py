"""What the text of a statement says by its first word. Highwater knows better, by PostgreSQL's grammar; this decides no
route, only whether a request has to remember its position."""

from __future__ import annotations

import re

_LEADING = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*(\w*)", re.DOTALL)
_WRITES_WITHIN = re.compile(r"\b(?:insert|update|delete|merge|into)\b", re.IGNORECASE)
_COPIES_IN = re.compile(r"\bfrom\s+(?:stdin\b|program\b|')", re.IGNORECASE)
_READS = frozenset(
    ["select", "values", "table", "show", "explain", "declare", "fetch", "move", "close", "listen", "unlisten"]
    + ["begin", "start", "commit", "end", "abort", "rollback", "savepoint", "release", "set", "reset", "discard"]
)
# One statement: what stands behind a semicolon may write.
_SETS = re.compile(r"\s*(?:set|reset|show)\b[^;]*;?\s*", re.IGNORECASE)
_FORGETS = re.compile(r"\s*(?:reset|discard)\s+all\b", re.IGNORECASE)
_BACK_TO = re.compile(r"\s*rollback\s+(?:(?:work|transaction)\s+)?to\b", re.IGNORECASE)


def may_write(statement: object) -> bool:
    """Whether a statement may change something, as far as its own words say; what is not understood may."""
    if not isinstance(statement, str):
        return True
    if statement.startswith("SELECT "):
        return False
    first = _LEADING.match(statement)
    word = first[1].lower() if first else ""
    if word in ("with", "copy"):
        return bool(_WRITES_WITHIN.search(statement) or _COPIES_IN.search(statement))
    return word not in _READS


def is_statement(statement: object) -> bool:
    """Whether it is text that begins with a statement, and is not empty, or a comment."""
    return isinstance(statement, str) and statement.lstrip()[:1] not in ("", "-", "/", ";")


def only_sets(statement: object) -> bool:
    """Whether it changes settings alone, or shows one: it runs on the primary, and writes nothing."""
    return isinstance(statement, str) and bool(_SETS.fullmatch(statement))


def forgets(statement: object) -> bool:
    """Whether it sets everything back that the connection has been told."""
    return isinstance(statement, str) and bool(_FORGETS.match(statement))


def goes_back(statement: object) -> bool:
    """Whether it is a ROLLBACK TO SAVEPOINT, which undoes settings as well."""
    return isinstance(statement, str) and bool(_BACK_TO.match(statement))
