"""The engine: before what a cursor runs it sets the schema of the tenant that was chosen last."""

from typing import Any

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Sets it whenever a cursor is made, or where the tenant has changed alone."""

    is_set_each_time = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.schema = "public"
        self._set: str | None = None

    def choose(self, schema: str) -> None:
        """For the statements that follow."""
        self.schema = schema

    def close(self) -> None:
        """A new connection begins with the default."""
        self._set = None
        super().close()

    def _cursor(self, name: str | None = None) -> Any:
        cursor = super()._cursor(name)
        if self.is_set_each_time or self._set != self.schema:
            # A named cursor runs one statement and no other.
            own = self.connection.cursor() if name else cursor
            own.execute(f"SET search_path = '{self.schema}', 'public'")
            self._set = self.schema
            if name:
                own.close()
        return cursor
