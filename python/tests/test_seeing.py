"""Where statements ran, and why: in headers, logs, the debug toolbar and manage.py."""

import io
import logging
import re
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import AsyncClient, Client, override_settings

from harness.proxy import Proxy
from harness.waiting import until
from watching import be_patient

TIMING = "django_highwater.timing.ServerTimingMiddleware"


def with_timing(**others: Any) -> Any:
    """The middleware in its place."""
    own, *rest = settings.MIDDLEWARE
    return override_settings(MIDDLEWARE=[own, TIMING, *rest], **others)


class TestServerTiming:
    """For the browser's developer tools."""

    def test_everybody_is_told_with_debug(self, client: Client, lab: Any) -> None:
        with with_timing(DEBUG=True):
            written = client.post("/wish/", {"thing": "x"})["Server-Timing"]
            read = client.get("/wishes/")["Server-Timing"]
        assert written.startswith("primary;dur=")
        assert written.endswith(';desc="1 must_run_on_primary"')
        assert read.count("desc=") == 1

    def test_nobody_but_staff_is_told_without(self, client: Client) -> None:
        from django.contrib.auth.models import User

        with with_timing():
            assert not client.get("/wishes/").has_header("Server-Timing")
            client.force_login(User.objects.create(username="ann"))
            assert not client.get("/me/").has_header("Server-Timing")
            client.force_login(User.objects.create(username="root", is_staff=True))
            assert client.get("/me/").has_header("Server-Timing")

    def test_asynchronously(self, site: None) -> None:
        async def story() -> Any:
            return await AsyncClient().get("/wishes/async/")

        be_patient()
        with with_timing(DEBUG=True):
            assert "standby" in async_to_sync(story)()["Server-Timing"]

    def test_plain_postgresql(self, site: None) -> None:
        from django_highwater.seeing import recorded
        from django_highwater.timing import entries
        from project.models import Wish

        with recorded() as statements:
            Wish.objects.using("direct").count()
        (entry,) = entries(statements)
        assert entry.startswith("direct;dur=")
        assert entry.endswith('desc="1 no Highwater"')


class TestLogs:
    """Fields of log records."""

    def test_fields(self, site: None) -> None:
        from django_highwater import identify, use_token
        from django_highwater.logs import RouteFilter
        from project.models import Wish

        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.addFilter(RouteFilter())
        handler.setFormatter(
            logging.Formatter("%(highwater_server)s %(highwater_reason)s %(highwater_waited)s %(highwater_key)s")
        )
        logger = logging.getLogger("test_seeing")
        # Workers of Celery want to hear of errors alone.
        logger.setLevel(logging.WARNING)
        logger.addHandler(handler)
        logger.propagate = False
        connection.close()
        logger.warning("before")
        with use_token(""):
            identify("ann")
            Wish.objects.create(thing="x")
            logger.warning("after")
        before, after = stream.getvalue().splitlines()
        assert before == "- - - -"
        assert re.fullmatch(r"primary must_run_on_primary \d+\.\dms ann", after)


