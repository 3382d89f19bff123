"""Carries sessions onto Django's connections: compares before every statement, and says only what is new.

A connection that is kept for the next request, shared by tasks, or handed out by a pool never keeps one session's
position for another: what it has been told last is compared with what must hold now, whoever used it in between.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from threading import get_ident
from time import perf_counter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from django.db import NotSupportedError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from . import pins
from .aliases import has_several_addresses, place_of, places_of
from .cursors import PAST_EXECUTE, hear_cursors_of
from .driver import Driver, Notice, of
from .levels import Wish, said, stricter
from .seeing import ON_PRIMARY, Statement, are_details_wanted, recorders
from .session import Session, Tokens, current
from .signals import writes_lost
from .statements import forgets, goes_back, is_statement, may_write, only_sets

logger = logging.getLogger("django_highwater")
# What Highwater tells a session first after a failover that may have lost something of it.
_LOST = "the cluster has failed over"
# What PostgreSQL says of a commit whose wait for synchronous standbys was cancelled (syncrep.c); it looks like success.
_UNREPLICATED = "SyncRepWaitForLSN"
_UNREPLICATED_TEXT = "canceling wait for synchronous replication"
_NONE: Tokens = frozenset()
_STRONG = Wish("strong")
# The drivers' connections that have been told something, and whether they lead to Highwater.
_used: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
# What can stand between quotes in every client encoding, with and without standard_conforming_strings.
_PLAIN_KEY = re.compile(r"[\w.:@+/=-]{0,128}", re.ASCII)


@dataclass(frozen=True)
class Said:
    """The settings that hold on a connection; `None` is "not said"."""

    wish: Wish | None = None
    reads_first: bool = False

    def values(self) -> dict[str, str | None]:
        """The same in Highwater's words."""
        max_lag = self.wish.max_lag if self.wish else None
        return {
            "consistency": self.wish.level if self.wish else None,
            "max_lag": f"{round(max_lag * 1000)}ms" if max_lag else None,
            "transaction_reads": "standby" if self.reads_first else None,
        }


class Route(NamedTuple):
    """Where a statement ran, in Highwater's words, which are empty where nothing is known."""

    server: str
    reason: str
    waited: float
    """Seconds until it could run there."""
    details: dict[str, str]
    """What it had to see, what its standby showed, and how often it had run in vain, where that has been asked for."""


