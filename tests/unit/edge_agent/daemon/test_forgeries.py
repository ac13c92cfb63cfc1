# SPDX-License-Identifier: Apache-2.0
"""Forged down messages are told of at once, then hourly; innocent ones never."""

from edge_agent.daemon.forgeries import AGAIN_US, ForgeryWatch


def test_the_first_is_told_at_once_and_the_rest_in_an_hour() -> None:
    watch = ForgeryWatch()

    assert watch.look({}, 0) == {}
    assert watch.look({"envelope.mac": 2}, 5) == {"envelope.mac": 2}
    assert watch.look({"envelope.mac": 9, "topic": 1}, 4 + AGAIN_US) == {}
    assert watch.look({"envelope.mac": 9, "topic": 1}, 5 + AGAIN_US) == {
        "envelope.mac": 7,
        "topic": 1,
    }
    assert watch.look({"envelope.mac": 9, "topic": 1}, 10 * AGAIN_US) == {}


def test_what_a_broker_does_without_malice_is_not_told() -> None:
    late = {"message.expired": 3, "message.replay": 4, "broker": 5}

    assert ForgeryWatch().look(late, 0) == {}
