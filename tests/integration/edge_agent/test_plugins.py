# SPDX-License-Identifier: Apache-2.0
"""Sources and sinks of a distribution that is really installed, and that misbehaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "tiny-flows"
version = "1.0"
[project.entry-points."edgeloop.sources"]
counter = "tiny_flows:Counter"
broken = "tiny_flows:broken"
absent = "tiny_flows_of_nobody:Counter"
[project.entry-points."edgeloop.sinks"]
jar = "tiny_flows:Jar"
[tool.hatch.build.targets.wheel]
include = ["tiny_flows.py"]
"""
_MODULE = """\
from pathlib import Path

import numpy as np

from edge_agent.flow import Chunk


class Counter:
    features = 2
    is_exhausted = False

    def __init__(self, options, clock):
        self.number, self.clock, self.stop = options["first"], clock, options["stop"]

    def read(self, grid):
        self.number += 1
        if self.number == 3:
            raise ZeroDivisionError("three")
        rows = np.full((1, 2), self.number, dtype="f8" if self.number == 4 else "f4")
        self.is_exhausted = self.number >= self.stop
        times = np.array([self.clock.wall_us()])
        return Chunk("counter", rows, times, self.number == 1)

    def close(self):
        pass


def broken(options, clock):
    raise RuntimeError("cannot be made")


class Jar:
    def __init__(self, options):
        self.path = Path(options["path"])

    def put(self, results):
        with self.path.open("a") as stream:
            stream.writelines(one.id + "\\n" for one in results)
        return len(results)

    def close(self):
        with self.path.open("a") as stream:
            stream.write("closed\\n")
"""
_UNFIT = "expected float32 rows of 2 values with an int64 time each"
_DRIVER = """\
import json, sys
from edge_agent.clock import SystemClock
from edge_agent.config.sinks import PluginSinkConfig
from edge_agent.config.sources import PluginSourceConfig
from edge_agent.flow import Grid, Result
from edge_agent.sinks.choose import open_sinks
from edge_agent.sources.choose import open_source
from edge_contract.errors import EdgeError

def source(name, **options):
    return open_source(PluginSourceConfig(name, options), 1, SystemClock())

def problem(call):
    try:
        return call()
    except EdgeError as error:
        return f"{error.code}: {error.message}"

opened = source("counter", first=0, stop=5)
sink = open_sinks([PluginSinkConfig("jar", {"path": sys.argv[1]})])
found = []
while not opened.is_exhausted:
    chunk = problem(lambda: opened.read(Grid(1, 1, 2)))
    found.append(chunk if isinstance(chunk, str) else chunk.rows.tolist())
    sink.write(Result(str(len(found)), 1, "ab", None, "no"))
opened.close()
sink.close()
names = ("broken", "absent", "nobody", "counter")
print(json.dumps([found, *(problem(lambda: str(source(one))) for one in names)]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the distribution, as pip installs it."""
    project = tmp_path_factory.mktemp("tiny")
    target = tmp_path_factory.mktemp("target")
    (project / "pyproject.toml").write_text(_PROJECT)
    (project / "tiny_flows.py").write_text(_MODULE)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--no-cache-dir", "--target", str(target)]
    subprocess.run([*command, str(project)], check=True, capture_output=True)
    return target


@pytest.mark.slow
def test_a_distribution_brings_a_source_and_a_sink(
    installed: Path, tmp_path: Path
) -> None:
    jar = tmp_path / "jar"
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, str(jar)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{installed}"},  # noqa: TID251
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found, broken, absent, nobody, wrong = json.loads(done.stdout)

    assert found == [
        [[1, 1]],
        [[2, 2]],
        "agent.source: source counter: failed: ZeroDivisionError: three",
        f"agent.source: source counter: {_UNFIT}",
        [[5, 5]],
    ]
    assert broken == (
        "agent.source: source broken: cannot be opened: RuntimeError: cannot be made"
    )
    assert absent.startswith("agent.plugin: edgeloop.sources 'absent': tiny_flows_of_")
    assert nobody == (
        "agent.plugin: edgeloop.sources 'nobody': expected one of file, stdin, mqtt, "
        "sensors, camera, absent, broken, counter"
    )
    assert wrong == (
        "agent.source: source counter: cannot be opened: KeyError: 'first'"
    )
    assert jar.read_text().split() == ["1", "2", "3", "4", "5", "closed"]
