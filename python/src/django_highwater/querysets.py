"""A level for one queryset, or for all that a manager hands out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from django.db import models
from django.db.models import sql

from .levels import Level, Wish, asked

if TYPE_CHECKING:
    from django.db.models.sql.compiler import SQLCompiler

_M = TypeVar("_M", bound=models.Model, covariant=True)


class _Query(sql.Query):
    """A query that is run within a block of its level, whoever runs it: iteration, count(), exists(), aggregates."""

    highwater_wish: Wish | None = None

    def _block(self) -> AbstractContextManager[None]:
        return asked(self.highwater_wish) if self.highwater_wish else nullcontext()

    def get_compiler(self, *args: Any, **kwargs: Any) -> SQLCompiler:
        """The compiler as it is, but for the moment in which it talks to the database."""
        compiler: Any = super().get_compiler(*args, **kwargs)
        run: Callable[..., Any] = compiler.execute_sql

        def execute_sql(*args: Any, **kwargs: Any) -> Any:
            with self._block():
                return run(*args, **kwargs)

        compiler.execute_sql = execute_sql
        return compiler  # type: ignore[no-any-return]

    def get_aggregation(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Aggregates may be computed by another query around this one."""
        with self._block():
            return super().get_aggregation(*args, **kwargs)


class ConsistencyQuerySet(models.QuerySet[_M, _M]):
    """A queryset that can be asked for a level."""

    def consistency(self, level: Level, *, max_lag: float | None = None) -> Self:
        """The same rows, read at `level`, within whatever block; `max_lag` as for `django_highwater.consistency`.

        It is this queryset's statement alone that is meant; what is prefetched for it is read at the levels of its own.
        Raises `ValueError` for a level that does not exist.
        """
        queryset = self.all()
        query: Any = queryset.query.chain(_Query)
        query.highwater_wish = Wish(level, max_lag)
        queryset.query = query
        return queryset


class ConsistencyManager(models.Manager.from_queryset(ConsistencyQuerySet)):  # type: ignore[misc]
    """A manager whose querysets can be asked for a level, and which may ask for one itself.

    `objects = ConsistencyManager.at("strong")`. On a proxy model that is the level of whoever reads by the proxy model,
    while the table's other readers keep theirs. Relations use it where they go by the model's default manager.
    """

    level: Level | None = None
    max_lag: float | None = None

    @classmethod
    def at(cls, level: Level, *, max_lag: float | None = None) -> Self:
        """A manager that asks for a level. Raises `ValueError` for a level that does not exist."""
        Wish(level, max_lag)
        # A class of its own: related managers are made from classes and not from what they were called with.
        kind = type(cls.__name__, (cls,), {"level": level, "max_lag": max_lag, "__module__": cls.__module__})
        return kind()  # type: ignore[no-any-return]

    def get_queryset(self) -> ConsistencyQuerySet[Any]:
        """All rows, at the level of this manager."""
        queryset = cast("ConsistencyQuerySet[Any]", super().get_queryset())
        return queryset.consistency(self.level, max_lag=self.max_lag) if self.level else queryset
