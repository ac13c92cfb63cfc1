# SPDX-License-Identifier: Apache-2.0
"""``check`` and ``status``: whether the agent could run, and how it fares."""

from dataclasses import asdict
from typing import Any

from edge_agent.config import AgentConfig
from edge_agent.daemon.check import run_checks
from edge_agent.daemon.status import read_status
from edge_agent.verbs.answer import Answer
from edge_contract.errors import EXIT_FAILED


def check(config: AgentConfig) -> Answer:
    """Look at everything that a start needs."""
    results = run_checks(config)
    lines = []
    for one in results:
        lines.append(f"{'ok    ' if one.ok else 'FAILED'} {one.name}: {one.detail}")
        if one.next_step:
            lines.append(f"       Next: {one.next_step}")
    code = 0 if all(one.ok for one in results) else EXIT_FAILED
    return Answer([asdict(one) for one in results], "\n".join(lines), code)


def show_status(config: AgentConfig) -> Answer:
    """Show what the agent said last.

    Raises:
        StateError: No agent has run here, or the file is damaged.
    """
    status = read_status(config.state_dir)
    lines = [
        f"{name}: {value}"
        for name, value in status.items()
        if name != "slots" and value is not None
    ]
    for name, slot in status.get("slots", {}).items():
        lines.append(f"models.{name}:")
        lines += [f"  {key}: {value}" for key, value in _shown(slot)]
    return Answer(status, "\n".join(lines))


def _shown(slot: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what is for people: no histogram, and nothing that is empty."""
    update = slot.get("update") or {}
    shown = {**slot, "update": update.get("text")}
    return [
        (key, value)
        for key, value in shown.items()
        if key != "latency_counts" and value is not None and value != ""
    ]
