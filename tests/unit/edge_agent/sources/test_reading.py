# SPDX-License-Identifier: Apache-2.0
"""Messages from outside: every form, and every kind of nonsense."""

import math

import numpy as np
import pytest

from edge_agent.errors import SourceError
from edge_agent.sources.reading import CsvForm, parse_float32, parse_json

FIELDS = ("ax", "ay")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("[1, 2.5]", [[1.0, 2.5]]),
        ("[[1, 2], [3, 4]]", [[1.0, 2.0], [3.0, 4.0]]),
        ('{"x": [1, 2]}', [[1.0, 2.0]]),
        ('{"x": [[1, 2]], "other": {}}', [[1.0, 2.0]]),
        ('{"ay": 2, "ax": 1}', [[1.0, 2.0]]),
    ],
)
def test_json_forms(text: str, rows: list[list[float]]) -> None:
    reading = parse_json(text.encode(), FIELDS, "s")
    assert reading.rows.dtype == np.float32
    assert reading.rows.tolist() == rows
    assert (reading.stream, reading.id, reading.time_us) == ("s", "", None)


def test_json_says_id_time_and_stream() -> None:
    text = b'{"x": [1], "id": 7, "t": 1700000000.25, "stream": "b"}'
    reading = parse_json(text, (), "s")
    assert (reading.id, reading.stream) == ("7", "b")
    assert reading.time_us == 1_700_000_000_250_000
    text = b'{"x": [1], "id": "n", "t": "2023-11-14T23:13:20.25+01:00"}'
    assert parse_json(text, (), "s").time_us == 1_700_000_000_250_000


def test_what_is_missing_is_nan() -> None:
    for text in (b"[1, null]", b"[1, NaN]", b'{"ax": 1}', b'{"ax": 1, "ay": null}'):
        rows = parse_json(text, FIELDS, "s").rows
        assert rows[0, 0] == 1
        assert math.isnan(rows[0, 1])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"half a line",
        b'{"x": [1, 2',
        b"\xff\xfe[1]",
        b"[1e400, 1]",
        b"[1e39, 1]",
        b"[Infinity, 1]",
        b"[-Infinity, 1]",
        b"[" + b"1" * 400 + b", 1]",
        b"[" + b"1" * 5000 + b", 1]",
        b'["1", 2]',
        b"[true, 2]",
        b"[[1, 2], [3]]",
        b"[[1, 2], 3]",
        b"[1, [2]]",
        b"[[[1]], [[2]]]",
        b"[]",
        b"[[]]",
        b"3",
        b'"text"',
        b"null",
        b'{"x": 3}',
        b'{"x": {}}',
        b'{"bx": 1}',
        b"[" * 100_000,
        b'{"x": [1], "t": "yesterday"}',
        b'{"x": [1], "t": "2023-11-14T23:13:20"}',
        b'{"x": [1], "t": true}',
        b'{"x": [1], "t": NaN}',
        b'{"x": [1], "t": 1e300}',
        b'{"x": [1], "t": -5}',
        b'{"x": [1], "t": [1]}',
        b'{"x": [1], "id": [1]}',
        b'{"x": [1], "id": "a\\nb"}',
        b'{"x": [1], "stream": "' + b"s" * 257 + b'"}',
    ],
)
def test_nonsense_in_json_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"^message: expected .*, found"):
        parse_json(data, FIELDS, "s")


def test_raw_floats() -> None:
    data = np.array([1, 2, math.nan], dtype="<f4").tobytes()
    reading = parse_float32(data, "t")
    assert reading.rows.shape == (1, 3)
    assert reading.is_flat
    for bad in (b"", data[:-1], np.array([math.inf], dtype="<f4").tobytes()):
        with pytest.raises(SourceError):
            parse_float32(bad, "t")


def test_csv_columns_are_known_by_name() -> None:
    form = CsvForm(b"id,ax,recording,t,ay,y\r\n", "s")
    assert form.fields == ("ax", "ay")
    reading = form.parse(b'n1,1,"p,q",1700000000,,3\r\n')
    assert (reading.id, reading.stream) == ("n1", "p,q")
    assert reading.time_us == 1_700_000_000_000_000
    assert reading.rows[0, 0] == 1
    assert math.isnan(reading.rows[0, 1])
    assert CsvForm(b"a", "s").parse(b"2").stream == "s"


@pytest.mark.parametrize("header", [b"", b"id,t", b"a,a", b"\xff", b'a,"b'])
def test_a_header_without_values_is_refused(header: bytes) -> None:
    with pytest.raises(SourceError):
        CsvForm(header, "s")


@pytest.mark.parametrize(
    "line", [b"1", b"1,2,3", b"one,2", b"inf,2", b"1e39,2", b'"1,2', b"\xff,2", b"\0,2"]
)
def test_nonsense_in_csv_is_refused(line: bytes) -> None:
    with pytest.raises(SourceError):
        CsvForm(b"a,b", "s").parse(line)
