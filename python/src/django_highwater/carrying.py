"""How a session travels over HTTP: in a signed cookie for browsers, in a signed header for other clients.

Signed, because whoever can write positions can send all reads of a site to its primary.
"""

from __future__ import annotations

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
    in_cookie = request.COOKIES.get(own.COOKIE) if own.COOKIE else None
    # A page's script may send both, and neither of them knows all.
    texts = [_verified(signed, own.MAX_AGE) for signed in (in_header, in_cookie) if signed]
    session = Session("+".join(filter(None, texts)), otherwise=own.wish)
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
    sent_cookie = own.COOKIE if own.COOKIE and own.COOKIE in request.COOKIES else None
    if sent_header:
        patch_vary_headers(response, [sent_header])
    text = session.text()
    if not text or not is_wanted(session, request, response):
        return
    signed = _signer().sign(text)
    if own.COOKIE and (sent_cookie or (session.wrote and not sent_header)):
        response.set_cookie(
            own.COOKIE,
            signed,
            max_age=own.MAX_AGE,
            path=settings.SESSION_COOKIE_PATH,
            domain=settings.SESSION_COOKIE_DOMAIN,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite=settings.SESSION_COOKIE_SAMESITE,
        )
    if own.HEADER and (session.wrote or sent_header):
        response[own.HEADER] = signed


def _signer() -> signing.TimestampSigner:
    return signing.TimestampSigner(salt=_SALT)


def _verified(signed: str, max_age: int) -> str:
    try:
        return _signer().unsign(signed, max_age=max_age)
    except signing.BadSignature:
        return ""
