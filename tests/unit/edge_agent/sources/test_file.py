# SPDX-License-Identifier: Apache-2.0
"""The file source: order, event time, loops, replacement, and files that are wrong."""

from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import SourceError
from edge_agent.flow import Chunk, Grid
from edge_agent.sources.file import FileSource, ReplayOptions
from edge_agent.sources.recording import load_recordings, read_head

GRID = Grid(4, 2, 1)


def write_file(path: Path, lengths: dict[str, int], offset: float = 0) -> Path:
    """Write recordings whose values are their row numbers plus ``offset``."""
    rows = [np.arange(n, dtype=np.float32)[:, None] + offset for n in lengths.values()]
    names = np.concatenate([np.full(n, name) for name, n in lengths.items()])
    partial = path.with_suffix(".part.npz")
    np.savez(partial, x=np.concatenate(rows), recording=names, y=np.arange(len(names)))
    Path(partial).replace(path)
    return path


def take(source: FileSource, count: int, grid: Grid = GRID) -> list[Chunk]:
    chunks = [source.read(grid) for _ in range(count)]
    assert None not in chunks
    return [one for one in chunks if one is not None]


def spans(chunks: list[Chunk]) -> list[tuple[str, int, int, str]]:
    return [(c.stream, int(c.rows[0, 0]), len(c.rows), c.tag) for c in chunks]


def test_interleaved_takes_a_frame_of_each_recording_in_turn(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.npz", {"p": 9, "q": 6})
    source = FileSource(path, ReplayOptions(sample_rate_hz=50), 0)

    assert spans(take(source, 8)) == [
        ("p", 0, 4, "0"),
        ("q", 0, 4, "0"),
        ("p", 4, 2, "0"),
        ("q", 4, 2, "0"),
        ("p", 6, 2, "0"),
        ("q", 0, 4, "1"),
        ("p", 0, 4, "1"),  # one row is left: fewer than a hop
        ("q", 4, 2, "1"),
    ]


def test_sequential_plays_one_recording_after_another(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.npz", {"p": 6, "q": 4})
    options = ReplayOptions(sample_rate_hz=50, is_interleaved=False)
    source = FileSource(path, options, 0)

    assert spans(take(source, 5)) == [
        ("p", 0, 4, "0"),
        ("p", 4, 2, "0"),
        ("q", 0, 4, "0"),
        ("p", 0, 4, "1"),
        ("p", 4, 2, "1"),
    ]


def test_event_time_goes_on_evenly_over_all_rows(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.npz", {"p": 6, "q": 6})
    source = FileSource(path, ReplayOptions(sample_rate_hz=50), 1_000_000)
    times = np.concatenate([one.times_us for one in take(source, 4)])

    assert times.tolist() == [1_000_000 + 20_000 * n for n in range(12)]


def test_without_repeat_the_source_ends(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.npz", {"p": 6, "q": 4})
    options = ReplayOptions(sample_rate_hz=50, repeat=False, follow=False)
    source = FileSource(path, options, 0)
    assert len(take(source, 3)) == 3
    assert not source.is_exhausted

    assert source.read(GRID) is None
    assert source.is_exhausted


def test_a_replaced_file_is_played_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.file.POLL_SECONDS", 0.0)
    path = write_file(tmp_path / "a.npz", {"p": 6})
    source = FileSource(path, ReplayOptions(sample_rate_hz=50), 0)
    take(source, 1)
    write_file(path, {"left": 8}, offset=100)
    (chunk,) = take(source, 1)

    assert spans([chunk]) == [("left", 100, 4, "0")]
    assert chunk.times_us[0] == 80_000
    assert chunk.is_start


def test_a_broken_replacement_is_named_and_the_next_good_one_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.file.POLL_SECONDS", 0.0)
    path = write_file(tmp_path / "a.npz", {"p": 6})
    source = FileSource(path, ReplayOptions(sample_rate_hz=50), 0)
    take(source, 1)
    path.write_bytes(b"PK half a file")
    with pytest.raises(SourceError, match=r"expected an \.npz file"):
        source.read(GRID)
    assert spans(take(source, 1)) == [("p", 4, 2, "0")]

    write_file(path, {"q": 6})
    assert spans(take(source, 1)) == [("q", 0, 4, "0")]


def test_another_grid_begins_every_recording_anew(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.npz", {"p": 9})
    source = FileSource(path, ReplayOptions(sample_rate_hz=50), 0)
    take(source, 2)

    assert spans(take(source, 1, Grid(8, 8, 1))) == [("p", 0, 8, "0")]


def test_a_missing_file_is_awaited_only_where_it_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "none.npz"
    with pytest.raises(SourceError, match=r"none\.npz"):
        FileSource(path, ReplayOptions(sample_rate_hz=50, follow=False), 0)
    source = FileSource(path, ReplayOptions(sample_rate_hz=50), 0)
    with pytest.raises(SourceError, match=r"expected a file of recordings, found none"):
        source.read(GRID)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({}, "expected x"),
        ({"x": np.zeros(3)}, "expected x as numbers of shape"),
        ({"x": np.array([["a"]])}, "expected x as numbers"),
        ({"x": np.zeros((0, 3))}, "found none"),
        ({"x": np.zeros((4, 3)), "recording": np.zeros(3)}, "expected 4 of recording"),
        ({"x": np.array([[object()]])}, "expected an .npz file"),
    ],
)
def test_files_of_another_form_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], problem: str
) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=problem):
        load_recordings(path)


def test_rows_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.npz", {"p": 3})
    source = FileSource(path, ReplayOptions(sample_rate_hz=50), 0)
    with pytest.raises(SourceError, match="expected rows of 6 values, found 1"):
        source.read(Grid(4, 2, 6))
    with pytest.raises(SourceError, match="no recording has 4 rows"):
        source.read(GRID)


def test_the_head_is_the_first_part_of_each_recording(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.npz", {"p": 10, "q": 5})
    head = read_head(path, 0.3)

    assert head["x"][:, 0].tolist() == [0, 1, 2, 0]
    assert head["recording"].tolist() == ["p", "p", "p", "q"]
    assert head["y"].tolist() == [0, 1, 2, 10]
    with pytest.raises(SourceError, match="expected a fraction"):
        read_head(path, 1.5)
