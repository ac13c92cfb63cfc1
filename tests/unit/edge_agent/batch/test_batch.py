# SPDX-License-Identifier: Apache-2.0
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from edge_agent.batch.run import Job, Outcome, run_batch
from edge_agent.batch.store import BatchStore, StoredPredictions
from edge_agent.batch.table import Form, read_blocks
from edge_agent.errors import BackendError, BatchError
from edge_agent.flow import Float32
from tests.support.served_models import load_model

FEATURES = ("a", "b", "c", "d")
FORM = Form((4,), FEATURES, "id")
LABELS = json.dumps(["low", "middle", "high"])
MODEL = ("toy", "ab" * 32, "float32")


class Stub:
    """Doubles a row's first value; counts; fails and is killed where told to."""

    def __init__(self, ends_after: int = 10**9) -> None:
        self.rows = 0
        self._ends_after = ends_after

    def infer(self, data: Float32) -> Float32:
        if self.rows == self._ends_after:
            raise KeyboardInterrupt
        self.rows += 1
        if data[0] < 0:
            msg = "litert: refused"
            raise BackendError(msg)
        return np.array([data[0], 0.5, 0.25], np.float32)


def ticking(step_us: int) -> Callable[[], int]:
    now = [0]

    def clock_us() -> int:
        now[0] += step_us
        return now[0]

    return clock_us


