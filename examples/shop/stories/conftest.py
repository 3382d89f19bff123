"""The shop, open, and a browser in front of it."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from start import Shop, running

PICTURES = Path(os.environ.get("SHOP_PICTURES", "target/shop"))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One shop for all stories."""
    folder = tmp_path_factory.mktemp("shop")
    with running(_free_port(), folder, folder / "server.log") as shop:
        yield shop
        log = (folder / "server.log").read_text()
        assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a screen."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "there is no Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, shop: Shop) -> Iterator[Any]:
    """A browser that nobody has used, and replicas that do not lag."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.goto(shop.url)
    yield page
    page.goto(shop.url)
    for replica in ("replica1", "replica2"):
        slide(page, replica, 0)
    context.close()
    shop.lab.settle()


def slide(page: Page, replica: str, seconds: float) -> None:
    """Move a slider, and wait until the replica obeys."""
    slider = page.locator(f"#{replica}")
    slider.evaluate(
        "(it, seconds) => { delete it.dataset.set; it.value = seconds; it.dispatchEvent(new Event('change')); }",
        seconds,
    )
    page.wait_for_selector(f"#{replica}[data-set]")


def choose(page: Page, router: str) -> None:
    """Put the switch."""
    page.click(f".switch button[value={router}]")
    page.wait_for_selector(f".switch button[value={router}].on")


def log_in(page: Page, name: str = "ann") -> None:
    """Log in by the form; where that leads is the story's affair."""
    page.click("#login")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", "secret")
    page.click("main button")


def picture(page: Page, name: str) -> None:
    """Keep what the browser shows."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
