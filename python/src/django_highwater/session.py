"""Whom consistency is promised to: a request, a job, a message. Not Django's session, which lives in the database.

A session holds tokens, which are opaque: two of them cannot be compared. So it keeps every token that no other one is
known to include; that is one, unless the session uses several connections at once.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from .levels import Wish, stricter

if TYPE_CHECKING:
    from .connections import Carrier

Tokens = frozenset[str]

_NONE: Tokens = frozenset()
# As Highwater writes them (base64url), so that one can be quoted in SQL and lies in no cookie's way.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}")
# More connections at once than a request has; a bound for what strangers send.
_MOST_TOKENS = 16

_CARRIED = Wish("session")
_STRONG = Wish("strong")
# In the place of a token: something was seen or written, and nobody knows how far that was.
_LOST = "."


class Session:
    """What one request, job or message has seen and written, for each Highwater that the project uses."""

    def __init__(self, *carried: str, key: str | None = None, otherwise: Wish | None = None) -> None:
        """`carried` are texts of other sessions; where they say nothing, reads see what `otherwise` promises."""
        self.key = key
        self.reads_first = False
        """Whether transactions may stay on a standby while they only read."""
        self.is_over = False
        """Whether nobody will want to know any more how far it has come."""
        self.wrote = False
        self.wrote_at = 0
        """When it wrote last before this request, in seconds since the Unix epoch; 0: it has not, or nobody knows."""
        self.may_have_written = False
        """A transaction ran on the primary, where a plain SELECT cannot be told from one whose function writes."""
        self._otherwise = otherwise
        self._tokens: dict[str, Tokens] = {}
        for text in carried:
            for place, tokens in _read(text).items():
                self._tokens[place] = self.tokens(place) | tokens
        self._carried = frozenset(self._tokens)
        self._lost = {place for place, tokens in self._tokens.items() if _LOST in tokens}
        for place in self._lost:
            del self._tokens[place]
        self._used: set[Carrier] = set()
        self._unread: set[Carrier] = set()
        self._running: set[Carrier] = set()
        self._lock = Lock()

    def wish(self, place: str) -> Wish | None:
        """The level of reads for which nothing else is said."""
        if place in self._lost:
            return _STRONG
        if place in self._carried:
            return _CARRIED
        # What it has written itself it is to see at once, however little was asked for.
        has_own = self.wrote or self.may_have_written
        return stricter(self._otherwise, _CARRIED) if self._otherwise and has_own else self._otherwise

    def tokens(self, place: str) -> Tokens:
        """How far reads at `place` must see."""
        return self._tokens.get(place, _NONE)

    def advance(self, place: str, token: str, included: Tokens) -> None:
        """A connection that had been told `included` has come to `token`."""
        with self._lock:
            self._tokens[place] = (self.tokens(place) - included) | {token}

    def lose(self, place: str) -> None:
        """Nobody knows how far this session has come at `place`: its reads are strong from now on."""
        with self._lock:
            self._lost.add(place)
            self._tokens.pop(place, None)

    def has_begun(self) -> bool:
        """Whether it came with a position."""
        return bool(self._carried)

    def note_begin(self, carrier: Carrier) -> None:
        """A statement is about to run on this connection; `note_use` says when it has."""
        self._running.add(carrier)

    def note_use(self, carrier: Carrier, *, is_unread: bool) -> None:
        """A statement has run on this connection; whether it is still unknown how far the session has come by that."""
        self._used.add(carrier)
        if is_unread:
            self._unread.add(carrier)
        self._running.discard(carrier)

    def hear_rest(self) -> None:
        """What connections of this thread have done since, past Django's cursors, counts as a write."""
        for carrier in self._used:
            if carrier.has_moved(self):
                self.wrote = True
                self._unread.add(carrier)

    def gather(self, besides: Carrier | None = None) -> bool:
        """Find out how far the session has come on the connections of this thread; whether that is all of them.

        One of them may be left out, where what others are about to do need not be seen; a transaction that is still
        open is left out.
        """
        read = {carrier: carrier.has_been_read(self) for carrier in list(self._unread) if carrier is not besides}
        self._unread -= {carrier for carrier, is_read in read.items() if is_read}
        return None not in read.values() and (besides is not None or not self._running)

    def is_known(self, place: str, besides: Carrier) -> bool:
        """Whether `tokens` says all that was seen and written but on one connection, which knows that by itself."""
        return place not in self._lost and (not self._unread or self.gather(besides))

    def join(self, inner: Session) -> None:
        """A session within this one is over: this one has seen what that one has."""
        inner.hear_rest()
        if not inner.gather():
            inner.lose_all()
        self._used |= inner._used
        self.wrote |= inner.wrote
        self.may_have_written |= inner.may_have_written
        for carrier in inner._unread:
            carrier.pass_on(inner, self)
        with self._lock:
            self._unread |= inner._unread
            self._lost |= inner._lost
            for place, tokens in inner._tokens.items():
                self._tokens[place] = self.tokens(place) | tokens

    def text(self, *, is_complete: bool = True) -> str:
        """All that this session must see, for `Session(carried)`; empty where nothing was seen or written."""
        texts = {
            place: sorted(self.tokens(place)) if is_complete and place not in self._lost else [_LOST]
            for place in self._places()
        }
        if sum(map(len, texts.values())) > _MOST_TOKENS:
            # Nobody would read it, and a part would show its bearer the past.
            texts = {place: [_LOST] for place in texts}
        return "+".join(f"{quote(place, safe='')}:{token}" for place in sorted(texts) for token in texts[place])

    def pass_by(self, places: Iterable[str]) -> None:
        """Something was written there of which no position knows; where there is none, none is wrong."""
        for place in self._places().intersection(places):
            self.lose(place)
            self.wrote = True

    def lose_all(self) -> None:
        """The same for all places where something has been done."""
        for place in self._places():
            self.lose(place)

    def _places(self) -> set[str]:
        return {*self._tokens, *self._lost, *(carrier.place for carrier in self._unread | self._running)}

    def has_lost(self) -> bool:
        """Whether there is a place at which nobody knows how far this session has come."""
        return bool(self._lost)


