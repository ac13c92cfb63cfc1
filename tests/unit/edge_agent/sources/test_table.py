# SPDX-License-Identifier: Apache-2.0
"""Recordings in tables: CSV, Parquet, and files that are half written or of others."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from edge_agent.errors import SourceError
from edge_agent.flow import Grid
from edge_agent.sources.file import FileSource, ReplayOptions
from edge_agent.sources.recording import load_arrays, load_recordings, read_head
from edge_agent.sources.table import load_table

TEXT = "recording,ax,y,ay\np,1,0,2\np,3,1,\nq,5,0,6\n"


def test_csv_and_parquet_hold_the_same_recordings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TEXT)
    columns = {
        "recording": ["p", "p", "q"],
        "ax": [1.0, 3.0, 5.0],
        "y": [0, 1, 0],
        "ay": [2.0, None, 6.0],
    }
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")

    for name in ("a.csv", "a.parquet"):
        found = load_arrays(tmp_path / name)
        expected = np.array([[1, 2], [3, np.nan], [5, 6]], dtype=np.float32)
        np.testing.assert_array_equal(found["x"], expected)
        assert found["y"].tolist() == [0, 1, 0]
        recordings = load_recordings(tmp_path / name)
        assert [(one.name, len(one.rows)) for one in recordings] == [("p", 2), ("q", 1)]
    assert read_head(tmp_path / "a.csv", 0.5)["x"].tolist() == [[1.0, 2.0]]


def test_a_table_is_replayed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n2\n3\n4\n")
    options = ReplayOptions(sample_rate_hz=10, repeat=False, follow=False)
    source = FileSource(tmp_path / "a.csv", options, 0)
    chunks = [source.read(Grid(2, 2, 1)) for _ in range(2)]
    assert [one.rows.ravel().tolist() for one in chunks if one] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected a header of different names"),
        ("y,recording\n0,p\n", "with values among them"),
        ("a,a\n1,2\n", "different names"),
        ("a,b\n1,2\n3\n", "line 3: expected 2 cells, found 1"),
        ("a,b\n1,x\n", "column b: expected numbers"),
        ("a,b\n", "expected rows, found none"),
        ("\xff", "expected a .csv file in UTF-8"),
        ("a\n" + "1" * (1 << 21), "expected"),
    ],
)
def test_tables_of_another_form_are_refused(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="latin-1")
    with pytest.raises(SourceError, match=problem):
        load_recordings(tmp_path / "a.csv")


def test_a_table_that_is_half_written_is_named_and_the_whole_one_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.file.POLL_SECONDS", 0.0)
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n3")
    source = FileSource(path, ReplayOptions(sample_rate_hz=10), 0)
    with pytest.raises(SourceError, match="line 3: expected 2 cells, found 1"):
        source.read(Grid(1, 1, 2))
    path.write_text("a,b\n1,2\n3,4\n")
    chunk = source.read(Grid(1, 1, 2))
    assert chunk is not None
    assert chunk.rows.tolist() == [[1, 2]]


def test_parquet_is_refused_by_name_where_it_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match=r"expected a \.parquet file"):
        load_recordings(path)
    with pytest.raises(SourceError, match="cannot be read on armv7l") as caught:
        load_table(path, "armv7l")
    assert caught.value.next_step == "convert the file to .npz or .csv"
