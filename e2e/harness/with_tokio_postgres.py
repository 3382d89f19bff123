"""The adapter for tokio-postgres, which shares no code with libpq: a small program of ours speaks to it in JSON."""

import json
import subprocess
from typing import Any

from .connection import Connection, SqlError, Target, numbered
from .lab import binary


class TokioPostgres(Connection):
    """tokio-postgres in a process of its own."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        program = binary().parent / "examples" / "with_tokio_postgres"
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
