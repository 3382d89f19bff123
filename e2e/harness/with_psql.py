"""The adapter for psql: one process per connection, spoken to over its standard streams."""

import os
import re
import subprocess
from contextlib import suppress
from typing import IO, Any

from .connection import Connection, SqlError, Target

_FIELD = "\x1f"
_NULL = "\x1e"
_END = "-- end --"


class Psql(Connection):
    """psql, not interactive."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        command = ["psql", "-XAtq", "-F", _FIELD, "-P", f"null={_NULL}", "-v", "VERBOSITY=verbose"]
        command += ["-h", "127.0.0.1", "-p", str(target.port), "-U", target.user, "-d", target.database]
        environment = os.environ | {"PGPASSWORD": target.password, "PGOPTIONS": target.options}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
        try:
            self.rows("")
        except SqlError:
            self.close()
            raise

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        text = sql % tuple(map(_literal, params)) if params else sql
        statement = f"{text};" if text else ""
        # A psql that is gone has said why; that is read below.
        with suppress(BrokenPipeError):
            marks = (rf"\echo {_END}:SQLSTATE", rf"\warn {_END}")
            print(statement, *marks, sep="\n", file=self._process.stdin, flush=True)
        answer, sqlstate = _until_end(self._process.stdout)
        complaints, ended = _until_end(self._process.stderr)
        self.notices += [match[1] for line in complaints if (match := re.match(r"(?:WARNING|NOTICE):  (.*)", line))]
        self.notices = [re.sub(r"^(\w{5}): ", r"\1 ", notice) for notice in self.notices]
        if ended is None or sqlstate not in ("00000", ":SQLSTATE"):
            raise SqlError(sqlstate or "08006", "\n".join(complaints), _detail(complaints))
        return [tuple(map(_value, line.split(_FIELD))) for line in answer]

    def close(self) -> None:
        # The end of its input ends psql.
        self._process.communicate(timeout=15)


def _until_end(stream: IO[str] | None) -> tuple[list[str], str | None]:
    """The lines before the end mark and what the mark says; None when psql went away."""
    assert stream
    lines: list[str] = []
    for line in stream:
        if line.startswith(_END):
            return lines, line[len(_END) :].strip()
        lines.append(line.removesuffix("\n"))
    return lines, None


def _detail(complaints: list[str]) -> str:
    return next((line.removeprefix("DETAIL:  ") for line in complaints if line.startswith("DETAIL:")), "")


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _value(text: str) -> Any:
    if text == _NULL:
        return None
    return int(text) if re.fullmatch(r"-?\d+", text) else text
