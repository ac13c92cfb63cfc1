# SPDX-License-Identifier: Apache-2.0
"""What can be done about a verdict, as commands to copy.

Owns which command carries out which recommendation. Nothing is done unasked. Pure.
"""

from collections.abc import Mapping
from typing import Any

_QUARANTINE = "edge-fleet drift quarantine {device} --reason drift"
_SAMPLES = (
    "edge-fleet sample request {device} --select novelty --reason drift --frames 200"
)
_LABELS = "edge-fleet drift labels {device} --select near-threshold --reason drift"
_ANY = "DEVICE"
_COMMANDS = {
    "sensor_fault": (_QUARANTINE,),
    "device": (_QUARANTINE, _SAMPLES, _LABELS),
    "cohort": (_SAMPLES, _LABELS),
    "world": (_SAMPLES, _LABELS),
    "concept": (_LABELS, "edge-fleet pipeline run retrain --samples REQUEST"),
    "deploy": ("edge-fleet rollout list",),
}


def offer_commands(verdict: Mapping[str, Any]) -> list[str]:
    """Return the commands that carry out what an open verdict recommends.

    >>> offer_commands({"kind": "sensor_fault", "device": "d3", "closed_us": None})
    ['edge-fleet drift quarantine d3 --reason drift']
    >>> offer_commands({"kind": "season", "device": None, "closed_us": None})
    []
    """
    if verdict["closed_us"] is not None:
        return []
    device = verdict["device"] or _ANY
    commands = _COMMANDS.get(verdict["kind"], ())
    return [one.format(device=device) for one in commands]
