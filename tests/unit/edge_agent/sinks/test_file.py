# SPDX-License-Identifier: Apache-2.0
"""The file sink: whole lines, and a disk that refuses."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import SinkError
from edge_agent.flow import Result
from edge_agent.sinks.file import FileSink

OUTPUT = np.array([0.25, 0.75], dtype=np.float32)


def test_a_result_is_one_json_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    sink = FileSink(path)
    sink.write(Result("p:128:0", 5, "ab", OUTPUT, None))
    sink.write(Result("p:192:0", 6, "ab", None, "LiteRT: no"))
    sink.close()

    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {
            "id": "p:128:0",
            "t_us": 5,
            "output": [0.25, 0.75],
            "label_index": 1,
            "digest": "ab",
        },
        {"id": "p:192:0", "t_us": 6, "error": "LiteRT: no", "digest": "ab"},
    ]


def test_a_line_that_a_kill_cut_short_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"id":"half')
    sink = FileSink(path)
    sink.write(Result("a", 1, "ab", OUTPUT, None))
    sink.close()

    first, second = path.read_text().splitlines()
    assert first == '{"id":"half'
    assert json.loads(second)["id"] == "a"


def test_a_full_disk_is_named_and_counted() -> None:
    if not os.path.exists("/dev/full"):  # noqa: PTH110 - a device, not a path of ours
        pytest.skip("no /dev/full on this system")
    sink = FileSink(Path("/dev/full"))
    sink.write(Result("a", 1, "ab", OUTPUT, None))
    with pytest.raises(SinkError, match="1 results dropped"):
        sink.flush()
    assert sink.dropped == 1
    sink.close()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be opened"):
        FileSink(tmp_path / "none" / "results.jsonl")
