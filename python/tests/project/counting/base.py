"""The engine: its driver's cursors are of a class of its own, which sees what runs, and so are Django's around them."""

from collections import Counter
from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.utils import CursorWrapper

counts: Counter[str] = Counter()
texts: list[str] = []


def counting(cursor_class: type) -> type:
    """The same, and counts."""

    class Counting(cursor_class):  # type: ignore[misc]
        def execute(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
            counts["execute"] += 1
            texts.append(str(statement))
            return super().execute(statement, *args, **kwargs)

        def executemany(self, *args: Any, **kwargs: Any) -> Any:
            counts["executemany"] += 1
            return super().executemany(*args, **kwargs)

    return Counting


class Wrapper(CursorWrapper):
    """Django's."""

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Count, and go on."""
        counts["django"] += 1
        return super().execute(*args, **kwargs)


class DatabaseWrapper(base.DatabaseWrapper):
    """Counts."""

    def get_new_connection(self, *args: Any, **kwargs: Any) -> Any:
        """With the class of its cursors."""
        counts["connections"] += 1
        connection = super().get_new_connection(*args, **kwargs)
        own = connection.cursor_factory or self.Database.extensions.cursor
        connection.cursor_factory = counting(own)
        return connection

    def create_cursor(self, name: str | None = None) -> Any:
        """Of that class."""
        counts["cursors"] += 1
        return super().create_cursor(name)

    def make_cursor(self, cursor: Any) -> Any:
        """Django's around it."""
        return Wrapper(cursor, self)