class TestPanel:
    """The panel of django-debug-toolbar."""

    def test_it_shows_servers_and_reasons(self, client: Client) -> None:
        toolbar = "debug_toolbar.middleware.DebugToolbarMiddleware"
        own, *rest = settings.MIDDLEWARE
        with override_settings(
            DEBUG=True,
            INSTALLED_APPS=[*settings.INSTALLED_APPS, "debug_toolbar"],
            MIDDLEWARE=[own, toolbar, *rest],
            DEBUG_TOOLBAR_PANELS=["django_highwater.panel.HighwaterPanel"],
            DEBUG_TOOLBAR_CONFIG={"SHOW_TOOLBAR_CALLBACK": lambda _request: True, "RENDER_PANELS": True},
            ROOT_URLCONF="project.urls_with_toolbar",
        ):
            page = client.post("/page/", {"thing": "lightsaber"}).content.decode()
        assert "1 on replicas, 1 on the primary" in page or "0 on replicas, 2 on the primary" in page
        assert "must run on primary" in page
        assert "This request wrote" in page

    def test_it_shows_how_long_was_waited(self, site: None, lab: Any, lag: Any) -> None:
        from django_highwater import consistency, use_token
        from django_highwater.panel import HighwaterPanel
        from django_highwater.seeing import recorded
        from project.models import Wish

        be_patient()
        with lag(), use_token(""):
            Wish.objects.create(thing="x")
            resuming = threading.Timer(0.3, lambda: [standby.resume() for standby in lab.standbys])
            resuming.start()
            with recorded() as statements, consistency("session"):
                assert Wish.objects.count() == 1
                assert Wish.objects.count() == 1
            resuming.join()
        waited = [statement.waited for statement in statements]
        assert waited[0] and 0.2 < waited[0] < statements[0].seconds
        assert waited[1] is not None and waited[1] < 0.2
        rows = HighwaterPanel.rows(statements)
        assert [row["reason"] for row in rows][0] == "caught up"
        assert float(rows[0]["waited"]) == pytest.approx(waited[0] * 1000, abs=0.1)
        floor, applied = (position(str(rows[0][name])) for name in ("floor", "applied"))
        assert 0 < floor <= applied
        assert rows[0]["retries"] == ""

    def test_it_shows_what_ran_in_vain(self, site: None, lab: Any, proxy: Proxy) -> None:
        from django_highwater import consistency
        from django_highwater.panel import HighwaterPanel
        from django_highwater.seeing import recorded

        lab.primary.rows(_FAILS)
        lab.settle()
        with connection.cursor() as cursor, consistency("eventual"):

            def is_known() -> bool:
                with recorded() as statements:
                    cursor.execute("SELECT refuses()")
                (row,) = HighwaterPanel.rows(statements)
                return (row["server"], row["retries"]) == ("primary", 1)

            # The proxy reads the catalogue again when it meets a name that it does not know.
            until("a standby to have been tried", is_known)


# What the primary alone has to say, behind a name that promises no such thing.
_FAILS = """
SET ROLE app;
CREATE OR REPLACE FUNCTION refuses() RETURNS int LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'raised on a standby' USING ERRCODE = '42P01';
    END IF;
    RETURN 1;
END $$;
"""


def position(text: str) -> int:
    """A position of the log as a number."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


class TestCommand:
    """manage.py highwater."""

    @pytest.fixture
    def console(self, site: None, proxy: Proxy) -> str:
        """An administrator's."""
        return f"postgres://highwater:highwater@127.0.0.1:{proxy.port}"

    @staticmethod
    def _run(*words: str, **options: Any) -> str:
        out = io.StringIO()
        call_command("highwater", *words, stdout=out, no_color=True, **options)
        return out.getvalue()

    def test_status(self, console: str, lab: Any) -> None:
        text = self._run("--console", console, "status")
        for server in lab.servers:
            assert server.name in text
        assert "stale_reads_prevented" in text

    def test_explain(self, console: str) -> None:
        assert "sequence_function" in self._run("--console", console, "explain", "SELECT nextval('ticket')")

    def test_doctor(self, console: str) -> None:
        with override_settings(SESSION_COOKIE_SECURE=True):
            assert "highwater doctor --config" in self._run("--console", console, "doctor")
        out = io.StringIO()
        with pytest.raises(SystemExit) as end:
            call_command("highwater", "--console", console, "doctor", stdout=out, no_color=True)
        assert end.value.code == 1
        assert "SESSION_COOKIE_SECURE" in out.getvalue()

    def test_doctor_examines_the_servers(self, console: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        from harness.lab import binary

        monkeypatch.setenv("PATH", str(binary().parent), prepend=":")
        with override_settings(SESSION_COOKIE_SECURE=True):
            text = self._run("--console", console, "doctor", "--config", str(proxy.config))
        assert "3 servers" in text

    def test_who_is_no_administrator(self, site: None) -> None:
        with pytest.raises(CommandError, match="console does not answer"):
            self._run("status")

    def test_plain_postgresql(self, site: None) -> None:
        with pytest.raises(CommandError, match="console does not answer"):
            self._run("--database", "direct", "status")
        assert connection.vendor == "postgresql"
