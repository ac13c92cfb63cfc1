# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real browser, over a server with a device that reports."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.bundles import ModelRecipe
from tests.support.fleet_site import Site

pytestmark = [pytest.mark.slow, pytest.mark.chromium]
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as tools:
        browser = tools.chromium.launch(
            executable_path="/usr/bin/chromium", args=list(QUIET)
        )
        yield browser
        browser.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, stack)


def listen(page: Page) -> list[str]:
    """Collect what the browser complains of, and requests that leave the server."""
    complaints: list[str] = []
    page.on(
        "console",
        lambda one: complaints.append(one.text) if one.type == "error" else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda one: (
            None
            if one.url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:"))
            else complaints.append(one.url)
        ),
    )
    return complaints


def test_an_operator_reads_overview_device_and_drift(
    site: Site, browser: Browser, tmp_path: Path
) -> None:
    for home in site.homes.values():
        home.start()
    site.await_serving(site.publish(ModelRecipe(seed=1)))
    site.homes["left"].await_produced(200)
    address = site.server.addresses["dashboard_url"]
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints = listen(page)

    page.goto(address)
    expect(page.get_by_text("Devices online")).to_be_visible()
    expect(page.get_by_text("2 / 2")).to_be_visible()
    page.screenshot(path=tmp_path / "overview.png")
    page.locator('a[href="/device/left"]').first.click()
    expect(page.get_by_text("Declared lost")).to_be_visible()
    expect(page.get_by_text("committed").first).to_be_visible()
    page.screenshot(path=tmp_path / "device.png")
    page.get_by_role("link", name="Drift").click()
    expect(page.get_by_text("Fewer than 8 cannot show a common cause")).to_be_visible()
    page.screenshot(path=tmp_path / "drift.png")

    assert complaints == []


def test_without_the_token_nothing_is_shown(site: Site) -> None:
    address = site.server.addresses["dashboard_url"].split("?")[0]

    for path in ("", "devices", "drift", "api/v1/devices"):
        answer = httpx.get(address + path)
        assert answer.status_code == 401
        assert "left" not in answer.text
