"""Projects that keep several aliases: the router, and what the checks say of routers as the article had them."""

import os
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import CommandError, SystemCheckError
from django.db import connections
from django.test import override_settings

Lag = Callable[..., Any]
ROUTER = "django_highwater.router.HighwaterRouter"
MIDDLEWARE = "django_highwater.middleware.HighwaterMiddleware"


@pytest.fixture
def replica(site: None) -> Iterator[str]:
    """An alias for the replicas behind Highwater."""
    settings = {**connections.settings["default"], "NAME": "shop@replica"}
    connections.settings["replica"] = settings
    yield "replica"
    connections["replica"].close()
    del connections["replica"], connections.settings["replica"]


@pytest.mark.parametrize("option", ["service", "host", "hostaddr", "port"])
def test_two_clusters_may_differ_by_options_alone(site: None, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions of one mean nothing to the other."""
    from django_highwater.aliases import place_of

    databases = {alias: {"NAME": "shop", "OPTIONS": {option: alias}} for alias in ("default", "orders")}
    monkeypatch.setattr(settings, "DATABASES", databases)
    assert [place_of(alias) for alias in databases] == ["default", "orders"]


class TestRouter:
    """What each method is for."""

    @pytest.fixture(autouse=True)
    def _routed(self, replica: str) -> Any:
        with override_settings(DATABASE_ROUTERS=[ROUTER]):
            yield

    def test_using_the_replica_works(self, lab: Any) -> None:
        from django_highwater.seeing import recorded
        from project.models import Wish

        wish = Wish.objects.create(thing="x")
        lab.settle()
        with recorded() as statements:
            assert Wish.objects.using("replica").get() == wish
        assert [statement.is_on_primary for statement in statements] == [False]

    def test_an_object_from_a_replica_is_saved_on_the_primary(self, lab: Any) -> None:
        from project.models import Wish

        Wish.objects.create(thing="x")
        lab.settle()
        wish = Wish.objects.using("replica").get()
        wish.thing = "y"
        wish.save()
        assert wish._state.db == "default"
        assert Wish.objects.get().thing == "y"
        Wish.objects.using("replica").get().delete()
        assert not Wish.objects.exists()

    def test_a_deletion_is_a_write(self, lab: Any) -> None:
        from project.models import Wish

        Wish.objects.create(thing="x")
        lab.settle()
        Wish.objects.using("replica").get().delete()
        assert Wish.objects.count() == 0

    def test_objects_of_replica_and_primary_are_linked(self, lab: Any) -> None:
        from django.contrib.auth.models import User

        from project.models import Wish

        User.objects.create(username="ann")
        lab.settle()
        wish = Wish.objects.create(thing="x")
        wish.owner = User.objects.using("replica").get()
        wish.save()
        assert Wish.objects.get().owner == wish.owner

    def test_replicas_are_not_migrated(self) -> None:
        from django.db import router

        assert router.allow_migrate("default", "auth")
        assert not router.allow_migrate("replica", "auth")

    def test_a_replica_by_mirror(self) -> None:
        from django_highwater.aliases import primary_of

        settings = {**connections.settings["direct"], "TEST": {"MIRROR": "direct"}}
        connections.settings["mirror"] = settings
        try:
            assert primary_of("mirror") == "direct"
        finally:
            del connections.settings["mirror"]

    def test_a_replica_sees_what_its_session_wrote_by_the_other_alias(self, lag: Lag) -> None:
        """Both aliases are one place: the position goes along."""
        from django_highwater import consistency, current_token, use_token
        from project.models import Wish

        with use_token(""):
            Wish.objects.create(thing="x")
            with consistency("session"):
                assert Wish.objects.using("replica").count() == 1
            assert current_token().startswith("default:")


class Articles:
    """The article's second router: by a hash of the user, kept in a thread-local; it only reads."""

    local = threading.local()

    def db_for_read(self, model: Any, **hints: Any) -> str:
        """One of the replicas, or of those that there are not."""
        return random.choice(["primary"])

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """Everywhere."""
        return True


def said(*tags: str, **options: Any) -> set[str]:
    """The numbers of what the checks say."""
    return {
        str(message.id).removeprefix("highwater.")
        for message in run_checks(tags=list(tags) or ["highwater"], **options)
    }


class TestChecks:
    """`manage.py check`."""

    def test_a_site_as_it_should_be(self, site: None) -> None:
        assert said() - {"I001"} == set()

    def test_the_articles_routers(self, replica: str) -> None:
        with override_settings(DATABASE_ROUTERS=[Articles()]):
            assert said() - {"I001"} == {"E003", "E004", "W007", "W008", "W009"}
        with override_settings(DATABASE_ROUTERS=["project.article.PrimaryReplicaRouter"]):
            assert said() - {"I001"} == {"W008", "W009"}
        with override_settings(DATABASE_ROUTERS=[ROUTER]):
            assert said() - {"I001"} == set()

    def test_the_driver(self, site: None) -> None:
        assert ("I001" in said()) == (os.environ.get("DRIVER") == "psycopg2")

    def test_the_middlewares_place(self, site: None) -> None:
        from django.conf import settings

        others = [name for name in settings.MIDDLEWARE if name != MIDDLEWARE]
        with override_settings(MIDDLEWARE=others):
            assert "W001" in said()
        with override_settings(MIDDLEWARE=[*others, MIDDLEWARE]):
            assert "W002" in said()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"KOOKIE": "x"},
            {"CONSISTENCY": "sometimes"},
            {"MAX_AGE": 0},
            {"MAX_AGE": "1h"},
            {"KEY": "nowhere.at_all"},
            [],
        ],
    )
    def test_settings_that_mean_nothing(self, site: None, wrong: Any) -> None:
        with override_settings(HIGHWATER=wrong):
            assert "E001" in said()

    def test_databases(self, site: None) -> None:
        settings = connections.settings["direct"]
        settings.update(OPTIONS={"pool": True, "assume_role": "app"}, CONN_MAX_AGE=60)
        try:
            with override_settings(ASGI_APPLICATION="project.asgi"):
                assert {"W003", "W004"} <= said()
        finally:
            settings.update(OPTIONS={}, CONN_MAX_AGE=None)

    def test_deployment(self, site: None) -> None:
        assert "W006" not in said()
        assert "W006" in said("highwater", include_deployment_checks=True)
        with override_settings(SESSION_COOKIE_SECURE=True):
            assert "W006" not in said("highwater", include_deployment_checks=True)

    def test_connections(self, site: None) -> None:
        assert "W005" not in said("database", databases=["default"])
        assert "W005" in said("database", databases=["direct"])

    def test_an_older_highwater(self, site: None, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "W010" not in said("database", databases=["default", "direct"])
        monkeypatch.setattr("django_highwater.checks._OLDEST", (99, 0))
        assert "W010" in said("database", databases=["default"])
        assert "W010" not in said("database", databases=["direct"])

    def test_nobody_at_home(self, site: None) -> None:
        settings = {**connections.settings["default"], "PORT": "1"}
        connections.settings["away"] = settings
        try:
            assert "E002" in said("database", databases=["away"])
        finally:
            del connections["away"], connections.settings["away"]

    @pytest.mark.timeout(30)
    def test_somebody_at_home_who_never_answers(self, site: None) -> None:
        """Drivers wait as long as they are told: psycopg 3 for two minutes by itself, psycopg2 without end."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            options = {"PORT": str(silent.getsockname()[1]), "OPTIONS": {"connect_timeout": 2}}
            connections.settings["away"] = {**connections.settings["default"], **options}
            try:
                assert "E002" in said("database", databases=["away"])
                with pytest.raises(CommandError, match="console does not answer"):
                    call_command("highwater", "--database", "away", "status")
            finally:
                del connections["away"], connections.settings["away"]

    def test_by_the_command(self, site: None, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("check", "--database", "default", "--tag", "highwater", "--tag", "database")
        with override_settings(DATABASE_ROUTERS=[Articles()]), pytest.raises(SystemCheckError, match="db_for_write"):
            call_command("check")
        assert sys.stdout