def write_csv(path: Path, rows: int = 5, *, start: int = 0) -> Path:
    lines = ["id,a,b,c,d,y"]
    lines += [f"k{row},{row / 8},0,1,2,9" for row in range(start, start + rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def run(table: Path, target: Path, predictor: Any, **changes: Any) -> Outcome:
    job = Job(table, changes.get("form", FORM), MODEL, LABELS)
    step_us = changes.get("step_us", 0)
    return run_batch(
        job, predictor, target, clock_us=ticking(step_us), report=lambda _: None
    )


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(
            "SELECT key, row, output, label, score, error FROM predictions ORDER BY row"
        ).fetchall()


def test_predictions_of_a_csv_file(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", 9)

    outcome = run(table, tmp_path / "p.sqlite", Stub())

    assert outcome == Outcome(9, 0)
    found = rows_of(tmp_path / "p.sqlite")
    assert [one[:2] for one in found] == [(f"k{row}", row) for row in range(9)]
    assert np.frombuffer(found[8][2], "<f4").tolist() == [1.0, 0.5, 0.25]
    assert [(one[3], one[4]) for one in (found[0], found[8])] == [
        ("middle", 0.5),
        ("low", 1.0),
    ]


def test_a_real_model_gives_what_it_gives_alone(tmp_path: Path) -> None:
    model = load_model(tmp_path)
    x = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
    np.savez(tmp_path / "t.npz", x=x, id=np.arange(300) * 10)
    target = tmp_path / "p.sqlite"

    outcome = run(tmp_path / "t.npz", target, model)

    assert outcome == Outcome(300, 0)
    found = StoredPredictions({"p": target}).find("p", "2990")
    assert found is not None
    assert found["output"] == model.infer(x[299]).tolist()
    assert (found["row"], found["model"], found["digest"]) == (299, MODEL[0], MODEL[1])


def test_a_row_that_fails_says_why_and_the_rest_goes_on(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("id,a,b,c,d\n1,-1,0,0,0\n2,,0,0,0\n3,1,0,0,0\n")

    outcome = run(table, tmp_path / "p.sqlite", Stub())

    assert outcome == Outcome(3, 2)
    errors = [one[5] for one in rows_of(tmp_path / "p.sqlite")]
    assert errors == ["litert: refused", "the output is not finite", None]
    found = StoredPredictions({"p": tmp_path / "p.sqlite"}).find("p", "2")
    assert found is not None
    assert (found["output"], found["error"]) == (None, "the output is not finite")


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_the_next_run_goes_on_where_the_last_one_ended(
    tmp_path: Path, kind: str
) -> None:
    table = write_csv(tmp_path / "t.csv", 1000)
    if kind == "npz":
        x = np.zeros((1000, 4), np.float32)
        x[:, 0] = np.arange(1000) / 8
        keys = np.array([f"k{row}" for row in range(1000)])
        table = tmp_path / "t.npz"
        np.savez(table, x=x, id=keys)
    target, whole = tmp_path / "p.sqlite", tmp_path / "whole.sqlite"
    run(table, whole, Stub())

    with pytest.raises(KeyboardInterrupt):
        run(table, target, Stub(ends_after=600), step_us=1_000_000)
    done = len(rows_of(target))
    rest = Stub()
    outcome = run(table, target, rest)

    assert (done, rest.rows, outcome.rows) == (512, 488, 1000)
    assert rows_of(target) == rows_of(whole)


def test_a_complete_store_is_left_alone(tmp_path: Path) -> None:
    table, target = write_csv(tmp_path / "t.csv"), tmp_path / "p.sqlite"
    run(table, target, Stub())
    again = Stub()

    assert run(table, target, again) == Outcome(5, 0)
    assert again.rows == 0


def test_another_table_or_model_is_refused(tmp_path: Path) -> None:
    table, target = write_csv(tmp_path / "t.csv"), tmp_path / "p.sqlite"
    run(table, target, Stub())
    write_csv(table, 6)

    with pytest.raises(BatchError, match="expected predictions of input"):
        run(table, target, Stub())

    write_csv(table, 5)
    job = Job(table, FORM, ("toy", "cd" * 32, "float32"), LABELS)
    with pytest.raises(BatchError, match="expected predictions of digest"):
        BatchStore(target, job.identity)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("id,a,b,c,d\nx,1,0,0,0\nx,2,0,0,0\n")

    with pytest.raises(BatchError, match="row 1: its key 'x' was there before"):
        run(table, tmp_path / "p.sqlite", Stub())

    assert rows_of(tmp_path / "p.sqlite") == []


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    table, target = write_csv(tmp_path / "t.csv"), tmp_path / "p.sqlite"
    identity = Job(table, FORM, MODEL, LABELS).identity
    with BatchStore(target, identity) as late:
        run(table, target, Stub())

        with pytest.raises(BatchError, match="another edge-agent batch writes it"):
            late.append([])


def test_columns_are_found_by_the_features_names(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("\ufeffd,c,id,group,b,a\n4,3,k,7,2,1\n", encoding="utf-8")

    (block,) = read_blocks(table, FORM, 0)

    assert (block.keys, block.frames.tolist()) == (["k"], [[1, 2, 3, 4]])


def test_without_a_key_the_number_of_the_row_is_it(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.ones((300, 2, 2), np.int16))

    blocks = list(read_blocks(tmp_path / "t.npy", Form((2, 2), (), ""), 298))

    assert [one.keys for one in blocks] == [["298", "299"]]
    assert blocks[0].frames.dtype == np.float32


BAD_TABLES: dict[str, tuple[str, str]] = {
    "no header": ("", "different names and keys in id"),
    "no key": ("a,b,c,d\n", "different names and keys in id"),
    "two of a name": ("id,a,a,b,c,d\n", "different names"),
    "a column short": ("id,a,b,c\n", "expected 4 columns of numbers, found 3"),
    "a text": ("id,a,b,c,d\n1,2,3,4,x\n", "line 2: d: expected a number, found 'x'"),
    "a short row": ("id,a,b,c,d\n1,2\n", "line 2: expected at least 3 cells, found 2"),
    "no key there": ("id,a,b,c,d\n,1,2,3,4\n", "row 0: expected a key"),
    "a long key": (f"id,a,b,c,d\n{'k' * 513},1,2,3,4\n", "row 0: expected a key"),
    "a torn quote": ('id,a,b,c,d\n"1,2,3,4,5\n', "expected a CSV file"),
    "NUL": ("id,a,b,c,d\n1\0,2,3,4,5\n", "(expected a CSV file|expected a key)"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_csv_file_is_refused_with_the_place(tmp_path: Path, name: str) -> None:
    text, reason = BAD_TABLES[name]
    table = tmp_path / "t.csv"
    table.write_text(text)

    with pytest.raises(BatchError, match=reason):
        list(read_blocks(table, FORM, 0))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"y": np.zeros(3)}, "expected an array x and keys in id"),
        ({"x": np.zeros((3, 4))}, "expected an array x and keys in id"),
        ({"x": np.zeros((3, 5)), "id": np.arange(3)}, "expected x as numbers"),
        ({"x": np.array([["a"] * 4]), "id": np.arange(1)}, "expected x as numbers"),
        ({"x": np.zeros(4), "id": np.arange(4)}, "expected x as numbers"),
        ({"x": np.zeros((3, 4)), "id": np.arange(2)}, "expected 3 keys in id"),
        ({"x": np.zeros((3, 4)), "id": np.zeros((3, 1))}, "expected 3 keys in id"),
    ],
)
def test_a_bad_array_file_is_refused(
    tmp_path: Path, arrays: dict[str, Any], reason: str
) -> None:
    np.savez(tmp_path / "t.npz", **arrays)

    with pytest.raises(BatchError, match=reason):
        list(read_blocks(tmp_path / "t.npz", FORM, 0))


@pytest.mark.parametrize("name", ["t.npz", "t.npy", "t.csv", "t.txt"])
def test_bytes_that_are_no_table_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04\xff\xfe" * 9)

    with pytest.raises(BatchError):
        list(read_blocks(tmp_path / name, FORM, 0))
    with pytest.raises(BatchError, match="cannot be read"):
        run(tmp_path / "none.csv", tmp_path / "p.sqlite", Stub())


def test_another_file_is_never_written_over(tmp_path: Path) -> None:
    table, target = write_csv(tmp_path / "t.csv"), tmp_path / "p.sqlite"
    target.write_bytes(b"precious" * 100)

    with pytest.raises(BatchError, match="expected a store of predictions"):
        run(table, target, Stub())
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as database:
        database.execute("CREATE TABLE mine (x)")
    with pytest.raises(BatchError, match="expected a store of predictions"):
        run(table, tmp_path / "other.sqlite", Stub())
    with pytest.raises(BatchError, match=r"expected \.sqlite or \.parquet"):
        run(table, tmp_path / "p.db", Stub())

    assert target.read_bytes() == b"precious" * 100


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", 700)
    target = tmp_path / "p.parquet"
    with pytest.raises(KeyboardInterrupt):
        run(table, target, Stub(ends_after=600), step_us=1_000_000)
    assert not target.exists()
    rest = Stub()

    outcome = run(table, target, rest)

    read = pyarrow.parquet.read_table(target)
    assert (outcome, rest.rows, read.num_rows) == (Outcome(700, 0), 188, 700)
    first = read.slice(0, 1).to_pylist()[0]
    assert first == {
        "key": "k0",
        "output": [0.0, 0.5, 0.25],
        "label": "middle",
        "score": 0.5,
        "error": None,
    }
    assert read.schema.metadata[b"digest"] == MODEL[1].encode()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["p.parquet", "t.csv"]
    with pytest.raises(BatchError, match="expected no file, found one"):
        run(table, target, Stub())


def test_look_ups(tmp_path: Path) -> None:
    table, target = write_csv(tmp_path / "t.csv"), tmp_path / "p.sqlite"
    run(table, target, Stub())
    damaged = tmp_path / "damaged.sqlite"
    data = bytearray(target.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    damaged.write_bytes(data)
    stores = StoredPredictions(
        {"p": target, "gone": tmp_path / "gone.sqlite", "damaged": damaged}
    )

    assert stores.names == ("p", "gone", "damaged")
    assert stores.find("p", "k9") is None
    assert stores.find("p", "k4") == {
        "store": "p",
        "key": "k4",
        "row": 4,
        "model": "toy",
        "digest": MODEL[1],
        "output": [0.5, 0.5, 0.25],
        "label": "low",
        "score": 0.5,
        "error": None,
    }
    for name in ("gone", "damaged", "unknown"):
        with pytest.raises(BatchError, match=f"store '?{name}'?"):
            stores.find(name, "k4")
    assert not (tmp_path / "gone.sqlite").exists()
