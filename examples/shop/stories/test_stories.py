"""The article's three stories, as a person sees them: with the article's router, and with Highwater."""

import os
import subprocess
import sys

import pytest
from playwright.sync_api import Page

from conftest import choose, log_in, picture, slide
from start import SHOP, Shop

BOTH = pytest.mark.parametrize("router", ["article", "highwater"])


@pytest.fixture(autouse=True)
def _begin(shop: Shop) -> None:
    shop.lab.primary.rows("TRUNCATE store_wish, store_message, django_session")
    shop.lab.settle()


@BOTH
def test_the_lightsaber(page: Page, router: str) -> None:
    """It is put on the wishlist: does the list show it?"""
    log_in(page)
    choose(page, router)
    for replica in ("replica1", "replica2"):
        slide(page, replica, 4)
    page.click("li:has-text('Lightsaber') button")
    page.wait_for_url("**/wishlist/")
    wishes = page.locator("#wishes").inner_text()
    picture(page, f"lightsaber-{router}")
    assert ("Lightsaber" in wishes) == (router == "highwater"), wishes
    if router == "article":
        assert "Nothing here" in wishes
        page.wait_for_function("async () => (await (await fetch('/wishlist/')).text()).includes('Lightsaber')")


@BOTH
def test_the_badge(page: Page, router: str) -> None:
    """A message comes, and one replica has it: is it there, or is it not?"""
    log_in(page)
    choose(page, router)
    slide(page, "replica2", 5)
    page.goto(page.url.partition("?")[0] + "messages/")
    page.fill("input[name=text]", "Your lightsaber is on its way.")
    page.click("#send")
    page.wait_for_function("() => window.counts && window.counts.length >= 1 && window.counts.includes(1)")
    page.wait_for_function("() => window.counts.length >= 8")
    counts = page.evaluate("window.counts.slice(window.counts.indexOf(1))")
    picture(page, f"badge-{router}")
    if router == "highwater":
        assert set(counts) == {1}
    else:
        assert 0 in counts, "it was there, and then it was not"


@BOTH
def test_the_login(page: Page, router: str) -> None:
    """The session lies in the database: is she still logged in when the next page comes?"""
    choose(page, router)
    for replica in ("replica1", "replica2"):
        slide(page, replica, 4)
    log_in(page)
    page.wait_for_load_state()
    picture(page, f"login-{router}")
    if router == "highwater":
        assert page.locator("#user").inner_text() == "ann"
        page.click("nav >> text=Wishlist")
        assert page.locator("#user").inner_text() == "ann"
    else:
        assert page.locator("#user").count() == 0
        for replica in ("replica1", "replica2"):
            slide(page, replica, 0)
        page.wait_for_timeout(1000)
        page.reload()
        assert page.locator("#user").count() == 0, "for good"


def test_the_admin_and_the_job(page: Page) -> None:
    """With Highwater: a product is added in the admin, shown in its list, wished for; the job's message comes."""
    for replica in ("replica1", "replica2"):
        slide(page, replica, 3)
    log_in(page, "admin")
    page.goto(page.url.partition("?")[0] + "admin/store/product/add/")
    page.fill("input[name=name]", "Babel fish")
    page.fill("input[name=cents]", "4200")
    page.click("input[name=_save]")
    assert "was added successfully" in page.locator(".messagelist").inner_text()
    assert page.locator("#result_list >> text=Babel fish").count() == 1
    page.goto(page.url.partition("admin")[0])
    page.click("li:has-text('Babel fish') button")
    page.wait_for_url("**/wishlist/")
    assert "Babel fish" in page.locator("#wishes").inner_text()
    page.wait_for_function("() => document.getElementById('badge').textContent === '1'")
    page.click("nav >> text=Messages")
    assert "The Babel fish on your wishlist is a good choice." in page.locator("#mail").inner_text()
    picture(page, "messages-highwater")


def test_its_own_tests_run_with_replicas_on(shop: Shop) -> None:
    """By Django's runner, in parallel, and by pytest-django; they have the one alias that a shop has."""
    own = {name: value for name, value in shop.environment.items() if not name.startswith("SHOP_RE")}
    own.pop("SHOP_PRIMARY_PORT")
    shop.lab.primary.rows("ALTER ROLE app CREATEDB")
    django = ["manage.py", "test", "--noinput"]
    pytest_django = ["-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--ds", "shop.settings", "store/tests"]
    for command in (django, [*django, "--parallel", "2"], pytest_django):
        done = subprocess.run([sys.executable, *command], cwd=SHOP, env=own, capture_output=True, text=True, timeout=60)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "Ran 10 tests" in said or "10 passed" in said, said