class Carrier:
    """What one of Django's connections has been told, and what it has reported."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._place = place_of(connection.alias)
        self._is_atomic = bool(connection.settings_dict.get("ATOMIC_REQUESTS"))
        self._session: Session | None = None
        self._in_transaction = self._is_behind = False
        self.on_new_connection()

    def on_new_connection(self) -> None:
        """Django has opened a connection, or got one from a pool: nothing is known of what it has been told."""
        if self._session is not None and (self._in_transaction or self._is_behind):
            self._session.lose(self._place)
        self._raw: Any = self._connection.connection
        self._driver: Driver | None = of(self._raw)
        # Whether it leads to Highwater; known when something has been said.
        self._is_understood: bool | None = None if self._driver else False
        self._is_detailed = False
        self._session = None
        self._key: str | None = None
        self._tokens_told = _NONE
        self._reported: str | None = None
        # The position that was last seen, or that it has to be asked for; and where that was.
        self._last_seen: tuple[str | None, ...] = (None,)
        # Somebody else may have used what a pool hands out.
        self._kept: Said | None = None if self._raw in _used else Said()
        # What SET LOCAL has said in the open transaction; the flag: a savepoint may have undone it.
        self._local: Said | None = None
        self._is_local_known = True
        self._in_transaction = False
        # Whether the last statement showed something of which only Highwater can say how far that was.
        self._is_behind = False
        self._thread = 0

    @property
    def place(self) -> str:
        """Which log the positions of this connection are of."""
        return self._place

    @property
    def driver(self) -> Driver | None:
        """The driver's connection; `None` for a driver that is not known."""
        return self._driver

    def leads_to_highwater(self) -> bool:
        """Whether Highwater is at the other end; finds out if nobody has, and then not within a transaction."""
        session = current()
        texts = self._unsaid(session, _wish(session, self._place), report="known")
        if texts:
            self._say(texts)
        return bool(self._is_understood)

    def version(self) -> str | None:
        """Highwater's version, once `leads_to_highwater`; `None` where it tells none."""
        return self._driver.parameter("highwater.version") if self._driver else None

    def route(self) -> Route:
        """Where the last statement ran, as far as Highwater has said."""
        text = self._driver.parameter("highwater.last_route") if self._driver and not self._is_gone() else None
        server, reason, *others = [*(text or "").split(), "", ""]
        details = dict(other.split("=", 1) for other in others if "=" in other)
        waited = next((float(other[:-2]) / 1000 for other in others if other.endswith("ms")), 0.0)
        return Route(server, reason, waited, details)

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Django's execute wrapper."""
        watchers = recorders()
        if self._is_understood is False and not watchers:
            self._pass_by(sql)
            return execute(sql, params, many, context)
        began = perf_counter()
        session = current()
        report = ("detailed" if are_details_wanted() else "known") if watchers else None
        # Whether it is not known how much of what counts as said has been heard.
        is_doubtful = True
        try:
            ahead = self._unsaid(session, _wish(session, self._place, sql), report=report)
            if ahead and not self._may_precede(sql, many, context):
                self._say(ahead)
                ahead = []
            if not ahead:
                self._begin(sql)
                is_doubtful = False
                return execute(sql, params, many, context)
            result = self._run_behind(ahead, execute, sql, params, context)
            is_doubtful = False
            return result
        finally:
            if is_doubtful:
                # What is reported may be another session's, and include nothing of this one's.
                self._tokens_told = _NONE
            if self._is_understood:
                if self._session is not None:
                    self._hear(self._session, sql, is_declared=bool(getattr(context["cursor"].cursor, "name", None)))
                self.notices()
                if is_doubtful or forgets(sql):
                    self._forget()
            else:
                self._pass_by(sql)
            if watchers:
                statement = self._seen(sql, perf_counter() - began)
                for watcher in watchers:
                    watcher.append(statement)

    def _may_precede(self, sql: Any, many: bool, context: dict[str, Any]) -> bool:
        """Whether settings may stand in front of this statement: only where nobody but Highwater sees them there.

        Other wrappers would, logs of queries, and whatever watches the driver's cursors.
        """
        connection, driver = self._connection, self._driver
        return (
            driver is not None
            and _used.get(self._raw, False)
            and is_statement(sql)
            and not (many or PAST_EXECUTE in context or len(connection.execute_wrappers) > 1)
            and driver.is_idle()
            and driver.may_follow(context["cursor"].cursor)
            and not connection.queries_logged
        )

    def _run_behind(
        self, ahead: list[str], execute: Callable[..., Any], sql: str, params: Any, context: dict[str, Any]
    ) -> Any:
        driver, cursor = self._driver, context["cursor"].cursor
        assert driver is not None
        self._is_understood = True
        self._begin(sql)
        with self._connection.wrap_database_errors:
            sql, params = driver.bound(cursor, sql, params)
        result = execute(f"{'; '.join(ahead)}; {sql}", params, False, context)
        driver.skip(cursor, len(ahead))
        return result

    def _begin(self, sql: Any) -> None:
        """Note what is about to run: in this thread it goes on when whoever awaits it has been cancelled."""
        if self._session is not None and self._is_understood:
            self._session.note_begin(self)
            if may_write(sql):
                self._session.wrote = True

    def _unsaid(self, session: Session | None, wish: Wish | None, *, report: str | None) -> list[str]:
        """What has to be said on this connection before the next statement, and counts as said from now on."""
        driver = self._driver
        if driver is None or self._is_understood is False or not driver.is_usable():
            return []
        idle = driver.is_idle()
        if idle:
            self._local, self._is_local_known = None, True
        holds = self._local or self._kept
        if self._is_understood is None and session is None and report is None and holds == Said(wish):
            return []
        if self._is_understood is None and idle and not _used.get(self._raw):
            # By itself: behind a pooler, what else is said would stay on a connection that strangers share.
            self._is_detailed = report == "detailed"
            self._say([f"SET highwater.report = '{report or 'known'}'", "SET highwater.session = ''"])
            if not self._is_understood:
                return []
        needs_position = session is not None and (wish is None or wish.level == "session")
        if session is not None and needs_position and not session.is_known(self._place, self):
            # Without all of its position it would be shown the past.
            wish = _STRONG
        texts: list[str] = []
        if self._is_understood is None or (idle and report == "detailed" and not self._is_detailed):
            self._is_detailed = report == "detailed"
            texts.append(f"SET highwater.report = '{report or 'known'}'")
        if idle:
            texts += self._change_session(session)
        now = Said(wish, self._is_atomic and session is not None and session.reads_first)
        texts += self._tokens(session if idle else self._session) + self._settings(now, idle)
        return texts

    def _say(self, texts: list[str]) -> None:
        driver = self._driver
        assert driver is not None
        _used.setdefault(self._raw, False)
        idle = driver.is_idle()
        try:
            with self._connection.wrap_database_errors:
                driver.say("; ".join(texts))
        except BaseException:
            self.on_new_connection()
            raise
        self._last_seen = self._reports()
        if self._is_understood is None and idle:
            # When the session changes, Highwater reports a position, if only an empty one; a plain server nothing.
            self._is_understood = _used[self._raw] = self._last_seen[0] is not None

    def _change_session(self, session: Session | None) -> list[str]:
        """A transaction belongs to the session in which it began; between transactions the connection changes hands."""
        key = session.key if session else None
        if self._session is not None and self.has_moved(self._session):
            self._session.wrote = True
        if self._is_understood and session is self._session and key == self._key:
            return []
        if self._session is not None and (not self._session.is_over or self._session is session):
            self._measure(self._session)
        self._session, self._key, self._tokens_told = session, key, _NONE
        # What has been heard so far was the other one's.
        self._reported, self._in_transaction, self._is_behind = None, False, False
        return [f"SET highwater.session = '{_quotable(key)}'"]

    def _tokens(self, session: Session | None) -> list[str]:
        """Tokens are events and not settings: nothing undoes them."""
        if session is None:
            return []
        # A report that came with the last COMMIT does not include what is told now.
        if self._session is session and self._in_transaction:
            self._read(session)
        new = session.tokens(self._place) - self._tokens_told
        self._tokens_told |= new
        return [f"SET highwater.token = '{token}'" for token in sorted(new)]

    def _settings(self, now: Said, idle: bool) -> list[str]:
        before = self._local or self._kept
        if not idle:
            # Where a transaction reads was decided when it began.
            now = replace(now, reads_first=before is not None and before.reads_first)
        if now == before and self._is_local_known:
            return []
        if idle:
            self._kept, scope = now, "SET"
        else:
            self._local, self._is_local_known, scope = now, True, "SET LOCAL"
        values = now.values()
        old = before.values() if before else {}
        return [_setting(scope, name, value) for name, value in values.items() if name not in old or old[name] != value]

    def _hear(self, session: Session, sql: Any, *, is_declared: bool) -> None:
        """Note what the statement did, and what the connection has reported.

        A cursor that is declared on the server outside a transaction (`.iterator()`) lives on the primary, read or not.
        """
        driver = self._driver
        assert driver is not None
        self._thread = get_ident()
        in_transaction = not driver.is_idle()
        reason = self._where()[-1]
        # A transaction that had to begin on the primary, though it was to begin by reading, stays there for its writes.
        is_moved = in_transaction and self._kept is not None and self._kept.reads_first and reason in ON_PRIMARY
        is_doubtful = is_moved or reason in ("write", "must_run_on_primary")
        if is_doubtful and not session.wrote and not only_sets(sql):
            if in_transaction or is_declared:
                session.may_have_written = True
            else:
                session.wrote = True
        if goes_back(sql):
            self._is_local_known = False
        self._in_transaction = in_transaction
        self._read(session)
        session.note_use(self, is_unread=in_transaction or self._is_behind)

    def _forget(self) -> None:
        """The connection does not know any more what it has been told."""
        if self._session is not None and not self._in_transaction:
            self._measure(self._session)
        elif self._session is not None:
            # Nobody hears what else the transaction does.
            self._session.wrote = True
        self.on_new_connection()

    def _pass_by(self, sql: Any) -> None:
        """What is written past Highwater has no position: if it is the same database, reads must be strong from now."""
        session = current()
        if session is not None and self._is_understood is False and may_write(sql):
            session.pass_by(places_of(self._connection.alias))

    def notices(self) -> list[Notice]:
        """What the server has noticed since this was asked last.

        Drivers and Django keep warnings to themselves. Two of them are passed on: that a failover has lost something,
        which is told once, and that a commit is not where `synchronous_standby_names` wanted it.
        """
        notices = self._driver.notices() if self._driver else []
        for notice in notices:
            if notice.message.startswith(_LOST):
                logger.error("%s: %s %s", self._connection.alias, notice.message, notice.detail)
                writes_lost.send_robust(
                    sender=Carrier, alias=self._connection.alias, message=notice.message, detail=notice.detail
                )
            elif notice.source == _UNREPLICATED or notice.message.startswith(_UNREPLICATED_TEXT):
                logger.warning("%s: %s %s", self._connection.alias, notice.message, notice.detail)
        return notices

    def _seen(self, sql: Any, seconds: float) -> Statement:
        route = self.route()
        alias = self._connection.alias
        wish = asked_for(alias, sql)
        return Statement(
            alias=alias,
            sql=str(sql),
            seconds=seconds,
            level=wish.level if wish else None,
            server=route.server or None,
            reason=route.reason or None,
            waited=route.waited if route.server else None,
            floor=route.details.get("floor"),
            applied=route.details.get("applied"),
            retries=int(route.details.get("retries", 0)),
        )

    def _read(self, session: Session) -> None:
        """Take over the position that has been reported last; an empty one says that it has to be asked for."""
        driver = self._driver
        token = driver.parameter("highwater.token") if driver else None
        if token is None:
            session.lose(self._place)
        self._is_behind = token == ""
        self._last_seen = self._reports()
        if token:
            self._take(session, token)

    def has_moved(self, session: Session) -> bool:
        """Whether something has run for this session past Django's cursors, such as COPY by the driver's own."""
        if session is not self._session or self._thread != get_ident() or self._in_transaction or self._driver is None:
            return False
        return not self._is_gone() and self._reports() != self._last_seen

    def _reports(self) -> tuple[str | None, ...]:
        """The position, which is not known behind reads on replicas; server and reason of the last statement."""
        return (self._driver.parameter("highwater.token") if self._driver else None, *self._where())

    def _where(self) -> list[str]:
        text = self._driver.parameter("highwater.last_route") if self._driver else None
        return (text or "").split(" ", 2)[:2]

    def _is_gone(self) -> bool:
        """Whether Django has closed the driver's connection, or given it back to a pool: others may use it by now."""
        return self._connection.connection is not self._raw

    def _take(self, session: Session, token: str) -> None:
        if token != self._reported:
            session.advance(self._place, token, self._tokens_told)
            self._reported, self._tokens_told = token, frozenset([token])

    def _measure(self, session: Session) -> None:
        """Take over the position after the last statement, which may take a probe of Highwater's."""
        driver = self._driver
        self._read(session)
        if driver is None or not self._is_behind:
            return
        try:
            token = driver.ask("SHOW highwater.token") if driver.is_usable() else ""
        except Exception:
            # Each driver has errors of its own; whatever it was, nobody knows the position now.
            token = ""
        self._is_behind = False
        self._last_seen = self._reports()
        if token:
            self._take(session, token)
        else:
            session.lose(self._place)

    def pass_on(self, inner: Session, outer: Session) -> None:
        """A session has ended within its transaction, which the session around it goes on with."""
        if self._session is inner and self._thread == get_ident():
            self._session = outer

    def has_been_read(self, session: Session) -> bool | None:
        """Take over what is there. False: the transaction is still open. None: this is not the connection's thread."""
        if session is not self._session:
            # The connection has changed hands, and was read then.
            return True
        if self._thread != get_ident():
            return None
        if self._is_gone():
            if self._in_transaction or self._is_behind:
                session.lose(self._place)
            self._in_transaction = self._is_behind = False
            return True
        driver = self._driver
        self._in_transaction = driver is not None and driver.is_usable() and not driver.is_idle()
        if not self._in_transaction:
            self._measure(session)
            # COMMIT is no cursor's affair.
            self.notices()
        return not self._in_transaction


