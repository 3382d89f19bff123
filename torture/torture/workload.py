"""What clients do: each keeps one line of operations, and writes down what it did, saw and was told.

Every worker has two counters of its own that only grow. A read sees all counters of all workers at once.
"""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized, SynchronizedArray
from pathlib import Path
from typing import Any, TextIO

from .clients import Address, Article, Broken, Extended, Link, Refused, Simple

SCHEMA = """
SET ROLE app;
CREATE TABLE counter (id int PRIMARY KEY, v bigint NOT NULL);
CREATE TABLE list (id int PRIMARY KEY, items bigint[] NOT NULL);
"""

_READ = "SELECT array_agg(v ORDER BY id) FROM counter"
_STRONG = "/* highwater.consistency='strong' */ "
_WRITE = "UPDATE counter SET v = $1 WHERE id = $2 AND v < $1"
_LIST = "SELECT items FROM list WHERE id = $1"
_APPEND = (
    "INSERT INTO list VALUES ($1, ARRAY[$2::bigint]) ON CONFLICT (id) DO UPDATE SET items = list.items || $2::bigint"
)
# Each list takes so many, then the next one is begun: reading long ones would be all that is done.
_LIST_LENGTH = 60


@dataclass(frozen=True)
class Plan:
    """What all workers share."""

    seed: int
    workers: int
    folder: Path
    # The proxies' ports; for a control run the servers', the primary first.
    ports: tuple[int, ...]
    control: bool


@dataclass
class Shared:
    """What tells workers how things are."""

    operations: Synchronized  # type: ignore[type-arg]
    reads: Synchronized  # type: ignore[type-arg]
    stop: Any
    # How often each proxy has been started: sessions that only it knew end with it.
    starts: SynchronizedArray  # type: ignore[type-arg]


