# SPDX-License-Identifier: Apache-2.0
"""The status as metrics, in Prometheus' text exposition format 0.0.4.

Owns the names and kinds. Pure: a status (``status.describe``) in, text out; the local
service serves it at ``/metrics``. A reading that is not known is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

import edge_agent
from edge_contract.operations import BUCKETS, LATENCY_EDGES_NS

PREFIX: Final = "edge_agent_"
_EDGES_AN_OCTAVE: Final = 4


@dataclass(frozen=True, slots=True)
class _Metric:
    key: str
    name: str
    kind: str
    text: str
    scale: float = 1.0


_AGENT: Final = (
    _Metric("outbox_pending", "outbox_messages", "gauge", "Messages not acknowledged."),
    _Metric("connected", "connected", "gauge", "Whether the broker has accepted us."),
    _Metric("rss_bytes", "resident_bytes", "gauge", "Resident memory."),
    _Metric("cpu_permille", "cpu_cores", "gauge", "Processor cores in use.", 0.001),
    _Metric("temperature", "temperature_celsius", "gauge", "Of the processor."),
    _Metric("is_throttled", "throttled", "gauge", "Whether the processor is slowed."),
    _Metric("disk_free_bytes", "disk_free_bytes", "gauge", "Left for the state."),
)
_SLOT: Final = (
    _Metric("inferences", "inferences_total", "counter", "Inferences that succeeded."),
    _Metric("failed", "failed_total", "counter", "Inferences that failed."),
    _Metric("windows_closed", "windows_total", "counter", "Windows ever closed."),
    _Metric("windows_waiting", "windows_waiting", "gauge", "Not stored yet."),
    _Metric("sink_errors", "sink_errors_total", "counter", "Results not written."),
)
_SHADOW: Final = (
    _Metric("inferences", "shadow_inferences_total", "counter", "Frames compared."),
    _Metric("disagreements", "shadow_disagreements_total", "counter", "Other answers."),
    _Metric("failed", "shadow_failed_total", "counter", "Frames it could not answer."),
    _Metric(
        "passed_over", "shadow_passed_over_total", "counter", "Frames it did not see."
    ),
    _Metric("latency_us", "shadow_latency_seconds", "gauge", "Of one inference.", 1e-6),
)
_QUARANTINE: Final = (
    _Metric("on", "quarantined", "gauge", "Whether a slot's results are marked."),
)
_FEEDBACK: Final = (
    _Metric("labels", "labels_total", "counter", "Labels taken."),
    _Metric("errors", "label_errors_total", "counter", "Of these, against the model."),
)


def format_metrics(status: Mapping[str, Any]) -> str:
    """Return a status as metrics.

    >>> format_metrics({"outbox_pending": 3, "slots": {}}).splitlines()[-1]
    'edge_agent_outbox_messages 3'
    """
    slots: Mapping[str, Mapping[str, Any]] = status["slots"]
    lines = _family("info", "gauge", "What runs.")
    lines.append(_sample("info", {"version": edge_agent.__version__}, 1))
    models = [
        _sample("model_info", _describe_model(name, one), 1)
        for name, one in slots.items()
        if one["digest"] is not None
    ]
    if models:
        lines += [*_family("model_info", "gauge", "What serves in a slot."), *models]
    lines += _section(_AGENT, {"": status})
    lines += _section(_SLOT, slots)
    lines += _histogram(slots)
    lines += _faults(slots)
    shadows = {name: one["shadow"] for name, one in slots.items() if one.get("shadow")}
    lines += _section(_SHADOW, shadows)
    found = {
        name: one["feedback"] for name, one in slots.items() if one.get("feedback")
    }
    lines += _section(_FEEDBACK, found)
    held = {name: {"on": 1} for name, one in slots.items() if one.get("quarantine")}
    lines += _section(_QUARANTINE, held)
    return "\n".join(lines) + "\n"


def _section(
    metrics: tuple[_Metric, ...], holders: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the lines of some metrics; each holder is a slot, or all where ''."""
    lines = []
    for one in metrics:
        found = {
            name: holder[one.key]
            for name, holder in holders.items()
            if holder.get(one.key) is not None
        }
        if found:
            lines += _family(one.name, one.kind, one.text)
        for name, value in found.items():
            labels = {"slot": name} if name else {}
            lines.append(_sample(one.name, labels, value * one.scale))
    return lines


def _histogram(slots: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return latencies as a histogram: an edge an octave, counted since the start."""
    lines, name = _family("latency_seconds", "histogram", "Of one inference."), ""
    for name, slot in slots.items():
        counts = np.array(slot["latency_counts"], dtype=np.int64)
        below = np.cumsum(counts)
        for index in range(0, BUCKETS - 1, _EDGES_AN_OCTAVE):
            edge = f"{LATENCY_EDGES_NS[index] / 1e9:.9g}"
            labels = {"slot": name, "le": edge}
            lines.append(_sample("latency_seconds_bucket", labels, int(below[index])))
        total, labels = int(counts.sum()), {"slot": name}
        last = {**labels, "le": "+Inf"}
        lines.append(_sample("latency_seconds_bucket", last, total))
        seconds = slot["latency_sum_ns"] / 1e9
        lines.append(_sample("latency_seconds_sum", labels, seconds))
        lines.append(_sample("latency_seconds_count", labels, total))
    return lines if name else []


def _faults(slots: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line a fault that is open."""
    lines = [
        _sample(
            "sensor_fault",
            {"slot": name, "feature": one["feature"], "rule": one["rule"]},
            1,
        )
        for name, slot in slots.items()
        for one in slot.get("sensor_faults", ())
    ]
    head = _family("sensor_fault", "gauge", "A sensor that is at fault.")
    return [*head, *lines] if lines else []


def _describe_model(name: str, slot: Mapping[str, Any]) -> dict[str, str]:
    keys = ("model", "digest", "variant", "runtime", "runtime_version", "kernels")
    return {"slot": name, **{key: str(slot[key]) for key in keys}}


def _family(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} {kind}"]


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    braces = f"{{{inside}}}" if inside else ""
    return f"{PREFIX}{name}{braces} {value:.12g}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
