"""Within one page: what Django does not ask for as a write, and yet must not show the past of what the page wrote.

Nobody brings a position, and the site asks for no more than the level `session`; no standby shows anything new.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.cache import caches
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import OperationalError, connection, connections
from django.http import HttpResponse
from django.test import RequestFactory, override_settings

from django_highwater import consistency, use_token
from django_highwater.middleware import HighwaterMiddleware
from django_highwater.seeing import recorded
from harness.lab import Lab
from harness.waiting import until
from watching import patient

Lag = Callable[..., Any]
Page = Callable[[Callable[[], None]], None]
_CACHE = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "page_cache"}


@pytest.fixture
def page(lab: Lab, lag: Lag) -> Iterator[Page]:
    """Runs a story as a view. Before it others write, which the page is not shown: its reads are on standbys."""
    from project.models import Message

    def run(story: Callable[[], None]) -> None:
        def view(_request: Any) -> HttpResponse:
            with patient():
                assert Message.objects.count() == 0
            story()
            return HttpResponse()

        with lag():
            lab.primary.rows("INSERT INTO project_message (text, is_read) VALUES ('hello', false)")
            HighwaterMiddleware(view)(RequestFactory().get("/"))

    with override_settings(HIGHWATER={"CONSISTENCY": "session"}):
        yield run


def add_user(name: str = "ann") -> Any:
    """Somebody new."""
    from django.contrib.auth.models import User

    return User.objects.create_user(name, f"{name}@example.com", "secret")


def test_what_is_unique(page: Page) -> None:
    from django.contrib.auth.models import User

    def story() -> None:
        User(username="ann", password="x").full_clean()
        add_user()
        for check in ("validate_unique", "full_clean"):
            with pytest.raises(ValidationError, match="already exists"):
                getattr(User(username="ann", password="x"), check)()

    page(story)


def test_who_asks_for_little_sees_what_he_has_written(page: Page) -> None:
    """Not what others have: that is what was not asked for."""
    from project.models import Message, Wish

    def story() -> None:
        with override_settings(HIGHWATER={"CONSISTENCY": "eventual"}), use_token(""):
            assert Message.objects.count() == 0
            Wish.objects.create(thing="x")
            assert Wish.objects.count() == 1
            with consistency("eventual"):
                assert Wish.objects.count() == 0, "whoever says so in the code means it"

    page(story)


def test_what_a_foreign_key_may_name(page: Page) -> None:
    from project.models import Wish

    page(lambda: Wish(thing="x", owner=add_user()).full_clean())


def test_related_objects(page: Page) -> None:
    from django.contrib.auth.models import User

    from project.models import Wish

    def story() -> None:
        ann = add_user()
        ann.wish_set.create(thing="x")
        assert ann.wish_set.count() == 1
        (again,) = User.objects.prefetch_related("wish_set").filter(wish__thing="x")
        assert [wish.thing for wish in again.wish_set.all()] == ["x"]
        assert Wish.objects.select_related("owner").get().owner == ann
        assert Wish.objects.defer("thing").get().thing == "x"

    page(story)


@pytest.fixture
def replica(site: None) -> Iterator[Callable[[str], None]]:
    """The alias that a project has kept, as a database of this name."""

    def keep(name: str) -> None:
        settings = {**connections.settings["default"], "NAME": name, "TEST": {"MIRROR": "default"}}
        connections.settings["replica"] = settings

    with override_settings(DATABASE_ROUTERS=["django_highwater.router.HighwaterRouter"]):
        yield keep
    connections["replica"].close()
    del connections["replica"], connections.settings["replica"]


def test_related_objects_by_an_alias_for_reading(page: Page, replica: Callable[[str], None]) -> None:
    replica("shop")

    def story() -> None:
        with recorded() as statements, patient("replica"):
            assert get_user_model().objects.using("replica").count() == 0
        assert not any(statement.is_on_primary for statement in statements if statement.sql.startswith("SELECT"))
        ann = add_user()
        ann.wish_set.create(thing="x")
        assert ann.wish_set.using("replica").count() == 1
        assert type(ann).objects.using("replica").get().wish_set.get().thing == "x"
        ann.wish_set.using("replica").update(thing="y")
        assert ann.wish_set.get().thing == "y"

    page(story)


def test_related_objects_by_an_alias_of_replicas_alone(page: Page, replica: Callable[[str], None]) -> None:
    """Better an error than the past, and the primary is out of the question."""
    replica("shop@replica")

    def story() -> None:
        ann = add_user()
        with pytest.raises(OperationalError, match="no standby is fresh enough"):
            ann.wish_set.using("replica").count()
        with consistency("eventual"):
            assert ann.wish_set.using("replica").count() == 0
        assert ann.wish_set.count() == 0

    page(story)


def test_what_is_refreshed(lab: Lab, page: Page) -> None:
    from project.models import Wish

    wish = Wish.objects.create(thing="x")

    def story() -> None:
        Wish.objects.filter(pk=wish.pk).update(thing="y")
        wish.refresh_from_db()
        assert wish.thing == "y"
        Wish.objects.filter(pk=wish.pk).update(thing="z")
        async_to_sync(wish.arefresh_from_db)()
        assert wish.thing == "z"

    page(story)


def test_counts_and_sums(page: Page) -> None:
    from django.db.models import Count

    from project.models import Wish

    def story() -> None:
        assert not Wish.objects.exists()
        Wish.objects.bulk_create([Wish(thing="x"), Wish(thing="y")])
        assert Wish.objects.exists()
        assert Wish.objects.aggregate(count=Count("*")) == {"count": 2}
        assert [wish.thing for wish in Wish.objects.raw("SELECT * FROM project_wish ORDER BY thing")] == ["x", "y"]
        Wish.objects.filter(thing="x").delete()
        assert Wish.objects.count() == 1

    page(story)


def test_content_types(page: Page) -> None:
    from django.contrib.contenttypes.models import ContentType

    def story() -> None:
        made = ContentType.objects.create(app_label="project", model="page")
        ContentType.objects.clear_cache()
        try:
            assert ContentType.objects.get_by_natural_key("project", "page") == made
            assert ContentType.objects.get_for_id(made.pk) == made
        finally:
            made.delete()
            ContentType.objects.clear_cache()

    page(story)


def test_permissions(lab: Lab, page: Page) -> None:
    """The backend reads them once for each object of a user."""
    from django.contrib.auth import authenticate
    from django.contrib.auth.models import Group, Permission, User

    names = ("add_wish", "change_wish")
    # The tables are emptied for each test, and those of permissions with them.
    call_command("migrate", verbosity=0)
    own, of_group = (Permission.objects.get(codename=name) for name in names)

    def allowed(user: Any) -> list[bool]:
        again = User.objects.get(pk=user.pk)
        return [again.has_perm(f"project.{name}") for name in names]

    def story() -> None:
        ann = add_user()
        assert authenticate(username="ann", password="secret") == ann
        assert allowed(ann) == [False, False]
        ann.user_permissions.add(own)
        assert allowed(ann) == [True, False]
        editors = Group.objects.create(name="editors")
        editors.permissions.add(of_group)
        ann.groups.add(editors)
        assert allowed(ann) == [True, True]
        ann.user_permissions.clear()
        editors.permissions.remove(of_group)
        assert allowed(ann) == [False, False]

    page(story)


def test_sessions(page: Page) -> None:
    from django.contrib.sessions.backends.db import SessionStore

    def story() -> None:
        store = SessionStore()
        store["seen"] = 1
        store.save()
        assert SessionStore(store.session_key).load() == {"seen": 1}
        assert store.exists(store.session_key)
        store.flush()
        assert not SessionStore().exists(store.session_key)

    page(story)


@pytest.fixture
def cache(lab: Lab, site: None) -> Iterator[Any]:
    """A cache in the database, known to all."""
    with override_settings(CACHES={"default": _CACHE}):
        call_command("createcachetable", verbosity=0)
        lab.settle()
        until("standbys to be asked for it", lambda: not _on_primary(lambda: caches["default"].get("x")))
        yield caches["default"]
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE page_cache")


def _on_primary(read: Callable[[], Any]) -> bool:
    with recorded() as statements:
        read()
    return any(statement.is_on_primary for statement in statements)


def test_a_cache_in_the_database(cache: Any, page: Page) -> None:
    def story() -> None:
        assert cache.get("x") is None
        cache.set("x", 1)
        assert cache.get("x") == 1
        assert not cache.add("x", 2)
        assert cache.incr("x") == 2
        assert cache.get_many(["x", "y"]) == {"x": 2}
        assert "x" in cache
        cache.delete("x")
        assert cache.get("x") is None

    page(story)
