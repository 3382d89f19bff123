"""The article's stories, and what its readers ran into: with its router, and with Highwater. The lag is real."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from django_highwater.seeing import recorded
from harness.waiting import until
from watching import until_read_on_standby

Lag = Callable[..., Any]

USER = {"name": "ann", "password": "secret"}


def add_user() -> Any:
    """Somebody who can log in, known to all servers."""
    from django.contrib.auth.models import User

    return User.objects.db_manager("direct").create_superuser("ann", "ann@example.com", "secret")


class TestWishlist:
    """I saved it, and it is gone."""

    def test_it_is_there(self, client: Client, lag: Lag) -> None:
        with lag():
            assert client.post("/wish/", {"thing": "lightsaber"}, follow=True).json() == ["lightsaber"]

    def test_it_is_there_when_a_transaction_wrote_it(self, client: Client, lag: Lag) -> None:
        with lag():
            assert client.post("/wish/atomic/", {"thing": "lightsaber"}, follow=True).json() == ["lightsaber"]

    def test_it_is_there_by_another_process(self, client: Client, lag: Lag) -> None:
        from django.db import connection

        with lag():
            client.post("/wish/", {"thing": "lightsaber"})
            connection.close()
            assert client.get("/wishes/").json() == ["lightsaber"]

    def test_it_is_gone_with_the_articles_router(self, client: Client, lag: Lag, article: None) -> None:
        with lag():
            assert client.post("/wish/", {"thing": "lightsaber"}, follow=True).json() == []


class TestBadge:
    """It was there, and now it is not."""

    @staticmethod
    def _counts(client: Client, lab: Any, lag: Lag) -> list[int]:
        """What twenty page views in a row show while one replica lags, and the other has the new message."""
        from project.models import Message

        client.get("/touch/")
        lab.settle()
        with lag(2):
            Message.objects.using("direct").create(text="hello")
            flushed = lab.primary.value("SELECT pg_current_wal_flush_lsn()::text")
            until("replica 1 to have it", lambda: lab.standbys[0].has_replayed(flushed))
            return [client.get("/unread/").json()["unread"] for _ in range(20)]

    def test_it_does_not_lie(self, client: Client, lab: Any, lag: Lag) -> None:
        counts = self._counts(client, lab, lag)
        assert counts == sorted(counts)

    def test_it_lies_with_the_articles_router(self, client: Client, lab: Any, lag: Lag, article: None) -> None:
        counts = self._counts(client, lab, lag)
        assert counts != sorted(counts)


class TestLogin:
    """The session lies in the database: whoever reads it from the past logs its owner out for good."""

    def test_one_stays_logged_in(self, client: Client, lab: Any, lag: Lag) -> None:
        add_user()
        with lag():
            assert client.post("/login/", USER, follow=True).json() == {"name": "ann"}
            assert client.get("/me/").json() == {"name": "ann"}

    def test_one_is_logged_out_with_the_articles_router(
        self, client: Client, lab: Any, lag: Lag, article: None
    ) -> None:
        add_user()
        with lag():
            client.post("/login/", USER)
            assert client.get("/me/").status_code == 302
        lab.settle()
        assert client.get("/me/").status_code == 302, "for good"

    def test_what_the_session_middleware_saves_counts(self, client: Client, lag: Lag) -> None:
        """It saves when the view, and its transaction, are over."""
        client.get("/touch/")
        with lag():
            assert client.get("/touch/").json() == {"count": 2}
            assert client.get("/touch/").json() == {"count": 3}


class TestOneView:
    """Within one view, without a request."""

    def test_what_was_created_is_found(self, site: None, lag: Lag) -> None:
        from project.models import Wish

        with lag():
            wish = Wish.objects.create(thing="lightsaber")
            assert Wish.objects.get(pk=wish.pk) == wish

    def test_it_is_not_with_the_articles_router(self, lag: Lag, article: None) -> None:
        from project.models import Wish

        with lag():
            wish = Wish.objects.create(thing="lightsaber")
            with pytest.raises(Wish.DoesNotExist):
                Wish.objects.get(pk=wish.pk)

    def test_what_was_saved_is_refreshed(self, site: None, lag: Lag) -> None:
        from project.models import Wish

        wish = Wish.objects.create(thing="lightsaber")
        with lag():
            Wish.objects.filter(pk=wish.pk).update(thing="blaster")
            wish.refresh_from_db()
            assert wish.thing == "blaster"

    def test_it_is_not_with_the_articles_router_either(self, lab: Any, lag: Lag, article: None) -> None:
        from project.models import Wish

        wish = Wish.objects.create(thing="lightsaber")
        lab.settle()
        with lag():
            Wish.objects.filter(pk=wish.pk).update(thing="blaster")
            wish.refresh_from_db()
            assert wish.thing == "lightsaber"

    def test_a_new_row_is_a_valid_choice(self, site: None, lag: Lag) -> None:
        from project.models import Wish

        with lag():
            Wish(thing="lightsaber", owner=add_user()).full_clean()

    def test_a_new_row_is_no_valid_choice_with_the_articles_router(self, lag: Lag, article: None) -> None:
        from django.core.exceptions import ValidationError

        from project.models import Wish

        with lag(), pytest.raises(ValidationError, match="not a valid choice"):
            Wish(thing="lightsaber", owner=add_user()).full_clean()

    def test_a_transaction_sees_its_own_rows(self, site: None, lag: Lag) -> None:
        from django.db import transaction

        from project.models import Wish

        with lag(), transaction.atomic():
            Wish.objects.create(thing="lightsaber")
            assert Wish.objects.count() == 1

    def test_a_transaction_does_not_with_the_articles_router(self, lag: Lag, article: None) -> None:
        from django.db import transaction

        from project.models import Wish

        with lag(), transaction.atomic(using="direct"):
            Wish.objects.create(thing="lightsaber")
            assert Wish.objects.count() == 0

    def test_get_or_create_and_locks(self, site: None, lag: Lag) -> None:
        from django.db import transaction

        from project.models import Wish

        with lag():
            first, created = Wish.objects.get_or_create(thing="lightsaber")
            again, created_again = Wish.objects.get_or_create(thing="lightsaber")
            assert (first, created, created_again) == (again, True, False)
            with transaction.atomic():
                assert list(Wish.objects.select_for_update()) == [first]
            assert list(Wish.objects.all()) == [first], "the read after the lock is not older"

    def test_a_read_after_the_primary_is_older_with_the_articles_router(self, lag: Lag, article: None) -> None:
        from project.models import Wish

        with lag():
            Wish.objects.get_or_create(thing="lightsaber")
            assert not Wish.objects.exists()

    def test_iterators(self, site: None, lag: Lag) -> None:
        """Server-side cursors: WITH HOLD where there is no transaction."""
        from django.db import transaction

        from project.models import Wish

        with lag():
            Wish.objects.bulk_create(Wish(thing=str(number)) for number in range(50))
            assert len(list(Wish.objects.iterator(chunk_size=7))) == 50
            with transaction.atomic():
                assert len(list(Wish.objects.iterator(chunk_size=7))) == 50
            assert Wish.objects.count() == 50


def test_a_visitor_without_a_position_never_steps_back(client: Client, lab: Any, lag: Lag) -> None:
    """He gets no cookie, and sees what was committed before he asked, whichever replica is how late."""
    from project.models import Wish

    with lag(2):
        for count in range(1, 16):
            Wish.objects.using("direct").create(thing="x")
            pages = [client.get("/wishes/") for _ in range(2)]
            assert [len(page.json()) for page in pages] == [count, count]
            assert not client.cookies


def test_a_visitor_steps_back_with_the_articles_router(client: Client, lab: Any, lag: Lag, article: None) -> None:
    from project.models import Wish

    with lag(2):
        Wish.objects.using("direct").create(thing="x")
        flushed = lab.primary.value("SELECT pg_current_wal_flush_lsn()::text")
        until("replica 1 to have it", lambda: lab.standbys[0].has_replayed(flushed))
        counts = [len(client.get("/wishes/").json()) for _ in range(20)]
    assert counts != sorted(counts)


def test_the_admin_shows_what_it_has_added(client: Client, lag: Lag) -> None:
    add_user()
    with lag():
        client.post("/login/", USER)
        page = client.post("/admin/project/wish/add/", {"thing": "lightsaber", "owner": ""}, follow=True)
        assert page.redirect_chain[-1][0].endswith("/admin/project/wish/")
        assert "1 wish" in page.content.decode()


def test_the_admin_logs_one_out_with_the_articles_router(client: Client, lag: Lag, article: None) -> None:
    add_user()
    with lag():
        client.post("/login/", USER)
        page = client.post("/admin/project/wish/add/", {"thing": "lightsaber", "owner": ""}, follow=True)
        assert "/admin/login/" in page.redirect_chain[-1][0]


def test_reads_are_on_standbys_all_the_same(client: Client, lab: Any, site: None) -> None:
    client.post("/wish/", {"thing": "lightsaber"})
    until_read_on_standby(lambda: client.get("/wishes/"))
    with recorded() as statements:
        for _ in range(10):
            client.get("/wishes/")
    assert [statement.level for statement in statements] == ["session"] * 10
    assert [statement.server for statement in statements if statement.is_on_primary] == []
    assert {statement.server for statement in statements} <= {server.name for server in lab.standbys}
