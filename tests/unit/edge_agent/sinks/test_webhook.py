# SPDX-License-Identifier: Apache-2.0
"""The webhook sink: what is posted, which answers mean what, and servers that hang."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config.sinks import WebhookSinkConfig
from edge_agent.config.units import Duration
from edge_agent.errors import LinkError, SinkError, SinkRefusedError
from edge_agent.sinks.webhook import WebhookOutlet
from tests.support.mqtt_broker import free_port
from tests.support.sinks import Hook, make_result


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.close()


def outlet_of(url: str, **more: Any) -> WebhookOutlet:
    config = WebhookSinkConfig(url, timeout=Duration(2_000_000))
    return WebhookOutlet(replace(config, **more))


def test_a_batch_is_posted_with_the_secret(hook: Hook, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("Bearer abc\n")
    outlet = outlet_of(hook.url, secret_file=secret)
    assert outlet.put([make_result("a"), make_result("b")]) == 2

    (request,) = hook.requests
    assert request["path"] == "/results?a=b"
    assert request["ids"] == ["a", "b"]
    assert request["headers"]["Authorization"] == "Bearer abc"
    assert request["headers"]["Content-Type"] == "application/json"


def test_a_batch_that_is_tried_again_has_the_same_key(hook: Hook) -> None:
    hook.statuses = [503, 429, 200]
    outlet = outlet_of(hook.url)
    for status in (503, 429):
        with pytest.raises(SinkError, match=f"expected 2xx, found {status}") as caught:
            outlet.put([make_result("a")])
        assert not isinstance(caught.value, SinkRefusedError)
    outlet.put([make_result("a")])
    outlet.put([make_result("b")])

    keys = [one["headers"]["Idempotency-Key"] for one in hook.requests]
    assert keys[0] == keys[1] == keys[2] != keys[3]


@pytest.mark.parametrize("status", [301, 400, 401, 404])
def test_other_answers_are_refusals(hook: Hook, status: int) -> None:
    hook.statuses = [status]
    with pytest.raises(SinkRefusedError, match=f"found {status}"):
        outlet_of(hook.url).put([make_result("a")])
    assert len(hook.requests) == 1  # a redirect is not followed


def test_a_server_that_hangs_is_given_up() -> None:
    server = Hook(is_hung=True)
    outlet = outlet_of(server.url, timeout=Duration(100_000))
    with pytest.raises(SinkError, match="timed out"):
        outlet.put([make_result("a")])
    server.close()


def test_a_server_that_is_not_there_is_named() -> None:
    port = free_port()
    with pytest.raises(
        SinkError, match=rf"127\.0\.0\.1:{port}: ConnectionRefusedError"
    ):
        outlet_of(f"http://127.0.0.1:{port}/").put([make_result("a")])


def test_a_secret_never_travels_in_plain_text(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("abc")
    with pytest.raises(SinkError, match="expected https, because a secret is given"):
        outlet_of("http://plant.example/results", secret_file=secret)
    outlet_of("http://plant.example/results")
    outlet_of("https://plant.example/results", secret_file=secret)
    secret.write_text("a\nX-Injected: b")
    with pytest.raises(LinkError, match="expected one line"):
        outlet_of("https://plant.example/results", secret_file=secret)
    with pytest.raises(LinkError, match="expected a file with a secret"):
        outlet_of("https://plant.example/", secret_file=tmp_path / "none")


@pytest.mark.parametrize(
    "url",
    ["", "ftp://a/b", "https://", "http://a:99999/", "https://user:pass@a/", "a.b/c"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SinkError, match="expected an address"):
        outlet_of(url)
