# SPDX-License-Identifier: Apache-2.0
"""Errors of the drift engine."""

from fleet.errors import FleetError


class DriftStateError(FleetError):
    """A stored drift state cannot be read."""

    code = "fleet.drift.state"