@dataclass
class Worker:
    """One line of operations."""

    number: int
    plan: Plan
    shared: Shared
    out: TextIO
    dice: random.Random
    serial: "itertools.count[int]" = field(default_factory=itertools.count)
    link: Link | None = None
    proxy: int = 0
    session: str = ""
    values: list[int] = field(default_factory=lambda: [0, 0])
    tokens: list[tuple[int, str]] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """How its sessions are told apart: by connection, key or token, or not at all."""
        return ("anonymous", "keyed", "token", "strong")[self.number % 4]

    async def live(self) -> None:
        """Requests, one after the other, until it is told to stop."""
        while not self.shared.stop.is_set():
            try:
                await self._connect()
                for _ in range(self.dice.randint(1, 12)):
                    await self._something()
                if self.kind == "token":
                    await self._save()
                self._leave(self.dice.random() < 0.05)
            except Refused:
                await self._abandon()
            except Broken:
                self._leave(True)
                await asyncio.sleep(0.02)
        self._leave(True)

    async def _connect(self) -> None:
        """Take the connection that is there, or another one; whose session goes on, is said."""
        if self.link is not None and (self.kind != "token" or self.dice.random() < 0.5):
            await self._continue()
            return
        self._leave(True)
        self.proxy = self.dice.randrange(len(self.plan.ports)) if not self.plan.control else 0
        start = self.shared.starts[self.proxy]
        settings = {"highwater.consistency": "strong" if self.kind == "strong" else "session"}
        if self.number % 5 == 0:
            settings["synchronous_commit"] = "remote_apply"
        if self.kind == "keyed":
            self.session = f"{self.number}/{self.proxy}/{start}"
            settings["highwater.session"] = self.session
        elif self.kind != "token" or not self.tokens:
            self.session = f"{self.number}#{next(self.serial)}"
        self.link = await self._open(settings)
        if self.shared.starts[self.proxy] != start:
            raise Broken("the proxy was started anew meanwhile")
        await self._continue()

    async def _open(self, settings: dict[str, str]) -> Link:
        if self.plan.control:
            opened = [await Extended.open(Address(port)) for port in self.plan.ports]
            return Article(opened, self.dice.choice)
        driver = Simple if self.number % 3 == 0 else Extended
        return await driver.open(Address(self.plan.ports[self.proxy], settings))

    async def _continue(self) -> None:
        """A session by token begins anew on the connection, and is given its past."""
        if self.kind != "token" or self.plan.control or not self.tokens:
            return
        token, text = self.dice.choice(self.tokens[-3:]) if self.dice.random() < 0.1 else self.tokens[-1]
        assert self.link is not None
        await self.link.run("SET highwater.session = ''")
        await self.link.run(f"SET highwater.token = '{text}'")
        extra = {"refused": True} if self.link.refused else {}
        self.link.refused = False
        self._note({"op": "resume", "token": token, **extra})

    async def _save(self) -> None:
        assert self.link is not None
        began = time.monotonic_ns()
        text = await self.link.value("SHOW highwater.token")
        if text:
            self.tokens = [*self.tokens[-3:], (next(self.serial), text)]
            self._note({"op": "save", "token": self.tokens[-1][0]}, began)

    async def _something(self) -> None:
        weights: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (55, self._read),
            (8, self._read_strongly),
            (14, self._write),
            (6, self._transaction),
            (5, self._read_only),
            (4, self._append),
            (8, self._read_list),
        ]
        (action,) = self.dice.choices([it for _, it in weights], [weight for weight, _ in weights])
        await action()

    async def _read(self) -> None:
        await self._see(_READ, self.kind == "strong")

    async def _read_strongly(self) -> None:
        await self._see(_STRONG + _READ, True)

    async def _see(self, sql: str, strong: bool) -> None:
        began, vector = await self._try("read", sql)
        extra = {"strong": True} if strong else {}
        self._note({"op": "read", "vector": vector, **extra}, began)
        with self.shared.reads.get_lock():
            self.shared.reads.value += 1

    async def _write(self) -> None:
        which = self.dice.randrange(2)
        self.values[which] += 1
        counter, value = 2 * self.number + which, self.values[which]
        await self._change({"op": "write", "counter": counter, "value": value}, _WRITE, value, counter)

    async def _append(self) -> None:
        item = self.number + self.plan.workers * next(self.serial)
        key = self._list_key()
        await self._change({"op": "append", "key": key, "item": item}, _APPEND, key, item)

    def _list_key(self) -> int:
        """Lists that are written now; time moves on to the next ones."""
        return int(self.shared.operations.value / (_LIST_LENGTH * 40)) * 4 + self.dice.randrange(4)

    async def _read_list(self) -> None:
        key = self._list_key()
        began, items = await self._try("list", _LIST, key)
        self._note({"op": "list", "key": key, "items": items or []}, began)

    async def _change(self, event: dict[str, Any], sql: str, *params: Any) -> None:
        assert self.link is not None
        began = time.monotonic_ns()
        try:
            await self.link.run(sql, *params)
        except (Refused, Broken) as failure:
            outcome = "failed" if isinstance(failure, Refused) else "unknown"
            self._note({**event, "outcome": outcome, "why": str(failure)}, began)
            raise
        self._note({**event, "outcome": "ok"}, began)

    async def _transaction(self) -> None:
        """Read, then write what was based on it; seldom in vain."""
        assert self.link is not None
        await self.link.run("BEGIN")
        began, vector = await self._try("read", _READ)
        self._note({"op": "read", "vector": vector}, began)
        which = self.dice.randrange(2)
        self.values[which] += 1
        counter, value = 2 * self.number + which, self.values[which]
        event = {"op": "write", "counter": counter, "value": value}
        began = time.monotonic_ns()
        commits = self.dice.random() < 0.9
        try:
            await self.link.run(_WRITE, value, counter)
            await self.link.run("COMMIT" if commits else "ROLLBACK")
        except (Refused, Broken) as failure:
            outcome = "failed" if isinstance(failure, Refused) or not commits else "unknown"
            self._note({**event, "outcome": outcome, "why": str(failure)}, began)
            raise
        self._note({**event, "outcome": "ok" if commits else "failed"}, began)

    async def _read_only(self) -> None:
        assert self.link is not None
        await self.link.run("BEGIN READ ONLY")
        for _ in range(2):
            began, vector = await self._try("read", _READ)
            self._note({"op": "read", "vector": vector}, began)
        await self.link.run("COMMIT")

    async def _try(self, what: str, sql: str, *params: Any) -> tuple[int, Any]:
        """Read something; a failure is written down for its duration and for what it told."""
        assert self.link is not None
        began = time.monotonic_ns()
        try:
            return began, await self.link.value(sql, *params)
        except (Refused, Broken) as failure:
            outcome = "failed" if isinstance(failure, Refused) else "unknown"
            self._note({"op": "broken", "what": what, "outcome": outcome, "why": str(failure)}, began)
            raise

    async def _abandon(self) -> None:
        """A statement was refused: the transaction that it may have stood in ends."""
        try:
            if self.link is not None:
                await self.link.run("ROLLBACK")
        except (Refused, Broken):
            self._leave(True)

    def _leave(self, cut: bool) -> None:
        """The request is over. Without its connection an anonymous session ends."""
        if cut and self.link is not None:
            self.link.drop()
            self.link = None

    def _note(self, event: dict[str, Any], began: int | None = None) -> None:
        now = time.monotonic_ns()
        if self.link is not None and self.link.told:
            self.link.told = False
            event["told"] = True
        record = {"session": self.session, "begin": began or now, "end": now, **event}
        self.out.write(json.dumps(record, separators=(",", ":")) + "\n")
        with self.shared.operations.get_lock():
            self.shared.operations.value += 1


def work(numbers: list[int], plan: Plan, shared: Shared) -> None:
    """Be these workers, in a process of their own."""
    with (plan.folder / f"history-{numbers[0]}.jsonl").open("w") as out:
        dice = {number: random.Random(f"{plan.seed}/{number}") for number in numbers}
        workers = [Worker(number, plan, shared, out, dice[number]) for number in numbers]

        async def everybody() -> None:
            await asyncio.gather(*(worker.live() for worker in workers))

        asyncio.run(everybody())
