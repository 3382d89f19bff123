"""The adapter for psycopg 3."""

from typing import Any

import psycopg

from .connection import Connection, SqlError, Target


class Psycopg(Connection):
    """psycopg 3."""

    def __init__(self, target: Target, **options: Any) -> None:
        super().__init__()
        self._connection = psycopg.connect(
            host="127.0.0.1",
            port=target.port,
            dbname=target.database,
            user=target.user,
            password=target.password,
            options=target.options,
            autocommit=True,
            **options,
        )
        self._connection.add_notice_handler(lambda it: self.notices.append(f"{it.sqlstate} {it.message_primary}"))

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        try:
            cursor = self._connection.execute(sql, params or None)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            detail = error.diag.message_detail or ""
            raise SqlError(error.sqlstate or "08006", str(error), detail) from error

    def close(self) -> None:
        self._connection.close()
