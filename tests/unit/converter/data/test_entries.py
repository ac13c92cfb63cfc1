# SPDX-License-Identifier: Apache-2.0
"""Each form of data source: what it yields, and its worst bytes."""

import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from converter.data.module import ModuleEntries
from converter.data.npz import NpzEntries
from converter.data.table import TableEntries
from converter.errors import ConvertDataError

HEADER = "a,b,y,recording"


def table(path: Path, text: str) -> TableEntries:
    path.write_text(text)
    return TableEntries(path)


def values(entries: TableEntries | ModuleEntries | NpzEntries) -> np.ndarray:
    return np.concatenate(list(entries.blocks()))


def test_a_table_gives_features_labels_and_recordings_by_name(tmp_path: Path) -> None:
    found = table(tmp_path / "d.csv", f"{HEADER}\n1,2.5,0,m\n-3,4e1,1,n\n")
    assert values(found).tolist() == [[1.0, 2.5], [-3.0, 40.0]]
    assert found.sides.feature_names == ("a", "b")
    assert found.sides.arrays["y"].tolist() == [0, 1]
    assert found.sides.arrays["recording"].tolist() == ["m", "n"]


def test_a_table_longer_than_a_block_is_read_whole(tmp_path: Path) -> None:
    rows = "\n".join(f"{index},0" for index in range(1000))
    found = table(tmp_path / "d.csv", f"a,b\n{rows}\n")
    assert found.count == 1000
    assert values(found)[:, 0].tolist() == list(range(1000))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "columns of features"),
        ("a,a\n1,2\n", "different names"),
        ("a,\n1,2\n", "different names"),
        ("y,recording\n1,m\n", "columns of features"),
        ("a,b\n1,2\n3\n", "line 3: expected 2 fields, found 1"),
        ("a,b\n1,2\n3,4,5\n", "line 3: expected 2 fields, found 3"),
        ("a,b\n1,2\n3,cold\n", "row 2, column b: expected a number, found 'cold'"),
        ("a,b\n1,2\n3,\n", "row 2, column b: expected a number, found ''"),
        ("a,b\n1,2\n3,nan\n", r"NaN or infinite, the first at \[1, 1\]"),
        ("a,b\n1,1e60\n", "NaN or infinite"),
        ('a,b\n1,"' + "x" * 200_000 + "\n", "expected CSV|longer than"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_table_that_is_none_is_refused(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(ConvertDataError, match=problem):
        values(table(tmp_path / "d.csv", text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(ConvertDataError, match="UTF-8"):
        TableEntries(tmp_path / "d.csv")


def test_a_group_must_be_a_column(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,site\n1,k\n")
    assert TableEntries(tmp_path / "d.csv", group="site").sides.arrays[
        "site"
    ].tolist() == ["k"]
    with pytest.raises(ConvertDataError, match="expected a column 'room'"):
        TableEntries(tmp_path / "d.csv", group="room")


def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    columns = {"a": [1.0, -3.0], "b": [2.5, 40.0], "y": [0, 1]}
    parquet.write_table(pa.table(columns), tmp_path / "d.parquet")
    found = TableEntries(tmp_path / "d.parquet")
    assert values(found).tolist() == [[1.0, 2.5], [-3.0, 40.0]]
    assert found.sides.arrays["y"].tolist() == [0, 1]

    columns["b"] = [None, 1.0]
    parquet.write_table(pa.table(columns), tmp_path / "hole.parquet")
    with pytest.raises(ConvertDataError, match=r"NaN|number"):
        values(TableEntries(tmp_path / "hole.parquet"))
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "d.parquet").read_bytes()[:60])
    with pytest.raises(ConvertDataError, match="expected a Parquet file"):
        TableEntries(tmp_path / "cut.parquet")


def test_an_npy_file_is_the_values_alone(tmp_path: Path) -> None:
    rows = np.arange(600, dtype=np.float32).reshape(300, 2)
    np.save(tmp_path / "d.npy", rows)
    found = NpzEntries(tmp_path / "d.npy")
    assert np.array_equal(values(found), rows)
    assert found.sides.arrays == {}


def test_arrays_that_lie_are_refused(tmp_path: Path) -> None:
    rows = np.ones((300, 2), np.float32)
    np.save(tmp_path / "d.npy", rows)
    whole = (tmp_path / "d.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-1])
    with pytest.raises(ConvertDataError, match="of a block"):
        values(NpzEntries(tmp_path / "cut.npy"))
    np.save(tmp_path / "o.npy", np.array([[None]]), allow_pickle=True)
    with pytest.raises(ConvertDataError, match="objects"):
        NpzEntries(tmp_path / "o.npy")
    np.save(tmp_path / "f.npy", np.asfortranarray(rows))
    with pytest.raises(ConvertDataError, match="Fortran"):
        NpzEntries(tmp_path / "f.npy")
    np.save(tmp_path / "i.npy", rows.astype(np.float64))
    with pytest.raises(ConvertDataError, match="float32, found float64"):
        NpzEntries(tmp_path / "i.npy")


def test_reading_holds_a_block_not_the_file(tmp_path: Path) -> None:
    rows = np.zeros((60_000, 64), np.float32)
    np.savez(tmp_path / "d.npz", x=rows)
    found = NpzEntries(tmp_path / "d.npz")
    tracemalloc.start()
    count = sum(len(block) for block in found.blocks())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_000
    assert peak < rows.nbytes / 10


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "feed_for_test.py").write_text(
        "import numpy as np\n"
        "calls = []\n"
        "def good():\n"
        "    yield np.ones((3, 2)), np.arange(3)\n"
        "    yield {'x': np.zeros((2, 2)), 'y': np.arange(2), 'group': ['a', 'b']}\n"
        "def whole(): return np.ones((300, 2), np.float32)\n"
        "def nothing(): return iter(())\n"
        "def raises():\n"
        "    yield np.ones((1, 2))\n"
        "    raise OSError('no such disk')\n"
        "def text(): yield np.array([['a', 'b']])\n"
        "def uneven():\n"
        "    yield np.ones((1, 2))\n"
        "    yield np.ones((1, 3))\n"
        "def short(): yield np.ones((2, 2)), np.arange(3)\n"
        "def hole(): yield np.array([[1.0, float('nan')]])\n"
        "def shuffled():\n"
        "    calls.append(1)\n"
        "    yield np.full((2, 2), len(calls))\n"
    )
    monkeypatch.chdir(tmp_path)
    yield "feed_for_test"
    sys.modules.pop("feed_for_test", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def test_a_function_yields_batches(module: str) -> None:
    assert values(ModuleEntries(f"{module}:whole")).shape == (300, 2)
    found = ModuleEntries(f"{module}:whole")
    assert [len(one) for one in found.blocks()] == [256, 44]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing", "expected a function 'missing'"),
        ("nothing", "yielded none"),
        ("raises", r"raised OSError: no such disk at feed_for_test.py:10"),
        ("text", "batches x"),
        ("uneven", r"shape \[2\], found \[3\] after 1"),
        ("short", "as many of each array"),
        ("hole", r"the first at \[0, 1\]"),
        ("shuffled", "the same data in every pass"),
    ],
)
def test_a_function_that_fails_is_named(module: str, name: str, problem: str) -> None:
    with pytest.raises(ConvertDataError, match=problem):
        values(ModuleEntries(f"{module}:{name}"))


def test_batches_with_differing_sides_are_refused(module: str) -> None:
    with pytest.raises(ConvertDataError, match="group"):
        ModuleEntries(f"{module}:good")


def test_a_module_that_is_not_there_is_named(module: str) -> None:
    with pytest.raises(ConvertDataError, match="cannot be imported: ModuleNotFound"):
        ModuleEntries(f"{module}_not:good")
