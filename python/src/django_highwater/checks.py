"""What `manage.py check` says: settings that do not do what they look like, and routers as the article had them."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import connections, router
from django.utils.module_loading import import_string

from .aliases import has_several_addresses, primary_of
from .conf import configuration
from .connections import connected
from .middleware import HighwaterMiddleware

_Apps = Sequence[AppConfig] | None
# The first that knows all settings that this package makes.
_OLDEST = (0, 1)


def register_all() -> None:
    """Called when Django starts."""
    register(check_settings, "highwater")
    register(check_middleware, "highwater")
    register(check_databases, "highwater", Tags.database)
    register(check_keys, "highwater")
    register(check_connections, Tags.database)
    register(check_routers, "highwater")
    register(check_deployment, "highwater", deploy=True)


def check_settings(app_configs: _Apps, **_kwargs: Any) -> list[CheckMessage]:
    """The dictionary HIGHWATER."""
    try:
        key = configuration().KEY
        if key:
            import_string(key)
    except (ImproperlyConfigured, ImportError) as error:
        return [Error(str(error), id="highwater.E001")]
    return []


def check_middleware(app_configs: _Apps, **_kwargs: Any) -> list[CheckMessage]:
    """The middleware is there, once, and the first that may touch the database."""
    own = f"{HighwaterMiddleware.__module__}.{HighwaterMiddleware.__qualname__}"
    listed: list[str] = list(settings.MIDDLEWARE)
    if own not in listed:
        return [
            Warning(
                "Highwater's middleware is missing: requests carry no position, and each one begins anew.",
                hint=f"Put '{own}' first into MIDDLEWARE.",
                id="highwater.W001",
            )
        ]
    before = listed[: listed.index(own)]
    if before:
        return [
            Warning(
                f"Highwater's middleware comes after {', '.join(before)}: what those read and write is not part of the"
                " request's session. A session row that is saved there may be read from the past by the next request.",
                hint=f"Put '{own}' first.",
                id="highwater.W002",
            )
        ]
    return []


def check_databases(app_configs: _Apps, databases: Iterable[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """What DATABASES says, without a connection."""
    found: list[CheckMessage] = []
    for alias, database in settings.DATABASES.items():
        # Not by its engine's name: PostGIS, tenants and metrics have their own.
        if connections[alias].vendor != "postgresql":
            continue
        options: dict[str, Any] = database.get("OPTIONS") or {}
        if options.get("pool") and options.get("assume_role"):
            found.append(
                Warning(
                    f"The database {alias!r} has a pool and assume_role: a pool resets no role"
                    " when a connection comes back.",
                    hint="Let Highwater pool (CONN_MAX_AGE = 0 and no pool), or log in as that role.",
                    id="highwater.W003",
                )
            )
        if getattr(settings, "ASGI_APPLICATION", None) and database.get("CONN_MAX_AGE", 0) != 0:
            found.append(
                Warning(
                    f"The database {alias!r} has CONN_MAX_AGE under ASGI, where each request has a thread of its own:"
                    " connections stay open and are not used again.",
                    hint="Set CONN_MAX_AGE to 0; Highwater keeps the server's connections.",
                    id="highwater.W004",
                )
            )
    if "psycopg2" in sys.modules and connections.databases and _uses_psycopg2():
        found.append(
            Info(
                "psycopg2 is used; Django recommends psycopg 3, which also has a pool and server-side binding.",
                hint="pip install 'psycopg[binary]'",
                id="highwater.I001",
            )
        )
    return found


def check_keys(app_configs: _Apps, **_kwargs: Any) -> list[CheckMessage]:
    """KEY, where there are several Highwaters."""
    try:
        key = configuration().KEY
    except ImproperlyConfigured:
        return []
    several = [alias for alias in settings.DATABASES if key and has_several_addresses(alias)]
    return [
        Info(
            f"The database {alias!r} has several addresses, and each Highwater knows of a key what it has seen itself:"
            " reads of those whom HIGHWATER['KEY'] names are strong.",
            hint="One address, or no KEY where a position in a cookie or header is enough.",
            id="highwater.I002",
        )
        for alias in several
    ]


def _uses_psycopg2() -> bool:
    base = sys.modules.get("django.db.backends.postgresql.base")
    return getattr(getattr(base, "Database", None), "__name__", "") == "psycopg2"


def check_connections(app_configs: _Apps, databases: Iterable[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """With --database: whether Highwater is there."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        if connections[alias].vendor != "postgresql":
            continue
        try:
            leads = connected(alias).leads_to_highwater()
        except DatabaseError as error:
            found.append(Error(f"The database {alias!r} cannot be reached: {error}", id="highwater.E002"))
            continue
        if leads:
            found += _too_old(alias, connected(alias).version())
        else:
            found.append(
                Warning(
                    f"The database {alias!r} is no Highwater: everything works, and nothing is read from replicas.",
                    hint="HOST and PORT are to be Highwater's. A pooler in between must pass on what servers report.",
                    id="highwater.W005",
                )
            )
    return found


