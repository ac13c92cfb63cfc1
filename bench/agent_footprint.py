# SPDX-License-Identifier: Apache-2.0
"""What the agent takes while it idles, connected to a broker, its model excluded.

A model of a few kilobytes serves, or none. Promises in PSS: at most 35 MiB without a
runtime, 45 with LiteRT, 55 with ONNX Runtime, the local service off. The baseline is an
interpreter that has imported numpy, paho and the same runtime, and waits. PSS depends
on what else runs; what the agent would take alone is stated beside it.
"""

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from bench.harness.process import Memory, idle_memory, read_memory
from tests.support.agent_home import AgentHome
from tests.support.bundles import ModelRecipe
from tests.support.mqtt_broker import Rumqttd, free_port

RUNS: Final = 3
SETTLE_SECONDS: Final = 3.0
_FLOOR: Final = "import numpy, paho.mqtt.client, sqlite3, ssl"
CASES: Final = (
    ("without a runtime", None, _FLOOR, 35.0),
    (
        "LiteRT",
        ModelRecipe(),
        f"{_FLOOR}\nimport ai_edge_litert.interpreter",
        45.0,
    ),
    (
        "ONNX Runtime",
        ModelRecipe(runtime="onnxruntime"),
        f"{_FLOOR}\nimport onnxruntime",
        55.0,
    ),
)


def run() -> Document:
    """Measure each runtime, and LiteRT with the local service."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        broker = Rumqttd(Path(scratch))
        broker.start()
        try:
            for name, recipe, floor, most in CASES:
                rows += measure(name, recipe, floor, most, broker.port)
            rows += measure_service(broker.port)
        finally:
            broker.stop()
    return make_document("agent_footprint", rows)


def measure(
    name: str,
    recipe: ModelRecipe | None,
    floor: str,
    most: float,
    port: int,
    runs: int = RUNS,
) -> list[Row]:
    """State what an agent takes with one runtime."""
    found = [weigh(recipe, port) for _ in range(runs)]
    bare, _, _ = summarise([idle_memory(floor).pss for _ in range(runs)])
    value, n, spread = summarise([one.pss for one in found])
    return [
        Row(
            f"{name}: PSS",
            value,
            "MiB",
            bare,
            value / bare,
            n,
            spread,
            f"<= {most:g} MiB",
            value <= most,
        ),
        state(f"{name}: RSS", [one.rss for one in found]),
        state(f"{name}: as the only program of Python", [one.alone for one in found]),
    ]


def measure_service(port: int, runs: int = RUNS) -> list[Row]:
    """State what LiteRT takes with the HTTP service listening, as far as it does."""
    service = f"service: {{http: '127.0.0.1:{free_port()}'}}\n"
    found = [weigh(ModelRecipe(), port, service) for _ in range(runs)]
    return [
        state("LiteRT, service configured: PSS", [one.pss for one in found]),
        state("the same, as the only program of Python", [one.alone for one in found]),
    ]


def state(case: str, values: list[float]) -> Row:
    """State a figure that nothing was promised of."""
    value, n, spread = summarise(values)
    return Row(case, value, "MiB", n=n, spread=spread)


def weigh(recipe: ModelRecipe | None, port: int, more: str = "") -> Memory:
    """Return what an agent takes once it is connected and has settled.

    Raises:
        RuntimeError: It did not come up.
    """
    with tempfile.TemporaryDirectory() as scratch:
        home = AgentHome(Path(scratch), rate=0.1, checkpoint="10s")
        home.config.write_text(home.config.read_text() + more)
        home.enrol(port)
        home.record()
        if recipe is not None:
            home.install(recipe)
        home.start()
        with contextlib.closing(home):
            home.await_status("connected", value=True)
            home.await_status("state", "no model" if recipe is None else "serving")
            time.sleep(SETTLE_SECONDS)
            if home.process is None:
                raise RuntimeError("agent: expected it to run")
            memory = read_memory(home.process.pid)
            home.stop()
    return memory


if __name__ == "__main__":
    write_document(run())
