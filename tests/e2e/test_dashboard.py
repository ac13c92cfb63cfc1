# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real browser, over a server with a device that reports."""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import update

from edge_contract.evidence import Shadow
from fleet.drift.fleetwide.engine import FleetwideEngine
from fleet.drift.fleetwide.feed import SLOT_US
from fleet.drift.fleetwide.finding import Finding, Kind, Move
from fleet.drift.fleetwide.materiality import Distance
from fleet.store.engine import writing
from fleet.store.tables import presence
from tests.support.bundles import ModelRecipe
from tests.support.fleet_process import ServerProcess, ask_fleet, run_fleet
from tests.support.fleet_site import Site
from tests.support.fleet_world import FleetWorld
from tests.support.labelled_fleet import LabelledFleet

pytestmark = [pytest.mark.slow, pytest.mark.chromium]
KINDS_ON_WIRE = (
    *("world", "cohort", "device", "deploy", "season", "sensor_fault"),
    *("label_shift", "concept", "quantization"),
)
KINDS = (
    *("world", "cohort", "device", "release", "season", "sensor fault"),
    *("label shift", "concept", "quantization"),
)
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
    page.get_by_role("link", name="Rollouts").click()
    expect(page.get_by_text("1 devices first")).to_be_visible()
    expect(page.get_by_text("insufficient evidence was accepted")).to_be_visible()
    expect(page.get_by_text("2 succeeded", exact=False).first).to_be_visible()
    page.screenshot(path=tmp_path / "rollouts.png")

    assert complaints == []


def test_every_kind_of_verdict_and_its_alert_are_shown(
    browser: Browser, tmp_path: Path
) -> None:
    state = tmp_path / "server"
    assert run_fleet("init", "--json", state=state).returncode == 0
    (state / "fleet.yaml").write_text("alerts: {tick: 500ms}")
    fill_with_verdicts(state)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints = listen(page)

    with ServerProcess(state) as server:
        page.goto(server.addresses["dashboard_url"])
        # Concept, quantization and label shift are the server's own judgement.
        page.goto(server.addresses["dashboard_url"].split("?")[0] + "drift")
        for kind in KINDS:
            strip = page.locator(".el-strip").filter(
                has=page.locator(".el-kind", has_text=re.compile(f"^{kind}$"))
            )
            expect(strip.first).to_be_visible(timeout=90_000)
        expect(page.get_by_text("All 9 devices with hw=a moved")).to_be_visible(
            timeout=30_000
        )
        expect(page.get_by_text("12 of 12 devices lean the same way")).to_be_visible(
            timeout=30_000
        )
        quarantine = "edge-fleet drift quarantine d3 --reason drift"
        expect(page.get_by_text(quarantine).first).to_be_visible(timeout=30_000)
        expect(page.get_by_text("Estimated accuracy").first).to_be_visible(
            timeout=30_000
        )
        page.screenshot(path=tmp_path / "verdicts.png", full_page=True)

        page.get_by_role("link", name="Alerts").click()
        expect(page.get_by_text("drift_world")).to_be_visible(timeout=20_000)
        expect(page.get_by_text("drift_label_shift")).to_be_visible(timeout=30_000)
        page.screenshot(path=tmp_path / "alerts.png", full_page=True)
        found = ask_fleet("alert", "list", state=state)["alerts"]
        world = next(one for one in found if one["rule"] == "drift_world")
        ask_fleet("alert", "ack", str(world["id"]), "--note", "seen", state=state)
        mute = ("--rule", "drift_cohort", "--reason", "known batch")
        ask_fleet("alert", "mute", *mute, state=state)
        expect(page.get_by_text("seen by")).to_be_visible(timeout=30_000)
        expect(page.get_by_text("known batch")).to_be_visible(timeout=30_000)
        page.get_by_role("link", name="Overview").click()
        expect(page.get_by_text("Devices online")).to_be_visible(timeout=30_000)
        expect(page.get_by_text("The whole fleet moved").first).to_be_visible(
            timeout=30_000
        )
        page.screenshot(path=tmp_path / "overview.png", full_page=True)
        kinds = {
            one["kind"] for one in ask_fleet("drift", "list", state=state)["verdicts"]
        }

    assert kinds == {*KINDS_ON_WIRE}
    assert not any(one["rule"] == "drift_season" for one in found)
    assert complaints == []


def fill_with_verdicts(state: Path) -> None:
    """Store what a fleet sent, and what the fleetwide rule found of late."""
    world = FleetWorld(state)
    world.clock.now_us = time.time_ns() // 1000 - 3600 * 1_000_000
    fleet = LabelledFleet(world)
    served = fleet.publish("watch", "int8", b"int8")
    original = fleet.publish("watch", "float32", b"float")
    for number in range(24):
        fleet.send(
            f"d{number % 12}",
            classes=np.array([164, 36, 10, 14]),
            feedback_block=fleet.labels(40, lost=0.3),
            release=served[:8],
            shadow=Shadow(original[:8], 64, 8),
        )
    with writing(world.engine) as connection:
        serving = {"main": served.hex()}
        connection.execute(update(presence).values(serving=serving))
    slot = world.clock.now_us // SLOT_US
    move = Move("f0", "mean", 0.5, 9e6, (15, 0), Distance(0.2, 0.5, 0.3, 900))
    found: tuple[tuple[Kind, str, Move], ...] = (
        ("device", "d3", move),
        ("sensor_fault", "d4", Move("f1", "stuck", 0.9)),
        ("cohort", "hw=a", replace(move, shift=-0.3)),
        ("deploy", "release=12ab", replace(move, feature="f2")),
        ("world", "world", replace(move, feature="f1")),
        ("season", "world", Move("f2", "mean", 0.3)),
    )
    with writing(world.engine) as connection:
        engine = FleetwideEngine("default", fleet.profile, world.clock, connection)
        for kind, subject, moved in found:
            finding = Finding(
                kind, subject, (moved,), slot, slot - 9, devices=9, streams=36
            )
            engine._write(connection, finding, slot)
    world.engine.dispose()


def test_without_the_token_nothing_is_shown(site: Site) -> None:
    address = site.server.addresses["dashboard_url"].split("?")[0]

    for path in ("", "devices", "drift", "api/v1/devices"):
        answer = httpx.get(address + path)
        assert answer.status_code == 401
        assert "left" not in answer.text