def _too_old(alias: str, told: str | None) -> list[CheckMessage]:
    numbers = re.findall(r"\d+", told or "")[:2]
    if tuple(map(int, numbers)) >= _OLDEST:
        return []
    needed = ".".join(map(str, _OLDEST))
    return [
        Warning(
            f"Highwater at the database {alias!r} is {told or 'of a version that it does not tell'}; this package was"
            f" made for {needed} and later.",
            hint="Upgrade Highwater first, then django-highwater.",
            id="highwater.W010",
        )
    ]


def check_deployment(app_configs: _Apps, **_kwargs: Any) -> list[CheckMessage]:
    """With --deploy."""
    try:
        cookie = configuration().COOKIE
    except ImproperlyConfigured:
        return []
    if cookie and not settings.SESSION_COOKIE_SECURE:
        return [
            Warning(
                "The cookie of Highwater goes over connections without TLS, as Django's session cookie does.",
                hint="Set SESSION_COOKIE_SECURE.",
                id="highwater.W006",
            )
        ]
    return []


def check_routers(app_configs: _Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Routers that read from somewhere, as the article taught."""
    return [message for own in router.routers for message in _complaints(own)]


def _complaints(own: Any) -> Iterator[CheckMessage]:
    name = f"{type(own).__module__}.{type(own).__qualname__}"
    source = _source(own)
    reads, writes = hasattr(own, "db_for_read"), hasattr(own, "db_for_write")
    if reads and not writes:
        yield Error(
            f"The router {name} has no db_for_write: an object that was read from a replica is saved to that replica.",
            hint=_HINT,
            id="highwater.E003",
        )
    if re.search(r"\bthreading\.local\(|from threading import .*\blocal\b|\blocal\(\)", source):
        yield Warning(
            f"The router {name} keeps something in thread-locals: under ASGI the ORM runs on another thread than the"
            " middleware, and under WSGI one user's value stays for the next.",
            hint=_HINT,
            id="highwater.W007",
        )
    if re.search(r"\brandom\.(?:choice|choices|randint|randrange|sample)\b", source):
        yield Warning(
            f"The router {name} chooses at random: one page mixes replicas, and its user sees the past.",
            hint=_HINT,
            id="highwater.W008",
        )
    for alias in sorted(_answers(own)):
        if alias not in settings.DATABASES:
            yield Error(
                f"The router {name} names {alias!r}, which is not in DATABASES.", hint=_HINT, id="highwater.E004"
            )
    replicas = [alias for alias in settings.DATABASES if primary_of(alias)]
    allowed = [alias for alias in replicas if _allows(own, alias)]
    if allowed:
        yield Warning(
            f"The router {name} allows migrations on the replica {', '.join(map(repr, allowed))}.",
            hint=_HINT,
            id="highwater.W009",
        )


_HINT = (
    "With Highwater no router is needed: it chooses the server for each statement. If other aliases are to stay, use"
    " 'django_highwater.router.HighwaterRouter'."
)


def _source(own: Any) -> str:
    module = sys.modules.get(type(own).__module__)
    try:
        return inspect.getsource(module) if module else ""
    except (OSError, TypeError):
        return ""


def _answers(own: Any) -> set[str]:
    """The aliases that a router names for the project's models."""
    answers: set[str] = set()
    for model in apps.get_models():
        for question in ("db_for_read", "db_for_write"):
            try:
                answer = getattr(own, question)(model)
            except Exception:  # noqa: BLE001  (what it is asked in a request is its own affair)
                continue
            if isinstance(answer, str):
                answers.add(answer)
    return answers


def _allows(own: Any, alias: str) -> bool:
    try:
        return own.allow_migrate(alias, "auth", model_name="user") is True
    except Exception:  # noqa: BLE001  (it has no such method, or wants other words)
        return False
