"""How a session travels over HTTP: in a signed cookie for browsers, in a signed header for other clients.

Signed, because whoever can write positions can send all reads of a site to its primary.
"""

from __future__ import annotations

import time

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import has_vary_header, patch_vary_headers

from .conf import configuration
from .session import Session

_SALT = "django_highwater"
_SAFE = frozenset(["GET", "HEAD"])


def session_of(request: HttpRequest) -> Session:
    """The session that this request belongs to. What was not signed here, or too long ago, says nothing."""
    own = configuration()
    in_header = request.headers.get(own.HEADER) if own.HEADER else None
    in_cookies = [request.COOKIES.get(name) for name in _cookies(own.COOKIE)]
    # A page's script may send all of them, and none of them knows all.
    brought = [_Signer.verified(signed, own.MAX_AGE) for signed in (in_header, *in_cookies) if signed]
    session = Session(*(text for text, _ in brought), otherwise=own.wish)
    session.wrote_at = max((at for _, at in brought), default=0)
    session.reads_first = request.method in _SAFE
    return session


def is_wanted(session: Session, request: HttpRequest, response: HttpResponseBase) -> bool:
    """Whether the client gets a position.

    Only one that wrote does, so that pages stay cacheable. One that brought a position gets a newer one where the
    response is for it alone anyway: it varies on the cookie, or on the header that was sent.
    """
    own = configuration()
    is_private = has_vary_header(response, "Cookie") or bool(own.HEADER and own.HEADER in request.headers)
    return session.wrote or (session.has_begun() and (is_private or session.may_have_written))


def hand_out(session: Session, request: HttpRequest, response: HttpResponseBase) -> None:
    """Give the client what it must bring along next time, if `is_wanted`; the session has been gathered then."""
    own = configuration()
    sent_header = own.HEADER if own.HEADER and own.HEADER in request.headers else None
    sent_cookie = any(name in request.COOKIES for name in _cookies(own.COOKIE))
    if sent_header:
        patch_vary_headers(response, [sent_header])
    text = session.text()
    if not text or not is_wanted(session, request, response):
        return
    # What only came to be read later does not make it last longer: behind its end reads are as for everybody.
    now = int(time.time())
    at = now if session.wrote or not session.wrote_at else session.wrote_at
    signed = _Signer(at).sign(text)
    if own.COOKIE and (sent_cookie or (session.wrote and not sent_header)):
        # The answer to a slow reader may arrive behind that to a writer in another tab: it takes nothing from that one.
        written, seen = _cookies(own.COOKIE)
        response.set_cookie(
            written if session.wrote or session.may_have_written else seen,
            signed,
            max_age=at + own.MAX_AGE - now,
            path=settings.SESSION_COOKIE_PATH,
            domain=settings.SESSION_COOKIE_DOMAIN,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite=settings.SESSION_COOKIE_SAMESITE,
        )
    if own.HEADER and (session.wrote or sent_header):
        response[own.HEADER] = signed


def _cookies(name: str | None) -> list[str]:
    """The cookies of those who wrote, and of those who only read since."""
    return [name, f"{name}_seen"] if name else []


class _Signer(signing.TimestampSigner):
    """Signs as of a time, in seconds since the Unix epoch."""

    def __init__(self, at: int = 0) -> None:
        super().__init__(salt=_SALT)
        self._at = at

    def timestamp(self) -> str:
        return signing.b62_encode(self._at)

    @classmethod
    def verified(cls, signed: str, max_age: int) -> tuple[str, int]:
        """The text, and as of when it was signed; the empty one and 0 if it was not, or too long ago."""
        signer = cls()
        try:
            text = signer.unsign(signed, max_age=max_age)
            return text, signing.b62_decode(signed.rsplit(signer.sep, 2)[1])
        except (signing.BadSignature, ValueError, IndexError):
            # The latter two: it was signed, and as of no time.
            return "", 0
