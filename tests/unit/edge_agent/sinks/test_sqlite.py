# SPDX-License-Identifier: Apache-2.0
"""The sqlite sink: look-up, what is forgotten, a full disk, and files of others."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_agent.config.sinks import SqliteSinkConfig
from edge_agent.config.units import Size
from edge_agent.errors import SinkError
from edge_agent.flow import Result
from edge_agent.sinks.sqlite import SqliteOutlet, find_results
from tests.support.sinks import limited_file_size, make_result


def ids(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT id FROM results ORDER BY number").fetchall()
    return [one for (one,) in rows]


def test_a_result_is_found_by_its_id_and_the_newest_is_first(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    outlet = SqliteOutlet(SqliteSinkConfig(path))
    outlet.put([make_result("a"), Result("b", 6, "ab", None, "no")])
    outlet.put([Result("a", 7, "cd", np.array([3.5], dtype=np.float32), None)])
    newest, oldest = find_results(path, "a")
    outlet.close()

    assert oldest == {
        "number": 1,
        "id": "a",
        "t_us": 5,
        "stream": "s",
        "digest": "ab",
        "label": "run",
        "score": 0.75,
        "output": [0.25, 0.75],
        "error": None,
    }
    assert (newest["number"], newest["output"], newest["label"]) == (3, [3.5], None)
    (failed,) = find_results(path, "b")
    assert (failed["output"], failed["error"]) == (None, "no")
    assert find_results(path, "c") == []
    SqliteOutlet(SqliteSinkConfig(path)).close()  # it may be opened again


def test_the_oldest_rows_are_forgotten_by_number(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    outlet = SqliteOutlet(SqliteSinkConfig(path, max_rows=3))
    for start in range(0, 8, 2):
        outlet.put([make_result(f"r{start}"), make_result(f"r{start + 1}")])
    outlet.close()
    assert ids(path) == ["r5", "r6", "r7"]


def test_the_oldest_rows_are_forgotten_by_size(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    outlet = SqliteOutlet(SqliteSinkConfig(path, max_size=Size(128 * 1024)))
    sizes = []
    for number in range(400):
        outlet.put([make_result(f"{number}-{'x' * 1000}")])
        sizes.append(outlet._used_bytes())
    outlet.close()

    kept = [int(one.split("-")[0]) for one in ids(path)]
    assert kept == list(range(400 - len(kept), 400))
    assert 10 < len(kept) < 120
    assert max(sizes) <= 128 * 1024 + 16 * 4096  # a batch above it, then fewer again
    assert path.stat().st_size <= 128 * 1024 + 16 * 4096


def test_a_full_disk_takes_no_part_of_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    outlet = SqliteOutlet(SqliteSinkConfig(path))
    outlet.put([make_result("first")])
    many = [make_result(f"r{number}-{'x' * 500}") for number in range(200)]
    with limited_file_size(32 * 1024), pytest.raises(SinkError, match="cannot be"):
        outlet.put(many)
    assert ids(path) == ["first"]

    outlet.put(many)
    outlet.close()
    assert len(ids(path)) == 201


def test_what_is_no_database_of_results_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and no database " * 100)
    before = path.read_bytes()
    with pytest.raises(SinkError, match="not a database"):
        SqliteOutlet(SqliteSinkConfig(path))
    assert path.read_bytes() == before
    with pytest.raises(SinkError, match="expected a database of results"):
        find_results(path, "a")

    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE mine (x)")
    with pytest.raises(SinkError, match="a database of version 0"):
        SqliteOutlet(SqliteSinkConfig(other))
    with pytest.raises(SinkError, match="cannot be opened"):
        SqliteOutlet(SqliteSinkConfig(tmp_path / "none" / "r.sqlite"))
