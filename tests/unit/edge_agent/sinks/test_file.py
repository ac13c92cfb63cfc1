# SPDX-License-Identifier: Apache-2.0
"""The file sink: whole lines, files turned over by size, and a disk that refuses."""

import json
import os
from pathlib import Path

import pytest

from edge_agent.config.sinks import FileSinkConfig
from edge_agent.config.units import Size
from edge_agent.errors import SinkError
from edge_agent.flow import Result
from edge_agent.sinks.file import FileOutlet
from tests.support.sinks import OUTPUT, limited_file_size, make_result


def put(config: FileSinkConfig, *results: Result) -> None:
    outlet = FileOutlet(config)
    assert outlet.put(results) == len(results)
    outlet.close()


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_a_result_is_one_json_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    named = Result(
        "p:128:0", 5, "ab", OUTPUT, None, "p", (("run", 0.75), ("walk", 0.25))
    )
    put(
        FileSinkConfig(path),
        named,
        Result("p:160:0", 6, "ab", OUTPUT, None),
        Result("p:192:0", 7, "ab", None, "LiteRT: no"),
    )

    common = {"output": [0.25, 0.75], "label_index": 1, "digest": "ab"}
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {
            "id": "p:128:0",
            "t_us": 5,
            "label": "run",
            "top": [["run", 0.75], ["walk", 0.25]],
            **common,
        },
        {"id": "p:160:0", "t_us": 6, **common},
        {"id": "p:192:0", "t_us": 7, "error": "LiteRT: no", "digest": "ab"},
    ]


def test_a_line_that_a_kill_cut_short_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"id":"half')
    put(FileSinkConfig(path), make_result("a"))

    first, second = path.read_text().splitlines()
    assert first == '{"id":"half'
    assert json.loads(second)["id"] == "a"


def test_files_are_turned_over_by_size_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    config = FileSinkConfig(path, max_size=Size(100), keep=2)
    outlet = FileOutlet(config)
    for name in "abcd":  # a line takes more than half of a file
        outlet.put([make_result(name)])
    outlet.close()

    files = {one.name: ids(one) for one in tmp_path.iterdir()}
    assert files == {"r.jsonl": ["d"], "r.jsonl.1": ["c"], "r.jsonl.2": ["b"]}


def test_a_disk_that_refuses_half_way_keeps_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    outlet = FileOutlet(FileSinkConfig(path))
    outlet.put([make_result("first")])
    size = path.stat().st_size
    with limited_file_size(size + 10), pytest.raises(SinkError, match="too large"):
        outlet.put([make_result("second"), make_result("third")])
    assert path.stat().st_size == size

    outlet.put([make_result("second"), make_result("third")])
    outlet.close()
    assert ids(path) == ["first", "second", "third"]


def test_a_full_disk_is_named() -> None:
    if not os.path.exists("/dev/full"):  # noqa: PTH110 - a device, not a path of ours
        pytest.skip("no /dev/full on this system")
    outlet = FileOutlet(FileSinkConfig(Path("/dev/full")))
    with pytest.raises(SinkError, match="cannot be written: No space left"):
        outlet.put([make_result("a")])
    outlet.close()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be opened"):
        FileOutlet(FileSinkConfig(tmp_path / "none" / "results.jsonl"))
