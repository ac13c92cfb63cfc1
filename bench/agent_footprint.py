# SPDX-License-Identifier: Apache-2.0
"""What the agent takes while it idles, connected to a broker, its model excluded.

A model of a few kilobytes serves, or none. Promises in PSS: at most 35 MiB without a
runtime, 45 with LiteRT, 55 with ONNX Runtime, the local service off. The baseline is an
interpreter that has imported numpy, paho and the same runtime, and waits. PSS depends
on what else runs; what the agent would take alone is stated beside it. Both read their
modules compiled, as pip leaves them; without docstrings (``PYTHONOPTIMIZE=2``) they are
stated too.
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
from bench.harness.process import Memory, as_installed, idle_memory, read_memory
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
        scales = Scales(broker.port, Path(scratch, "compiled"))
        try:
            for name, recipe, floor, most in CASES:
                rows += measure(name, recipe, floor, most, scales)
            rows += measure_service(scales)
        finally:
            broker.stop()
    return make_document("agent_footprint", rows)


def measure(
    name: str,
    recipe: ModelRecipe | None,
    floor: str,
    most: float,
    scales: "Scales",
    runs: int = RUNS,
) -> list[Row]:
    """State what an agent takes with one runtime."""
    found = scales.weigh_agents(recipe, runs)
    plain = scales.weigh_agents(recipe, runs, PYTHONOPTIMIZE="2")
    bare, _, _ = summarise([scales.weigh(floor).pss for _ in range(runs + 1)][1:])
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
        state(f"{name}, without docstrings: PSS", [one.pss for one in plain]),
    ]


def measure_service(scales: "Scales", runs: int = RUNS) -> list[Row]:
    """State what LiteRT takes with the HTTP service listening, as far as it does."""
    service = f"service: {{http: '127.0.0.1:{free_port()}'}}\n"
    found = scales.weigh_agents(ModelRecipe(), runs, service)
    return [
        state("LiteRT, service configured: PSS", [one.pss for one in found]),
        state("the same, as the only program of Python", [one.alone for one in found]),
    ]


def state(case: str, values: list[float]) -> Row:
    """State a figure that nothing was promised of."""
    value, n, spread = summarise(values)
    return Row(case, value, "MiB", n=n, spread=spread)


class Scales:
    """Weighs idle programs.

    Args:
        port: Of a broker.
        compiled: Where modules are kept compiled.
    """

    def __init__(self, port: int, compiled: Path) -> None:
        self._port = port
        self._environment = as_installed(compiled)

    def weigh(self, code: str) -> Memory:
        """Return what an interpreter takes that has run ``code``."""
        return idle_memory(code, **self._environment)

    def weigh_agents(
        self, recipe: ModelRecipe | None, runs: int, more: str = "", **told: str
    ) -> list[Memory]:
        """Return what an agent takes, each time; one more compiles its modules first.

        Args:
            recipe: Its model; None: it has none.
            runs: How often.
            more: Lines for its configuration.
            told: Variables for its environment.
        """
        environment = {**self._environment, **told}
        found = [self._weigh_agent(recipe, more, environment) for _ in range(runs + 1)]
        return found[1:]

    def _weigh_agent(
        self, recipe: ModelRecipe | None, more: str, environment: dict[str, str]
    ) -> Memory:
        with tempfile.TemporaryDirectory() as scratch:
            home = AgentHome(Path(scratch), rate=0.1, checkpoint="10s")
            home.config.write_text(home.config.read_text() + more)
            home.enrol(self._port)
            home.record()
            if recipe is not None:
                home.install(recipe)
            home.start(**environment)
            with contextlib.closing(home):
                home.await_status("connected", value=True)
                wanted = "no model" if recipe is None else "serving"
                home.await_status("state", wanted)
                time.sleep(SETTLE_SECONDS)
                if home.process is None:
                    raise RuntimeError("agent: expected it to run")
                memory = read_memory(home.process.pid)
                home.stop()
        return memory


if __name__ == "__main__":
    write_document(run())
