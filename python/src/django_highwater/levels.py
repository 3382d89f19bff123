"""Which state a read may see, and for which part of the program that is said."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Literal, TypeVar, cast, get_args

Level = Literal["eventual", "bounded", "session", "strong", "primary"]
"""What a read may see, from the loosest to the strictest; README.md of Highwater says what each promises."""

LEVELS: tuple[Level, ...] = get_args(Level)

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Wish:
    """A level, and for `bounded` how many seconds a state may be old (`None`: as Highwater is configured)."""

    level: Level
    max_lag: float | None = None

    def __post_init__(self) -> None:
        """Refuse what Highwater would refuse, where the mistake is."""
        if self.level not in LEVELS:
            raise ValueError(f"no such consistency level: {self.level!r}; there are {', '.join(LEVELS)}")
        if self.max_lag is not None and (self.level != "bounded" or self.max_lag <= 0):
            raise ValueError("max_lag is a positive number of seconds, and for the level 'bounded' alone")


def stricter(one: Wish | None, other: Wish | None) -> Wish | None:
    """Whichever of the two promises more; `None` is "not said"."""
    if one is None or other is None:
        return one or other
    return one if LEVELS.index(one.level) >= LEVELS.index(other.level) else other


@dataclass(frozen=True, slots=True)
class _Said:
    """A wish, and what was said around it."""

    wish: Wish
    around: _Said | None


# A chain and not a stack that is changed: threads and tasks that started within a block keep what they were given.
_said: ContextVar[_Said | None] = ContextVar("django_highwater_consistency", default=None)


def said() -> Wish | None:
    """What the innermost block around the caller asks for."""
    innermost = _said.get()
    return innermost.wish if innermost else None


class consistency:  # noqa: N801  (reads as a statement)
    """Reads in this block see what `level` promises: a context manager, and a decorator of functions of any kind.

    The innermost block counts. `max_lag` is in seconds and goes with `bounded`. A transaction keeps the server on which
    it has begun. Works in threads and in async code; on plain PostgreSQL it does nothing.

    Raises `ValueError` for a level that does not exist.
    """

    def __init__(self, level: Level, *, max_lag: float | None = None) -> None:
        self._wish = Wish(level, max_lag)

    def __enter__(self) -> None:
        _said.set(_Said(self._wish, _said.get()))

    def __exit__(self, *_error: object) -> None:
        innermost = _said.get()
        assert innermost is not None, "blocks end in the order in which they began"
        _said.set(innermost.around)

    def __call__(self, function: _F) -> _F:
        """Decorate a function, coroutine function, generator or asynchronous generator.

        A view's response that is rendered later is rendered in the block as well.
        """
        return cast("_F", _within(self, function))


def asked(wish: Wish) -> consistency:
    """The block of a wish."""
    return consistency(wish.level, max_lag=wish.max_lag)


class primary(consistency):  # noqa: N801
    """Everything in this block runs on the primary: a context manager and a decorator, as `consistency`."""

    def __init__(self) -> None:
        super().__init__("primary")


def _within(block: consistency, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, each run of it in `block`, also where calling it only prepares the run."""
    if inspect.isasyncgenfunction(function):

        @wraps(function)
        def items(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            return _driven_async(block, function(*args, **kwargs))

        return items
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def yielded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            return _driven(block, function(*args, **kwargs))

        return yielded
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with block:
                return _with_rendering(block, await cast("Coroutine[Any, Any, Any]", function(*args, **kwargs)))

        return awaited

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with block:
            result = function(*args, **kwargs)
        # A view's dispatch is no coroutine function even where it returns a coroutine.
        return _awaited(block, result) if inspect.iscoroutine(result) else _with_rendering(block, result)

    return called


def _driven(block: consistency, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """The generator, in the block whenever it runs.

    Between two items the consumer runs, in the same context: it must not see the block.
    """
    go_on = partial(generator.send, None)
    while True:
        with block:
            try:
                item = go_on()
            except StopIteration as end:
                return end.value
        try:
            go_on = partial(generator.send, (yield item))
        except GeneratorExit:
            with block:
                generator.close()
            raise
        except BaseException as error:
            go_on = partial(generator.throw, error)


async def _driven_async(block: consistency, generator: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    go_on = partial(generator.asend, None)
    while True:
        with block:
            try:
                item = await go_on()
            except StopAsyncIteration:
                return
        try:
            go_on = partial(generator.asend, (yield item))
        except GeneratorExit:
            with block:
                await generator.aclose()
            raise
        except BaseException as error:
            go_on = partial(generator.athrow, error)


async def _awaited(block: consistency, coroutine: Coroutine[Any, Any, Any]) -> Any:
    with block:
        return _with_rendering(block, await coroutine)


def _with_rendering(block: consistency, result: Any) -> Any:
    """A template's response runs its queries when Django renders it, long after the view has returned."""
    if getattr(result, "is_rendered", True) is False:
        result.render = _within(block, result.render)
    return result