def _wish(session: Session | None, place: str, sql: object = None) -> Wish | None:
    """What a statement may see: as its block says, and its tables; else as its session does."""
    wish = stricter(said(), pins.wish(sql)) or (session.wish(place) if session else None)
    if session is None or session.key is None or not (wish is None or wish.level == "session"):
        return wish
    # What the key has seen through another Highwater, that one knows alone.
    return _STRONG if has_several_addresses(place) else wish


def asked_for(alias: str, sql: object) -> Wish | None:
    """The level at which the caller would run this statement; `None`: as Highwater is configured."""
    return _wish(current(), place_of(alias), sql)


def _quotable(key: str | None) -> str:
    if key is None or _PLAIN_KEY.fullmatch(key):
        return key or ""
    return sha256(key.encode()).hexdigest()


def _setting(scope: str, name: str, value: str | None) -> str:
    return f"{scope} highwater.{name} = '{value}'" if value else f"{scope} highwater.{name} TO DEFAULT"


def carrier_of(connection: BaseDatabaseWrapper) -> Carrier | None:
    """What carries sessions onto one of Django's connections, if it has been opened and leads to PostgreSQL."""
    return next((wrapper for wrapper in connection.execute_wrappers if isinstance(wrapper, Carrier)), None)


def connected(alias: str) -> Carrier:
    """The same for an alias, opened if it is not. Raises `NotSupportedError` for databases other than PostgreSQL."""
    connection = connections[alias]
    connection.ensure_connection()
    carrier = carrier_of(connection)
    if carrier is None:
        raise NotSupportedError(f"the database {alias!r} is not PostgreSQL")
    return carrier


def install(*, connection: BaseDatabaseWrapper, **_kwargs: object) -> None:
    """Receiver of `connection_created`: once for each of Django's connections, whatever its engine."""
    if connection.vendor != "postgresql":
        return
    carrier = carrier_of(connection)
    if carrier:
        carrier.on_new_connection()
    else:
        # Django's own `execute_wrapper` takes away whatever is the last when its block ends.
        connection.execute_wrappers.insert(0, Carrier(connection))
        hear_cursors_of(connection, connection.execute_wrappers[0])
