# SPDX-License-Identifier: Apache-2.0
"""The real agent process: started, stopped, killed with SIGKILL, and misled."""

import json
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_contract.window import check_statistics
from tests.support.agent_home import AgentHome, Books, await_value, program
from tests.support.bundles import ModelRecipe, make_profile


@pytest.fixture
def home(tmp_path: Path) -> Iterator[AgentHome]:
    home = AgentHome(tmp_path)
    yield home
    home.close()


def ready(home: AgentHome) -> AgentHome:
    home.enrol()
    home.record()
    home.install()
    return home


def check_books(books: Books, windows: int) -> None:
    assert books.closed + books.open + books.to_declare == books.accounted
    assert books.closed_windows == windows


def test_a_stop_accounts_for_every_inference(home: AgentHome) -> None:
    ready(home).start()
    home.await_produced(200)
    home.stop()

    books, windows = home.read_books(), home.read_windows()
    check_books(books, len(windows))
    assert books.accounted == books.produced >= 200
    assert [one.lost for one in windows] == [0] * len(windows)
    assert len(home.read_results()) == books.produced
    status = home.read_status()
    assert (status["produced"], status["failed"]) == (books.produced, 0)
    assert status["windows_closed"] == len(windows)
    assert status["open_inferences"] == books.open


@pytest.mark.parametrize(
    "recipe",
    [
        ModelRecipe(observe="vector", runtime="onnxruntime"),
        ModelRecipe(observe="image", length=6, features=3),
        ModelRecipe(observe="vector", task="regression"),
    ],
    ids=["onnx", "image", "regression"],
)
def test_every_form_of_model_runs_and_is_counted(
    home: AgentHome, recipe: ModelRecipe
) -> None:
    home.enrol()
    home.install(recipe)
    shape = recipe.input_shape[1:]
    x = np.random.default_rng(1).normal(size=(300, *shape)).astype(np.float32)
    np.savez(home.folder / "source.npz", x=x)
    home.start()
    home.await_produced(200)
    home.stop()

    books, windows = home.read_books(), home.read_windows()
    check_books(books, len(windows))
    assert home.read_status()["failed"] == 0
    profile = make_profile(recipe)
    for one in windows:
        check_statistics(one.statistics(profile), profile)
    assert sum(one.inferences for one in windows) == books.closed > 60


def test_windows_hold_as_many_rows_as_fit_their_time(home: AgentHome) -> None:
    ready(home).start()
    home.await_produced(300)
    home.stop()

    windows = home.read_windows()
    assert len(windows) > 3
    assert {one.rows for one in windows} == {64}
    assert {one.start_us % 64_000 for one in windows} == {0}


def test_every_inference_is_accounted_for_under_sigkill(home: AgentHome) -> None:
    ready(home)
    dice = random.Random(11)  # noqa: S311 - points to kill at, not secrets
    for _ in range(6):
        home.start()
        home.await_produced(home.read_counter() + dice.randint(1, 700))
        home.kill()
        books = home.read_books()
        check_books(books, len(home.read_windows()))
        assert books.accounted <= books.produced
    home.start()
    home.await_produced(home.read_counter() + 100)
    home.stop()

    books, windows = home.read_books(), home.read_windows()
    check_books(books, len(windows))
    assert books.accounted == books.produced
    assert len({one.boot_id for one in windows}) == 1
    assert [one.seq for one in windows] == sorted({one.seq for one in windows})


def test_an_ended_source_closes_the_last_window_and_the_agent(tmp_path: Path) -> None:
    home = AgentHome(tmp_path, repeat=False)
    ready(home).start()
    assert home.process is not None
    assert home.process.wait(60) == 0

    books = home.read_books()
    check_books(books, len(home.read_windows()))
    # 3 recordings of 400 rows: a frame at row 8 and one every 4 rows after it.
    assert books.produced == books.closed == 3 * 99
    assert books.open == 0


def test_a_device_without_a_model_waits_for_one(home: AgentHome) -> None:
    home.enrol()
    home.record()
    home.start()
    status = home.await_status("state", "no model")
    home.stop()

    assert status["serving"] == {}
    assert home.read_counter() == 0


def test_a_damaged_release_is_passed_over_for_the_one_before(home: AgentHome) -> None:
    home.enrol()
    home.record()
    good = home.install()
    bad = home.install(ModelRecipe(seed=1))
    bundle = home.slot_dir / "store" / bad / "bundle.bundle"
    data = bytearray(bundle.read_bytes())
    data[data.index(b"TFL3") + 40] ^= 1
    bundle.write_bytes(data)
    home.start()
    status = home.await_status("state", "serving")
    home.stop()

    assert status["serving"] == {"main": good}


def test_a_replaced_file_is_played_without_a_restart(home: AgentHome) -> None:
    ready(home).start()
    home.await_produced(50)
    home.record(recordings=5, seed=1)
    await_value(
        (home.folder / "results.jsonl").read_text,
        lambda text: '"id":"4:' in text,
    )
    home.stop()

    books = home.read_books()
    assert books.accounted == books.produced


def test_two_agents_never_share_a_state_folder(home: AgentHome) -> None:
    ready(home).start()
    home.await_produced(1)
    other = subprocess.run(
        [*program(), "run", "--config", str(home.config), "--json"],
        capture_output=True,
        check=False,
    )
    home.stop()

    assert other.returncode == 1
    assert json.loads(other.stdout)["error"]["code"] == "agent.lock"


def test_a_device_that_is_not_enrolled_says_what_to_do(home: AgentHome) -> None:
    done = subprocess.run(
        [*program(), "run", "--config", str(home.config)],
        capture_output=True,
        check=False,
        text=True,
    )

    assert done.returncode == 1
    assert "Next: run `edge-agent enrol FILE`" in done.stderr


def test_an_interrupt_is_a_clean_stop(home: AgentHome) -> None:
    ready(home).start()
    home.await_produced(10)
    assert home.process is not None
    home.process.send_signal(signal.SIGINT)
    assert home.process.wait(60) == 0

    books = home.read_books()
    assert books.accounted == books.produced


@pytest.mark.parametrize("cut", [b"no database" * 400, None], ids=["nonsense", "torn"])
def test_a_damaged_outbox_is_put_aside_and_the_agent_serves(
    home: AgentHome, cut: bytes | None
) -> None:
    ready(home).start()
    home.await_produced(100)
    home.stop()
    path = home.state_dir / "outbox.sqlite"
    data = path.read_bytes()
    path.write_bytes(cut or data[:100] + bytes(len(data) - 100))
    home.start()
    aside = home.state_dir / "damaged"
    await_value((aside / "produced-main.counter").exists, bool)
    home.await_produced(100)
    home.stop()

    assert (aside / "outbox.sqlite").exists()
    books, windows = home.read_books(), home.read_windows()
    check_books(books, len(windows))
    assert books.accounted == books.produced
    assert [one.lost for one in windows] == [0] * len(windows)
