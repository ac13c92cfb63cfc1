# SPDX-License-Identifier: Apache-2.0
"""From events to what still holds.

Owns which events begin a condition, which end it, and which fade by themselves because
no event says that they are over. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_HOUR: Final = 3600
FADE_SECONDS: Final = {
    "accuracy_drop": 24 * _HOUR,
    "stall": _HOUR,
    "model_refused": 24 * _HOUR,
    "outbox_damaged": 24 * _HOUR,
}
_LIMITS: Final = tuple(
    f"limit.{one}" for one in ("memory", "cpu", "temperature", "disk")
)
EVENTS: Final = (
    "sensor_fault",
    "sensor_ok",
    "accuracy_drop",
    "stall",
    "model.refused",
    "outbox.damaged",
    *_LIMITS,
)
_MOST_PART: Final = 120
_MILLION: Final = 1e6


@dataclass(frozen=True, slots=True)
class Turn:
    """What an event says of a condition."""

    rule: str
    part: str
    begins: bool
    detail: str = ""


def read_turn(body: Mapping[str, Any]) -> Turn:
    """Read an event with one of the names in ``EVENTS``, as plain values.

    >>> read_turn({"name": "sensor_ok", "severity": "info", "detail": "",
    ...            "fields": {"slot": "main", "feature": "ax", "rule": "stuck"}})
    Turn(rule='sensor_fault', part='main.ax stuck', begins=False, detail='')
    """
    name, fields = body["name"], body["fields"]
    slot = _text(fields.get("slot", "main"))
    if name in {"sensor_fault", "sensor_ok"}:
        part = f"{slot}.{_text(fields.get('feature'))} {_text(fields.get('rule'))}"
        begins = name == "sensor_fault"
        detail = _share("rows", fields.get("share_ppm")) if begins else ""
        return Turn("sensor_fault", part[:_MOST_PART], begins, detail)
    if name == "accuracy_drop":
        before, after = fields.get("error_ppm_before"), fields.get("error_ppm")
        detail = f"{_share('errors', before)} before, {_share('errors', after)} now"
        return Turn("accuracy_drop", slot[:_MOST_PART], begins=True, detail=detail)
    if name in _LIMITS:
        begins = body["severity"] != "info"
        return Turn("limit", name.removeprefix("limit."), begins, body["detail"])
    rule = name.replace(".", "_")
    return Turn(rule, slot[:_MOST_PART], begins=True, detail=body["detail"])


def _share(what: str, ppm: Any) -> str:
    if type(ppm) is not int:
        return ""
    return (
        f"{ppm / _MILLION:.1%} of {what}" if what == "rows" else f"{ppm / _MILLION:.1%}"
    )


def _text(value: Any) -> str:
    return str(value if value is not None else "?")