def _read(text: str) -> dict[str, Tokens]:
    """The tokens of each place. What cannot be read says nothing, and no position is strong's affair."""
    tokens: dict[str, Tokens] = {}
    pieces = text.split("+") if text else []
    if len(pieces) > _MOST_TOKENS:
        return {}
    for piece in pieces:
        place, _, token = piece.rpartition(":")
        if not place or not (token == _LOST or _TOKEN.fullmatch(token)):
            return {}
        place = unquote(place)
        tokens[place] = tokens.get(place, _NONE) | {token}
    return tokens


_current: ContextVar[Session | None] = ContextVar("django_highwater_session", default=None)


def current() -> Session | None:
    """The session that the caller runs in."""
    return _current.get()


@contextmanager
def entered(session: Session) -> Generator[Session]:
    """The block belongs to `session`, and what it comes to see also to the session around it."""
    outer = _current.get()
    reset = _current.set(session)
    try:
        yield session
    finally:
        _current.reset(reset)
        if outer is None:
            session.is_over = True
        elif outer is not session:
            outer.join(session)


def identify(key: object) -> None:
    """From now on the session around the caller is that of `key` (a user, a device, an account), whatever connection or
    device it comes by, as far as the same Highwater process serves it. `None`: of nobody.

    For code that learns late who is asking, such as an API's authentication. Does nothing outside a session.
    """
    session = _current.get()
    if session is not None:
        session.key = None if key is None else str(key)


def current_token() -> str:
    """How far the session around the caller has seen and written, as opaque text for `use_token`.

    It is empty where nothing was seen or written. Take it after COMMIT (`transaction.on_commit`): a transaction that is
    still open is not part of it. Asynchronous code says `await sync_to_async(current_token)()`: only the thread that
    uses the connections may ask them, and of what is not known the token says that, so that its bearer reads strongly.
    """
    session = _current.get()
    return session.text(is_complete=session.gather()) if session else ""


class use_token:  # noqa: N801  (reads as a statement)
    """The block sees at least what the session with this token had seen. A context manager, for jobs and messages.

    An empty token is that of a session about which nothing is known; its reads are strong. Text that is no token counts
    as empty.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token or ""

    def __enter__(self) -> Session:
        from .conf import configuration

        self._entered = entered(Session(self._token, otherwise=configuration().wish))
        return self._entered.__enter__()

    def __exit__(self, *error: object) -> None:
        self._entered.__exit__(None, None, None)
