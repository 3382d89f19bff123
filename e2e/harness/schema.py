"""What the lab's database `shop` holds, and the rows that tests write and read."""

from dataclasses import dataclass
from typing import Any, Protocol

# `sly_bump` claims to be STABLE and writes all the same; PostgreSQL notices only when the inner function does it.
SCHEMA = """
SET ROLE app;
CREATE TABLE counter (id int PRIMARY KEY, v int NOT NULL);
CREATE TABLE bulk (id int, text text);
CREATE SEQUENCE ticket;
CREATE FUNCTION bump(key int) RETURNS int LANGUAGE sql VOLATILE
    AS 'UPDATE counter SET v = v + 1 WHERE id = key RETURNING v';
CREATE FUNCTION sly_bump(key int) RETURNS int LANGUAGE plpgsql STABLE
    AS 'BEGIN RETURN bump(key); END';
CREATE FUNCTION peek(key int) RETURNS int LANGUAGE sql STABLE
    AS 'SELECT v FROM counter WHERE id = key';
CREATE FUNCTION say(message text) RETURNS text LANGUAGE plpgsql STABLE
    AS 'BEGIN RAISE NOTICE ''%'', message; RETURN message; END';
"""


class Asked(Protocol):
    """A connection of any driver, or a server that is asked directly."""

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""


@dataclass(frozen=True)
class Row:
    """One row of `counter` that nobody else uses. It begins at 0, on all servers."""

    id: int

    def write(self, where: Asked, value: int) -> None:
        """Set the value."""
        where.rows("UPDATE counter SET v = %s WHERE id = %s", value, self.id)

    def read(self, where: Asked) -> int:
        """Read the value."""
        return int(where.rows("SELECT v FROM counter WHERE id = %s", self.id)[0][0])

    def read_strongly(self, where: Asked) -> int:
        """Read the value as it is now, by a hint for this one statement."""
        hinted = "/* highwater.consistency='strong' */ SELECT v FROM counter WHERE id = %s"
        return int(where.rows(hinted, self.id)[0][0])
