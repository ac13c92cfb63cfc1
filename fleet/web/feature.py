# SPDX-License-Identifier: Apache-2.0
"""What the dashboard gives to the server: its pages, mounted on the application.

Everything that a browser loads comes from the wheel; nothing from elsewhere.
"""

from fastapi import FastAPI
from nicegui import ui

from fleet.drift.feature import build_documents
from fleet.services import Feature, Services
from fleet.web.alerts_page import add_alerts_page
from fleet.web.device_pages import add_device_pages
from fleet.web.drift_page import add_drift_page
from fleet.web.overview import add_overview
from fleet.web.readings import Readings
from fleet.web.rollouts_page import add_rollouts_page
from fleet.web.theme import ICON


def build(services: Services) -> Feature:
    """Build the feature. Only one server in a process can have it."""

    def mount(app: FastAPI) -> None:
        readings = Readings(services, build_documents(services))
        add_overview(readings)
        add_device_pages(readings)
        add_drift_page(readings)
        add_rollouts_page(readings)
        add_alerts_page(readings)
        ui.run_with(
            app,
            title="Edgeloop",
            favicon=ICON,
            dark=None,
            binding_refresh_interval=None,
            show_welcome_message=False,
        )

    return Feature(name="web", mount=mount)
