# SPDX-License-Identifier: Apache-2.0
"""A running agent in private mode, killed and restarted: noise is drawn once."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_contract.messages import decode_up
from edge_contract.window_report import WindowReport
from tests.support.agent_home import AgentHome


@pytest.fixture
def home(tmp_path: Path) -> Iterator[AgentHome]:
    made = AgentHome(tmp_path)
    made.config.write_text(made.config.read_text() + "privacy: {epsilon: 2.5}\n")
    made.enrol()
    made.record()
    made.install()
    yield made
    made.close()


def read_windows(home: AgentHome) -> dict[int, bytes]:
    with closing(sqlite3.connect(home.state_dir / "outbox.sqlite")) as database:
        rows = database.execute("SELECT seq, body FROM rows WHERE kind = 'window'")
        return dict(rows.fetchall())


def test_windows_are_noised_once_and_nothing_is_lost_track_of(home: AgentHome) -> None:
    home.start()
    home.await_produced(400)
    home.kill()
    before = read_windows(home)
    assert before

    home.start()
    home.await_produced(home.read_counter() + 400)
    home.stop()

    after = read_windows(home)
    assert before == {seq: after[seq] for seq in before}
    assert len(after) > len(before)
    reports = [decode_up("window", body) for body in after.values()]
    for report in reports:
        assert isinstance(report, WindowReport)
        assert report.epsilon_millionths == 2_500_000
        assert report.moment_block == b""
    books = home.read_books()
    assert books.produced == books.accounted
