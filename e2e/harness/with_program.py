"""The adapter for drivers of other languages: a small program of ours speaks to the driver, and we to it in JSON."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .connection import Connection, SqlError, Target, numbered
from .lab import REPOSITORY, binary


class Program(Connection):
    """A driver in a process of its own."""

    def __init__(
        self, target: Target, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        pipe = subprocess.PIPE
        environment = {**os.environ, **(environment or {})}
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        try:
            self._ask(vars(target) | {"options": target.options})
        except SqlError:
            self.close()
            raise

    def _ask(self, question: dict[str, Any]) -> list[tuple[Any, ...]]:
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(question), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        self.notices += answer["notices"]
        if error := answer.get("error"):
            raise SqlError(error["sqlstate"], error["message"], error["detail"] or "")
        return [tuple(row) for row in answer["rows"]]

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return self._ask({"sql": numbered(sql, params), "params": params})

    def run(self, sql: str, *params: Any) -> None:
        # Without parameters this is the simple protocol, which `query` never uses.
        if params:
            self.rows(sql, *params)
        else:
            self._ask({"sql": sql})

    def close(self) -> None:
        # The end of its input ends it.
        self._process.communicate(timeout=15)


def tokio_postgres(target: Target) -> Program:
    """tokio-postgres, which shares no code with libpq."""
    return Program(target, [binary().parent / "examples" / "with_tokio_postgres"])


def sqlx(target: Target) -> Program:
    """sqlx, which keeps the last hundred statements prepared and tells nobody of notices."""
    return Program(target, [binary().parent / "examples" / "with_sqlx"])


def node_postgres(target: Target) -> Program:
    """node-postgres with statements that it prepares once and keeps."""
    modules = REPOSITORY / "target" / "node" / "node_modules"
    return Program(target, ["node", REPOSITORY / "e2e" / "node" / "with_node_postgres.js"], {"NODE_PATH": str(modules)})
