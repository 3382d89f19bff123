"""Faults, one after the other, chosen by the seed. Each leaves the cluster whole; what and when is written down."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path
from typing import Any

import psycopg

from harness.lab import Server
from harness.waiting import until

from .stage import Stage

_STREAMS = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_port = %s"


@dataclass
class Nemesis:
    """Who torments the cluster."""

    stage: Stage
    dice: random.Random
    starts: SynchronizedArray  # type: ignore[type-arg]
    events: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._weighted: list[tuple[int, Callable[[], None]]] = [
            (10, self.replay_paused),
            (6, self.replay_delayed),
            (6, self.open_transaction),
            (6, self.asynchronous_commits),
            (4, self.log_switched),
            (6, self.standby_backend_killed),
            (5, self.standby_killed),
            (5, self.standby_frozen),
            (3, self.primary_frozen),
            (6, self.synchronous_commits_hidden),
            (5, self.rows_vacuumed),
            (5, self.proxy_killed),
            (6, self.primary_killed),
            (4, self.primary_killed_with_a_lost_tail),
            (3, self.promoted_while_the_primary_lives),
            (3, self.cascade),
            (2, self.cascade_promoted),
            (2, self.both_standbys_promoted),
        ]
        if self.stage.network:
            self._weighted += [
                (6, self.standby_unreachable),
                (4, self.primary_unreachable),
                (5, self.replication_cut),
                (3, self.primary_isolated_and_replaced),
                (4, self.addresses_swapped),
            ]

    def strike(self) -> None:
        """One fault, from its beginning until all is well again."""
        (fault,) = self.dice.choices([it for _, it in self._weighted], [weight for weight, _ in self._weighted])
        self.carry_out(fault)

    def carry_out(self, fault: Callable[[], None]) -> None:
        """This fault."""
        event: dict[str, Any] = {"fault": fault.__name__, "begin": time.monotonic_ns()}
        try:
            fault()
        except (TimeoutError, RuntimeError, psycopg.Error) as failure:
            # A server may take longer than we like; what clients saw meanwhile counts all the same.
            event["trouble"] = str(failure)
        self._heal()
        self._note({**event, "end": time.monotonic_ns()})

    def _note(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        with (self.stage.folder / "faults.jsonl").open("a") as out:
            out.write(json.dumps(event) + "\n")

    # Lag

    def replay_paused(self) -> None:
        """One standby, or both, show nothing new."""
        standbys = self.stage.standbys if self.dice.random() < 0.3 else [self._standby()]
        for standby in standbys:
            standby.rows("SELECT pg_wal_replay_pause()")
        self._while(0.2, 1.5)
        for standby in standbys:
            standby.resume()

    def replay_delayed(self) -> None:
        """One standby shows everything later."""
        with self._standby().with_setting("recovery_min_apply_delay", f"{self.dice.randint(50, 500)}ms"):
            self._while(0.5, 1.5)

    def log_switched(self) -> None:
        """The log's end moves without a commit."""
        self.stage.primary.rows("SELECT pg_switch_wal()")

    # Positions that need care

    def open_transaction(self) -> None:
        """Somebody has written and does not commit: the log's end is never flushed by itself."""
        with self.stage.primary.connect() as connection:
            connection.execute("BEGIN; INSERT INTO list VALUES (-1, '{}')")
            self._while(0.3, 1.5)
            connection.execute("ROLLBACK")

    def asynchronous_commits(self) -> None:
        """Somebody commits without waiting for the disk."""
        end = time.monotonic() + self.dice.uniform(0.2, 0.8)
        with self.stage.primary.connect() as connection:
            connection.execute("SET synchronous_commit = off")
            while time.monotonic() < end:
                connection.execute("INSERT INTO list VALUES (-2, '{}') ON CONFLICT (id) DO UPDATE SET items = '{}'")

    def synchronous_commits_hidden(self) -> None:
        """Commits wait for a standby that is paused: the other one shows them before the primary does."""
        slow = self._standby()
        with self.stage.primary.with_setting("synchronous_standby_names", slow.name):
            slow.rows("SELECT pg_wal_replay_pause()")
            self._while(0.3, 1.2)
            if self.dice.random() < 0.5:
                waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                self.stage.primary.rows(waiting)
            slow.resume()

    def rows_vacuumed(self) -> None:
        """What standbys' readers still need is removed: their reads are cancelled."""
        with self._standby().with_setting("max_standby_streaming_delay", "10ms"):
            for _ in range(3):
                self.stage.primary.rows("VACUUM counter")
                self.stage.primary.rows("VACUUM FULL list")
                self._while(0.1, 0.3)

    # Standbys that fail

    def standby_backend_killed(self) -> None:
        """It recovers from a crash, perhaps behind where it was, with an unchanged start time."""
        self._standby().crash()

    def standby_killed(self) -> None:
        """It is gone for a while."""
        standby = self._standby()
        standby.kill()
        self._while(0.1, 1.0)
        standby.start()

    def standby_frozen(self) -> None:
        """It says nothing, and its connections stay."""
        with self._frozen(self._standby()):
            self._while(0.3, 4.5)

    def standby_unreachable(self) -> None:
        """Its packets do not arrive at some proxies; it goes on replaying."""
        with self.stage.network.cut(self._standby(), self._some_proxies()):
            self._while(0.3, 5)

    def replication_cut(self) -> None:
        """The packets between a standby and the primary vanish, and neither is told."""
        with self.stage.network.cut(self.stage.primary, [self._standby()]):
            self._while(0.3, 4)

    def cascade(self) -> None:
        """One standby streams from the other one."""
        middle, end = self.dice.sample(self.stage.standbys, 2)
        self.stage.follow(end, middle)
        self._while(0.5, 2)
        self.stage.follow(end, self.stage.primary)

    def addresses_swapped(self) -> None:
        """The names of two servers lead to each other, as connections find that are made meanwhile."""
        one, other = self.dice.sample(self.stage.lab.servers, 2)
        with self.stage.network.swapped(one, other, self.stage.readers):
            for server in self.dice.sample([one, other], self.dice.randint(1, 2)):
                whose = self.dice.choice(["app", "highwater", "%"])
                sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE %s"
                server.rows(sql + " AND pid <> pg_backend_pid() AND backend_type = 'client backend'", whose)
            self._while(0.5, 2)

    # The proxy

    def proxy_killed(self) -> None:
        """It comes back knowing nothing."""
        number = self.dice.randrange(len(self.stage.proxies))
        self.starts[number] += 1
        self.stage.restart_proxy(number)

    # The primary

    def primary_frozen(self) -> None:
        """It says nothing, and nobody takes its place."""
        with self._frozen(self.stage.primary):
            self._while(0.3, 2)

    def primary_unreachable(self) -> None:
        """Its packets do not arrive at some proxies, and nobody takes its place."""
        with self.stage.network.cut(self.stage.primary, self._some_proxies()):
            self._while(0.3, 4)

    def primary_isolated_and_replaced(self) -> None:
        """Cut off from everybody it lives on, a standby takes its place, and then it is back and does not know."""
        with self._failover() as old:
            with self.stage.network.cut(old, [*self.stage.readers, *self.stage.standbys]):
                self._while(0.1, 0.5)
                self._promote(self._most_advanced())
                self._while(0.5, 2)
            self._while(0.1, 0.5)

    def primary_killed(self) -> None:
        """The standby that has most takes its place."""
        with self._failover() as old:
            old.kill()
            self._promote(self._most_advanced())

    def primary_killed_with_a_lost_tail(self) -> None:
        """What it acknowledged last is on no standby."""
        standbys = self.stage.standbys
        for standby in standbys:
            standby.setting("primary_conninfo", "host=127.0.0.1 port=1")
        self._while(0.2, 0.6)
        with self._failover() as old:
            old.kill()
            self._promote(self.dice.choice(standbys))

    def cascade_promoted(self) -> None:
        """The one in the middle of a chain takes the primary's place; the end learns of it by streaming on."""
        middle, end = self.dice.sample(self.stage.standbys, 2)
        self.stage.follow(end, middle)
        self._while(0.2, 1)
        with self._failover() as old:
            old.kill()
            middle.rows("SELECT pg_promote()")
            self.stage.primary = middle
            self._while(0.2, 1)

    def both_standbys_promoted(self) -> None:
        """Two timelines of one number, begun at different places; one of the two primaries is ended."""
        behind, ahead = self.dice.sample(self.stage.standbys, 2)
        behind.setting("primary_conninfo", "host=127.0.0.1 port=1")
        self._while(0.2, 0.6)
        with self._failover() as old:
            old.kill()
            both = self.dice.sample([behind, ahead], 2)
            # Begun at one and the same place, nothing would tell them apart.
            if len({self._end_of_log(standby) for standby in both}) < 2:
                both.pop()
            for standby in both:
                standby.rows("SELECT pg_promote()")
            self._while(0, 1)
            self.stage.primary = self.dice.choice(both)
            for other in both:
                if other is not self.stage.primary:
                    other.kill()

    def promoted_while_the_primary_lives(self) -> None:
        """The old primary does not know that it is deposed."""
        with self._failover():
            self._promote(self._standby())
            self._while(0.1, 1)

    @contextmanager
    def _failover(self) -> Iterator[Server]:
        """What happens inside is a failover; afterwards the other servers follow the new primary."""
        began, old = time.monotonic_ns(), self.stage.primary
        try:
            yield old
        finally:
            new = self.stage.primary
            if new is not old:
                for proxy in self.stage.proxies:
                    until("the new primary to be seen", lambda proxy=proxy: proxy.server(new.name)["role"] == "primary")
                kept = self.stage.counters(new)
                self._note({"op": "failover", "begin": began, "end": time.monotonic_ns(), "kept": kept})

    def _promote(self, standby: Server) -> None:
        self.stage.lab.command("promote", standby.name)
        self.stage.primary = standby

    def _most_advanced(self) -> Server:
        return max(self.stage.standbys, key=self._end_of_log)

    @staticmethod
    def _end_of_log(standby: Server) -> int:
        received = "SELECT coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0', 0)"
        return int(standby.value(received))

    def _some_proxies(self) -> list[int]:
        readers = list(self.stage.readers)
        return readers if self.dice.random() < 0.5 else [self.dice.choice(readers)]

    def _heal(self) -> None:
        """All servers are there, and the standbys follow the primary."""
        self.stage.primary.revive()
        for standby in self.stage.standbys:
            if not self._follows(standby):
                self._bring_back(standby)

    def _follows(self, standby: Server) -> bool:
        def streams() -> bool:
            return bool(standby.value(_STREAMS, self.stage.primary.port))

        if not standby.is_up() or not standby.value("SELECT pg_is_in_recovery()"):
            return False
        self.stage.follow(standby, self.stage.primary)
        with suppress(TimeoutError):
            return until(f"{standby.name} to stream", streams, seconds=2)
        return False

    def _bring_back(self, standby: Server) -> None:
        """By pg_rewind half of the time, else from a base backup."""
        if self.dice.random() < 0.5:
            with suppress(RuntimeError):
                self.stage.lab.command("rewind", standby.name)
                if self._follows(standby):
                    return
        self.stage.lab.command("rebuild", standby.name)
        self.stage.follow(standby, self.stage.primary)

    def _standby(self) -> Server:
        return self.dice.choice(self.stage.standbys)

    @contextmanager
    def _frozen(self, server: Server) -> Iterator[None]:
        """All processes of a server stand still."""
        parent = int((self.stage.lab.folder / server.name / "postmaster.pid").read_text().split()[0])
        family = [parent, *(int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]
        self._signal(family, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(family, signal.SIGCONT)

    @staticmethod
    def _signal(processes: list[int], what: signal.Signals) -> None:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, what)

    def _while(self, shortest: float, longest: float) -> None:
        # It is time that is wanted here: for clients to meet the fault.
        threading.Event().wait(self.dice.uniform(shortest, longest))
