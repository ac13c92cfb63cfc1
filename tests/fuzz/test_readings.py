# SPDX-License-Identifier: Apache-2.0
"""Messages from outside: whatever comes, a reading or a ``SourceError``."""

import json
import os
from contextlib import suppress

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import SourceError
from edge_agent.flow import Grid
from edge_agent.sources.intake import Intake
from edge_agent.sources.lines import LineReader
from edge_agent.sources.reading import CsvForm, parse_float32, parse_json
from edge_agent.tally import Tally
from edge_contract.errors import StepError
from edge_contract.steps import check_post, check_pre

LARGEST = float(np.finfo(np.float32).max)
FIELDS = ("ax", "ay")
GRID = Grid(4, 2, 2)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["x", "id", "t", "stream", *FIELDS]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


def check_reading(data: bytes) -> None:
    try:
        reading = parse_json(data, FIELDS, "s")
    except SourceError:
        return
    assert reading.rows.dtype == np.float32
    assert reading.rows.ndim == 2
    assert reading.rows.size > 0
    assert not np.isinf(reading.rows).any()
    intake = Intake(Tally("fuzz"), None)
    with suppress(SourceError):
        for chunk in intake.take(reading, 0, GRID):
            assert chunk.rows.shape[1] == 2
            assert 1 <= len(chunk.rows) <= GRID.hop
            assert len(chunk.times_us) == len(chunk.rows)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reading_or_refused(data: bytes) -> None:
    check_reading(data)
    with suppress(SourceError):
        assert not np.isinf(parse_float32(data, "s").rows).any()
    with suppress(SourceError):
        CsvForm(data, "s")
    with suppress(SourceError):
        assert not np.isinf(CsvForm(b"id,a,t,b", "s").parse(data).rows).any()


@given(JSON)
def test_any_json_is_a_reading_or_refused(value: object) -> None:
    check_reading(json.dumps(value).encode())


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 16))
def test_lines_are_whole_or_passed_over(parts: list[bytes], limit: int) -> None:
    reader, writer = os.pipe()
    lines = LineReader(reader, limit)
    found: list[bytes] = []
    for part in [*parts, None]:
        if part is None:
            os.close(writer)
        elif part:
            os.write(writer, part)
        else:
            continue
        before = len(found)
        while not lines.is_exhausted:
            with suppress(SourceError):
                line = lines.read(0)
                if line is None:
                    break
                found.append(line)
        assert len(found) >= before
    lines.close()
    os.close(reader)

    whole = b"".join(parts).split(b"\n")
    last = [whole[-1]] if whole[-1] else []
    assert found == [one for one in [*whole[:-1], *last] if len(one) <= limit]


STEPS = st.lists(
    st.dictionaries(
        st.sampled_from(["step", "factor", "offset", "mean", "sd", "from", "to", "at"]),
        st.sampled_from(["scale", "resize", "normalise", "threshold"])
        | st.text(max_size=12),
        max_size=4,
    ),
    max_size=3,
)


@given(STEPS)
def test_any_steps_are_checked_or_refused(steps: list[dict[str, str]]) -> None:
    for check in (check_pre, check_post):
        with suppress(StepError):
            check(steps)
