"""What the shop does."""

from typing import Any

from django.contrib.auth.models import User
from django.test import AsyncClient, TestCase, TransactionTestCase
from django.urls import reverse

from store.jobs import praise
from store.models import Message, Product, Wish


class Wishing(TestCase):
    """The wishlist."""

    @classmethod
    def setUpTestData(cls) -> None:
        """Somebody, and something to wish for."""
        cls.ann = User.objects.create_user("ann", password="secret")
        cls.saber = Product.objects.create(name="Lightsaber", cents=49_900)

    def setUp(self) -> None:
        """She is logged in."""
        self.client.force_login(self.ann)

    def test_products_are_shown(self) -> None:
        self.assertContains(self.client.get("/"), "Lightsaber")

    def test_what_is_wished_for_is_on_the_list(self) -> None:
        with self.settings(TASKS={"default": {"BACKEND": "django_tasks.backends.dummy.DummyBackend"}}):
            page = self.client.post(reverse("wish", args=[self.saber.pk]), follow=True)
        self.assertRedirects(page, "/wishlist/")
        self.assertContains(page, "Lightsaber")

    def test_a_wish_can_be_forgotten(self) -> None:
        wish = Wish.objects.create(owner=self.ann, product=self.saber)
        self.assertContains(self.client.post(reverse("forget", args=[wish.pk]), follow=True), "Nothing here")

    def test_lists_are_ones_own(self) -> None:
        bob = User.objects.create_user("bob")
        Wish.objects.create(owner=bob, product=self.saber)
        self.assertContains(self.client.get("/wishlist/"), "Nothing here")
        self.assertEqual(self.client.get("/api/wishes/").json(), [])

    def test_strangers_are_asked_to_log_in(self) -> None:
        self.client.logout()
        self.assertRedirects(self.client.get("/wishlist/"), "/accounts/login/?next=/wishlist/")

    def test_the_api(self) -> None:
        made = self.client.post("/api/wishes/", {"product": self.saber.pk}, content_type="application/json")
        self.assertEqual(made.status_code, 201)
        self.assertEqual([wish["name"] for wish in self.client.get("/api/wishes/").json()], ["Lightsaber"])

    def test_the_job(self) -> None:
        wish = Wish.objects.create(owner=self.ann, product=self.saber)
        praise.func(wish.pk)
        self.assertContains(self.client.get("/messages/"), "Lightsaber on your wishlist")


class Messages(TransactionTestCase):
    """Messages and their badge, committed for real."""

    def setUp(self) -> None:
        """She is logged in."""
        self.ann = User.objects.create_user("ann", password="secret")
        self.client.force_login(self.ann)

    def _unread(self) -> Any:
        return self.client.get("/unread/").json()["unread"]

    def test_the_badge_counts(self) -> None:
        self.assertEqual(self._unread(), 0)
        self.client.post("/messages/", {"text": "hello"})
        self.assertEqual(self._unread(), 1)
        self.client.post(reverse("read", args=[Message.objects.get().pk]))
        self.assertEqual(self._unread(), 0)

    async def test_asynchronously(self) -> None:
        browser = AsyncClient()
        await browser.aforce_login(self.ann)
        await Message.objects.acreate(to=self.ann, text="hello")
        self.assertEqual((await browser.get("/unread/")).json(), {"unread": 1})

    def test_logging_in(self) -> None:
        self.client.logout()
        self.client.post("/accounts/login/", {"username": "ann", "password": "secret"})
        self.assertContains(self.client.get("/wishlist/"), "ann")
