"""Read-only transactions, requests in transactions, and waiting for replicas."""

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from django.db import InternalError, connection, transaction
from django.test import Client, TestCase

from django_highwater import read_only, wait_for_replicas
from django_highwater.seeing import recorded
from django_highwater.session import Session, entered
from harness.waiting import until
from watching import be_patient

Lag = Callable[..., Any]


def wishes() -> Any:
    """The manager."""
    from project.models import Wish

    return Wish.objects


class TestReadOnly:
    """Transactions that say that they only read."""

    def test_one_state_for_all_statements(self, site: None, lab: Any) -> None:
        from project.models import Wish

        with read_only():
            assert wishes().count() == 0
            Wish.objects.using("direct").create(thing="x")
            lab.settle()
            assert wishes().count() == 0
        assert wishes().count() == 1

    def test_without_snapshot_each_statement_sees_what_is_there(self, site: None, lab: Any) -> None:
        from project.models import Wish

        with read_only(snapshot=False):
            assert wishes().count() == 0
            Wish.objects.using("direct").create(thing="x")
            lab.settle()
            assert wishes().count() == 1

    def test_it_sees_what_its_session_wrote(self, site: None, lag: Lag) -> None:
        with lag():
            wishes().create(thing="x")
            with read_only():
                assert wishes().count() == 1

    def test_writing_fails(self, site: None) -> None:
        with pytest.raises(InternalError, match="read-only"), read_only():
            wishes().create(thing="x")
        wishes().create(thing="y")

    def test_what_comes_behind_is_as_ever(self, site: None) -> None:
        @read_only()
        def decorated() -> int:
            number: int = wishes().count()
            return number

        decorated()
        with transaction.atomic():
            wishes().create(thing="x")
            with connection.cursor() as cursor:
                cursor.execute("SHOW transaction_isolation")
                assert cursor.fetchone() == ("read committed",)
        with connection.cursor() as cursor:
            cursor.execute("SHOW default_transaction_read_only")
            assert cursor.fetchone() == ("off",)

    def test_what_is_fetched_bit_by_bit_is_on_a_replica(self, site: None, lab: Any) -> None:
        wishes().create(thing="x")
        lab.settle()
        be_patient()
        with recorded() as statements, read_only():
            assert [wish.thing for wish in wishes().iterator()] == ["x"]
        routed = [statement for statement in statements if statement.server]
        assert routed and not any(statement.is_on_primary for statement in routed)

    def test_an_error_within(self, site: None) -> None:
        with pytest.raises(ZeroDivisionError), read_only():
            wishes().count()
            raise ZeroDivisionError
        wishes().create(thing="x")

    def test_within_another_transaction_it_is_refused(self, site: None) -> None:
        with transaction.atomic(), pytest.raises(RuntimeError, match="durable"), read_only():
            pass

    def test_on_plain_postgresql(self, site: None) -> None:
        from project.models import Wish

        with read_only(using="direct"):
            assert Wish.objects.using("direct").count() == 0
        with pytest.raises(InternalError, match="read-only"), read_only(using="direct"):
            Wish.objects.using("direct").create(thing="x")


class TestReadOnlyInTestCase(TestCase):
    """Where everything is one transaction, it is a part of it that cannot write."""

    databases = frozenset(["default"])

    @pytest.fixture(autouse=True)
    def _site(self, site: None) -> None:
        """As for the others."""

    def test_it_reads_and_does_not_write(self) -> None:
        wishes().create(thing="x")
        with read_only():
            assert wishes().count() == 1
        with pytest.raises(InternalError, match="read-only"), read_only():
            wishes().create(thing="y")
        wishes().create(thing="z")
        assert wishes().count() == 2


class TestAtomicRequests:
    """Requests that are transactions begin on a standby while they only read."""

    @pytest.fixture(autouse=True)
    def _atomic(self, site: None) -> Any:
        connection.close()
        before = connection.settings_dict["ATOMIC_REQUESTS"]
        connection.execute_wrappers.clear()
        connection.settings_dict["ATOMIC_REQUESTS"] = True
        yield
        connection.settings_dict["ATOMIC_REQUESTS"] = before
        connection.execute_wrappers.clear()
        connection.close()

    def test_pages_that_read_do_so_on_standbys(self, client: Client) -> None:
        be_patient()
        with recorded() as statements:
            client.get("/wishes/")
            client.get("/wishes/")
        assert [statement.is_on_primary for statement in statements] == [False, False]

    def test_a_write_moves_it_and_the_next_page_shows_it(self, client: Client, lag: Lag) -> None:
        with lag():
            assert client.post("/wish/", {"thing": "x"}, follow=True).json() == ["x"]
            assert client.get("/touch/").json() == {"count": 1}
            assert client.get("/touch/").json() == {"count": 2}

    def test_what_changes_something_does_not_begin_on_a_standby(self, client: Client) -> None:
        """What it reads before it writes would be older than need be."""
        with recorded() as statements:
            client.post("/wishes/")
        assert [statement.is_on_primary for statement in statements] == [True]


class TestWaiting:
    """The honest replacement of remote_apply."""

    def test_all_show_it(self, site: None) -> None:
        wishes().create(thing="x")
        assert wait_for_replicas(timeout=5) == ()
        from project.models import Wish

        assert Wish.objects.using("replica1").count() == Wish.objects.using("replica2").count() == 1

    def test_who_does_not_is_named(self, site: None, lab: Any, lag: Lag) -> None:
        with lag(2):
            wishes().create(thing="x")
            (late,) = wait_for_replicas(timeout=0.2)
            assert late.startswith(f"{lab.standbys[1].name} (")
            assert wait_for_replicas(1, timeout=5) == ()

    def test_in_a_transaction_it_is_refused(self, site: None) -> None:
        with transaction.atomic(), pytest.raises(transaction.TransactionManagementError):
            wait_for_replicas()

    def test_plain_postgresql_knows_of_none(self, site: None) -> None:
        assert wait_for_replicas(using="direct") == ()


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_cancelled_wait_for_synchronous_standbys_is_told(
    site: None, lab: Any, caplog: pytest.LogCaptureFixture, in_transaction: bool
) -> None:
    """Such a commit looks like success: PostgreSQL's warning is all there is, and drivers keep it to themselves."""
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    cancelling = Thread(target=lambda: until("the commit to wait", lambda: lab.primary.rows(cancel)))
    with lab.primary.with_setting("synchronous_standby_names", "nobody"):
        # The checkpointer tells the others of the setting, when it hears of it itself.
        lab.primary.rows("CHECKPOINT")
        cancelling.start()
        with entered(Session()) as session:
            if in_transaction:
                with transaction.atomic():
                    wishes().create(thing="x")
            else:
                wishes().create(thing="x")
            assert session.gather()
        cancelling.join()
    told = [record.getMessage() for record in caplog.records if record.name == "django_highwater"]
    assert len(told) == 1
    assert told[0].startswith("default: canceling wait for synchronous replication")
    assert "committed locally" in told[0]
    assert wishes().count() == 1
