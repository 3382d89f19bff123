"""Levels: for blocks, functions, views, querysets, managers and tables."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.template.response import SimpleTemplateResponse
from django.test import Client, RequestFactory, override_settings
from django.views import View

from django_highwater import consistency, pins, primary, read_only
from django_highwater.querysets import ConsistencyManager
from django_highwater.seeing import recorded
from django_highwater.views import ConsistencyMixin
from watching import be_patient

Lag = Callable[..., Any]


def in_project() -> Any:
    """The models."""
    from project import models

    return models


def count() -> int:
    """One read."""
    number: int = in_project().Wish.objects.count()
    return number


def levels(run: Callable[[], Any]) -> list[str | None]:
    """The level of each statement."""
    with recorded() as statements:
        run()
    return [statement.level for statement in statements]


class TestBlocks:
    """Context manager and decorator."""

    def test_the_innermost_counts(self, site: None) -> None:
        def run() -> None:
            with consistency("eventual"):
                count()
                with consistency("strong"):
                    count()
                    with primary():
                        count()
                count()
            count()

        assert levels(run) == ["eventual", "strong", "primary", "eventual", None]

    def test_the_same_block_twice(self, site: None) -> None:
        block = consistency("eventual")

        def run() -> None:
            with block, consistency("strong"), block:
                count()
            count()

        assert levels(run) == ["eventual", None]

    def test_an_error_ends_it(self, site: None) -> None:
        def run() -> None:
            with pytest.raises(ZeroDivisionError), consistency("eventual"):
                raise ZeroDivisionError
            count()

        assert levels(run) == [None]

    def test_each_kind_of_function(self, site: None) -> None:
        @consistency("eventual")
        def plain() -> None:
            count()

        @consistency("bounded", max_lag=2)
        def generator() -> Any:
            count()
            yield 1
            count()

        @primary()
        async def coroutine() -> None:
            await sync_to_async(count)()

        @primary()
        async def stream() -> Any:
            await sync_to_async(count)()
            yield 1

        async def consume() -> None:
            await coroutine()
            async for _ in stream():
                await sync_to_async(count)()

        def run() -> None:
            plain()
            for _ in generator():
                count()
            async_to_sync(consume)()

        assert levels(run) == ["eventual", "bounded", None, "bounded", "primary", "primary", None]

    def test_generators_are_driven_as_without(self, site: None) -> None:
        """What is sent, thrown and closed arrives within, in the block."""
        told: list[object] = []

        @consistency("eventual")
        def generator() -> Any:
            try:
                told.append((yield 1))
                yield 2
            except ValueError as error:
                told.append(error)
                yield 3
            finally:
                count()
                told.append("closed")

        @primary()
        async def stream() -> Any:
            try:
                told.append((yield 1))
                yield 2
            except ValueError as error:
                told.append(error)
                yield 3
            finally:
                await sync_to_async(count)()
                told.append("closed")

        async def drive() -> None:
            items = stream()
            assert [await anext(items), await items.asend("sent")] == [1, 2]
            assert await items.athrow(mistake) == 3
            await items.aclose()

        mistake = ValueError()

        def run() -> None:
            items = generator()
            assert [next(items), items.send("sent"), items.throw(mistake)] == [1, 2, 3]
            items.close()
            async_to_sync(drive)()

        assert levels(run) == ["eventual", "primary"]
        assert told == ["sent", mistake, "closed"] * 2

    def test_tasks_do_not_see_one_another(self, site: None) -> None:
        async def read(level: Any) -> None:
            with consistency(level):
                for _ in range(3):
                    await in_project().Wish.objects.acount()
                    await asyncio.sleep(0)

        async def both() -> None:
            await asyncio.gather(read("eventual"), read("strong"))

        assert sorted(map(str, levels(async_to_sync(both)))) == ["eventual"] * 3 + ["strong"] * 3

    def test_max_lag_is_said(self, site: None) -> None:
        with consistency("bounded", max_lag=1.5):
            count()
            raw = connection.connection.cursor()
            raw.execute("SHOW highwater.max_lag")
            assert raw.fetchone()[0] == "1500ms"
        count()
        raw.execute("SHOW highwater.max_lag")
        assert raw.fetchone()[0] != "1500ms"

    @pytest.mark.parametrize("wrong", [("sometimes", None), ("strong", 1.0), ("bounded", 0.0), ("bounded", -1.0)])
    def test_what_means_nothing_is_refused(self, wrong: tuple[Any, float | None]) -> None:
        with pytest.raises(ValueError, match="level|max_lag"):
            consistency(wrong[0], max_lag=wrong[1])


class TestRoutes:
    """Where it leads to."""

    def test_eventual_shows_the_past_and_primary_does_not(self, site: None, lag: Lag) -> None:
        with lag():
            in_project().Wish.objects.create(thing="x")
            with consistency("eventual"):
                # The connection's session wrote; that is left behind, for this is what was asked for.
                assert count() == 0
            with primary():
                assert count() == 1

    def test_an_advisory_lock_is_taken_on_the_primary(self, site: None) -> None:
        with recorded() as statements, connection.cursor() as cursor, consistency("eventual"):
            cursor.execute("SELECT pg_advisory_lock(7)")
            cursor.execute("SELECT pg_advisory_unlock(7)")
            assert cursor.fetchone() == (True,)
        assert [statement.is_on_primary for statement in statements] == [True, True]

    def test_a_function_that_writes_is_a_write(self, client: Any, lab: Any, lag: Lag) -> None:
        from django_highwater import current_token, use_token

        lab.primary.rows("DELETE FROM counter WHERE id = 7")
        lab.primary.rows("INSERT INTO counter VALUES (7, 0)")
        with lag(), use_token("") as session:
            with connection.cursor() as cursor:
                cursor.execute("SELECT bump(7)")
            assert session.wrote
            token = current_token()
            connection.close()
            with use_token(token), connection.cursor() as cursor:
                cursor.execute("SELECT v FROM counter WHERE id = 7")
                assert cursor.fetchone() == (1,)

    def test_read_only_transactions_run_on_standbys(self, site: None, lag: Lag) -> None:
        from django.db import transaction

        be_patient()
        with recorded() as statements:
            with transaction.atomic():
                count()
            with read_only():
                count()
                count()
        assert [statement.is_on_primary for statement in statements] == [True, False, False]
        assert len({statement.server for statement in statements}) == 2


class TestQuerySets:
    """One queryset, and managers."""

    @pytest.fixture(autouse=True)
    def _wishes(self, site: None, lab: Any) -> None:
        in_project().Wish.objects.create(thing="x")
        # Some of them read what may be late.
        lab.settle()

    def test_whatever_runs_it(self) -> None:
        manager = ConsistencyManager()
        manager.model = in_project().Wish
        wishes = manager.all().consistency("eventual")

        def run() -> None:
            list(wishes)
            wishes.all().count()
            wishes.all().exists()
            wishes.all().first()
            wishes.filter(thing="x").order_by("id").values_list("thing")[:1].get()
            list(wishes.iterator())
            wishes.distinct().aggregate(Count("id"))
            list(wishes.union(wishes))
            wishes.explain()

        found = levels(run)
        assert len(found) == 9
        assert set(found) == {"eventual"}
        assert levels(lambda: list(manager.all())) == [None]

    def test_asynchronously(self) -> None:
        manager = ConsistencyManager()
        manager.model = in_project().Wish

        async def run() -> None:
            assert [wish.thing async for wish in manager.all().consistency("eventual")] == ["x"]
            assert await manager.all().consistency("strong").acount() == 1

        assert levels(async_to_sync(run)) == ["eventual", "strong"]

    def test_it_counts_more_than_a_block(self) -> None:
        manager = ConsistencyManager.at("strong")
        manager.model = in_project().Wish

        def run() -> None:
            with consistency("eventual"):
                manager.count()
                manager.all().consistency("bounded", max_lag=1.0).count()

        assert levels(run) == ["strong", "bounded"]

    def test_a_proxy_model_has_a_level_of_its_own(self) -> None:
        """The article's second idea: one's own profile fresh, those of others as they come."""
        from project.models import OwnWish, Wish

        def run() -> None:
            OwnWish.objects.count()
            Wish.objects.count()

        with consistency("eventual"):
            assert levels(run) == ["strong", "eventual"]

    def test_relations_take_the_manager_along(self) -> None:
        from django.contrib.auth.models import User

        ann = User.objects.create(username="ann")
        assert levels(lambda: list(ann.note_set.all())) == ["eventual"]

    def test_writing_is_not_its_affair(self) -> None:
        from project.models import OwnWish

        with recorded() as statements:
            OwnWish.objects.filter(thing="x").update(thing="y")
            OwnWish.objects.filter(thing="y").delete()
        assert all(statement.is_on_primary for statement in statements if not statement.sql.startswith("SELECT"))


class TestTables:
    """The article's first idea: a model whose reads go to the primary, wherever they come from."""

    def test_wherever_it_turns_up(self, site: None) -> None:
        from project.models import Balance, Wish

        wish = Wish.objects.create(thing="x")
        Balance.objects.create(wish=wish, cents=1)

        def run() -> None:
            list(Balance.objects.all())
            list(wish.balance_set.all())
            list(Wish.objects.filter(balance__cents=1))
            with connection.cursor() as cursor:
                cursor.execute("select * from project_balance")
            with consistency("eventual"):
                Balance.objects.count()
            list(Wish.objects.all())

        assert levels(run) == ["primary"] * 5 + [None]

    def test_in_the_admin(self, client: Client, lab: Any, lag: Lag) -> None:
        """Its pages are for somebody with a position, who by himself would be shown what others did a little late."""
        from django.contrib.auth.models import User

        from project.models import Balance, Wish

        client.force_login(User.objects.create_superuser("ann"))
        balance = Balance.objects.create(wish=Wish.objects.create(thing="x"), cents=101)
        place = "/admin/project/balance/"
        with override_settings(HIGHWATER={"CONSISTENCY": "eventual"}), lag():
            lab.primary.rows("UPDATE project_balance SET cents = 202")
            with recorded() as statements:
                pages = [client.get(f"{place}{path}").content.decode() for path in ("", f"{balance.pk}/change/")]
            assert "202" in pages[0]
            assert 'value="202"' in pages[1]
        own = [statement for statement in statements if "project_balance" in statement.sql]
        assert {statement.level for statement in own} == {"primary"}
        assert all(statement.is_on_primary for statement in own)
        assert any(not statement.is_on_primary for statement in statements), "all else is as late as it is"

    def test_a_name_that_only_contains_it_is_another(self, site: None) -> None:
        assert pins.wish('SELECT 1 FROM "my_project_balance"') is None
        assert pins.wish("SELECT 1 FROM project_balance_history") is None
        assert pins.wish("SELECT 1 FROM public.project_balance") is not None

    def test_however_it_is_written(self, site: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """What it cannot read may name any table."""
        from project.models import Wish

        assert pins.wish("SELECT 1 FROM PROJECT_Balance") is not None
        assert pins.wish(object()) is not None
        monkeypatch.setattr(Wish, "highwater_consistency", "strong", raising=False)
        monkeypatch.setattr(Wish._meta, "db_table", 'shop"."wish')
        try:
            pins.collect()
            for name in ("shop.wish", '"shop"."wish"', 'Shop."wish"'):
                found = pins.wish(f"SELECT 1 FROM {name}")
                assert found and found.level == "strong", name
            assert pins.wish("SELECT 1 FROM shop_wish") is None
        finally:
            monkeypatch.undo()
            pins.collect()

    def test_less_than_the_default_is_refused(self, site: None, monkeypatch: pytest.MonkeyPatch) -> None:
        from project.models import Wish

        monkeypatch.setattr(Wish, "highwater_consistency", "eventual", raising=False)
        with pytest.raises(ImproperlyConfigured, match="strong and primary"):
            pins.collect()


class TestViews:
    """Decorated, and with the mixin."""

    def test_what_the_template_reads_later(self, site: None) -> None:
        template: Any = engines["django"].from_string("{{ count }}")

        def view(_request: HttpRequest) -> SimpleTemplateResponse:
            return SimpleTemplateResponse(template, {"count": count})

        def run() -> None:
            response = consistency("eventual")(view)(HttpRequest())
            assert response.render().content == b"0"

        assert levels(run) == ["eventual"]

    def test_the_mixin(self, site: None) -> None:
        class Sync(ConsistencyMixin, View):
            consistency_level = "eventual"
            consistency_levels = {"post": "primary"}

            def get(self, request: HttpRequest) -> HttpResponse:
                return HttpResponse(str(count()))

            post = get

        class Async(ConsistencyMixin, View):
            consistency_level = "eventual"

            async def get(self, request: HttpRequest) -> HttpResponse:
                return HttpResponse(str(await sync_to_async(count)()))

        def run() -> None:
            Sync.as_view()(RequestFactory().get("/"))
            Sync.as_view()(RequestFactory().post("/"))
            async_to_sync(Async.as_view())(RequestFactory().get("/"))

        assert levels(run) == ["eventual", "primary", "eventual"]

    def test_viewsets_by_action(self, site: None) -> None:
        from rest_framework.response import Response
        from rest_framework.viewsets import ViewSet

        class Wishes(ConsistencyMixin, ViewSet):
            consistency_levels = {"list": "eventual"}

            def list(self, request: Any) -> Response:
                return Response(count())

            def create(self, request: Any) -> Response:
                return Response(count())

        def run() -> None:
            view = Wishes.as_view({"get": "list", "post": "create"})
            view(RequestFactory().get("/"))
            view(RequestFactory().post("/"))

        assert levels(run) == ["eventual", None]
