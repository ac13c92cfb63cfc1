# SPDX-License-Identifier: Apache-2.0
"""The metrics: what a status becomes, and the grammar of the format."""

import re
from typing import Any

import numpy as np

from edge_agent.daemon.metrics import format_metrics
from edge_agent.daemon.status import LinkStatus, describe, summarise
from edge_agent.flow import Readings
from edge_contract.operations import count_latencies

SAMPLE = re.compile(
    r'[a-z_]+(\{([a-z_]+="([^"\\\n]|\\[\\n"])*",?)+\})? -?[0-9.e+-]+', re.ASCII
)
PART = re.compile("(?<=latency_seconds)_(bucket|sum|count)$")
LATENCY = count_latencies(np.array([5_000, 5_000, 5_000, 1_000_000], dtype=np.int64))
SHADOW = {
    "digest": "cc" * 32,
    "inferences": 9,
    "disagreements": 2,
    "failed": 0,
    "passed_over": 1,
    "latency_us": 50.0,
    "is_resting": False,
}


def slot(digest: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "state": "serving" if digest else "no model",
        "digest": digest,
        "model": 'a "b"\\c\n' if digest else None,
        "variant": "int8",
        "runtime": "litert",
        "runtime_version": "2.3.0",
        "kernels": "XNNPACK",
        "inferences": 100,
        "failed": 3,
        "produced": 103,
        "raw_bytes": 0,
        "open_inferences": 0,
        "windows_closed": 7,
        "windows_waiting": 0,
        "sink_errors": 0,
        "shadow": None,
        "latency_us": {"p50": 5.0, "p95": 3100.0, "p99": 4000.0},
        "latency_counts": LATENCY.tolist(),
        "latency_sum_ns": 1_015_000,
        **changes,
    }


def status(time_us: int = 0, **slots: dict[str, Any]) -> dict[str, Any]:
    return describe(
        slots,
        device=None,
        time_us=time_us,
        pending=4,
        link=LinkStatus(is_connected=True),
        readings=Readings(rss_bytes=1000, cpu_permille=250, is_throttled=False),
    )


def test_every_line_is_a_comment_or_a_sample() -> None:
    text = format_metrics(status(a=slot("ab" * 32, shadow=SHADOW), b=slot(None)))

    assert text.endswith("\n")
    lines = text.splitlines()
    samples = [one for one in lines if not one.startswith("# ")]
    assert [one for one in samples if not SAMPLE.fullmatch(one)] == []
    named = [PART.sub("", one.split("{")[0].split(" ")[0]) for one in samples]
    declared = [one.split(" ")[2] for one in lines if one.startswith("# TYPE ")]
    assert len(declared) == len(set(declared))
    assert list(dict.fromkeys(named)) == declared


def test_values_carry_their_slot_and_unit() -> None:
    lines = format_metrics(status(a=slot("ab" * 32, shadow=SHADOW), b=slot(None)))

    assert 'edge_agent_inferences_total{slot="a"} 100\n' in lines
    assert 'edge_agent_inferences_total{slot="b"} 100\n' in lines
    assert 'edge_agent_shadow_latency_seconds{slot="a"} 5e-05\n' in lines
    assert "edge_agent_cpu_cores 0.25\n" in lines
    assert "edge_agent_throttled 0\n" in lines
    assert "edge_agent_connected 1\n" in lines
    assert "edge_agent_temperature_celsius" not in lines
    assert 'model="a \\"b\\"\\\\c\\n"' in lines


def test_latencies_are_a_cumulative_histogram_in_seconds() -> None:
    text = format_metrics(status(a=slot("ab" * 32)))
    found = re.findall(r'_bucket\{slot="a",le="(.*)"\} (\d+)\n', text)
    counts = [int(count) for _, count in found]

    assert counts == sorted(counts)
    assert found[0] == ("1e-06", "0")
    assert found[-1] == ("+Inf", "4")
    assert dict(found)["8e-06"] == "3"
    assert 'edge_agent_latency_seconds_sum{slot="a"} 0.001015\n' in text
    assert 'edge_agent_latency_seconds_count{slot="a"} 4\n' in text


def test_the_line_for_the_service_manager_has_the_rate() -> None:
    before = status(main=slot("ab" * 32, model="toy"), other=slot(None))
    after = status(
        2_000_000, main=slot("ab" * 32, model="toy", produced=203), other=slot(None)
    )

    assert (
        summarise(after, before)
        == "main: toy@abab 50/s p95 3.10 ms other: no model queue=4"
    )
    assert (
        summarise(after, {}) == "main: toy@abab 0/s p95 3.10 ms other: no model queue=4"
    )


def test_a_model_that_has_answered_nothing_yet_has_no_quantiles() -> None:
    fresh = slot("ab" * 32, model="toy", latency_us=None)

    assert summarise(status(main=fresh), {}) == "main: toy@abab 0/s queue=4"


def test_a_sensor_at_fault_is_a_line_of_its_own() -> None:
    fault = {"feature": "ax", "rule": "stuck", "share_ppm": 1_000_000, "rows": 640}

    text = format_metrics(status(main=slot("ab" * 32, sensor_faults=[fault])))

    expected = 'edge_agent_sensor_fault{slot="main",feature="ax",rule="stuck"} 1'
    assert text.splitlines()[-1] == expected
    assert "sensor_fault" not in format_metrics(status(main=slot("ab" * 32)))


def test_labels_and_a_quarantine_are_shown() -> None:
    told = {"labels": 7, "errors": 2, "remembered": 40}

    text = format_metrics(
        status(main=slot("ab" * 32, feedback=told, quarantine="ax is stuck"))
    )

    lines = text.splitlines()
    assert 'edge_agent_labels_total{slot="main"} 7' in lines
    assert 'edge_agent_label_errors_total{slot="main"} 2' in lines
    assert 'edge_agent_quarantined{slot="main"} 1' in lines
    assert "quarantined" not in format_metrics(status(main=slot("ab" * 32)))
