# SPDX-License-Identifier: Apache-2.0
"""Who is believed without a network, and whether a real broker answers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.device import load_builder_keys
from edge_agent.errors import LinkError, NotEnrolledError, UpdateTrustError
from edge_agent.runtime.model import load
from edge_agent.telemetry.greeting import greet
from edge_contract.enrolment import Enrolment
from edge_contract.errors import BundleSignatureError, BundleUnsignedError
from edge_contract.signing import generate_key
from tests.support.agent_home import unused_port
from tests.support.bundles import make_bundle
from tests.support.mqtt_broker import Mosquitto, Rumqttd, TestBroker
from tests.support.tuf_repository import TufRepository


@pytest.fixture(params=[pytest.param(Mosquitto, marks=pytest.mark.broker), Rumqttd])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBroker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    broker: TestBroker = request.param(folder)
    broker.start()
    yield broker
    broker.stop()


def enrolment(root: bytes = b"{}", port: int = 1) -> Enrolment:
    return Enrolment(
        fleet="default",
        device="watch-1",
        key=bytes(32),
        epoch=1,
        tuf_root=root,
        broker_host="127.0.0.1",
        broker_port=port,
        api_url="http://127.0.0.1:1",
    )


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    """A repository whose targets the device has seen once."""
    repository = TufRepository(tmp_path / "served")
    repository.publish()
    state = tmp_path / "state"
    (state / "tuf").mkdir(parents=True)
    enrolment(repository.root).save(state / "device.json")
    served = next((tmp_path / "served").rglob("*targets.json"))
    (state / "tuf" / "targets.json").write_bytes(served.read_bytes())
    return repository


def test_the_enrolled_root_vouches_for_the_builder(
    repository: TufRepository, tmp_path: Path
) -> None:
    make_bundle(tmp_path / "a.bundle", sign_key=repository.builder_key)
    model = load(tmp_path / "a.bundle", state_dir=tmp_path / "state")
    assert model.manifest.name == "toy"

    make_bundle(tmp_path / "b.bundle", sign_key=generate_key()[0])
    with pytest.raises(BundleSignatureError):
        load(tmp_path / "b.bundle", state_dir=tmp_path / "state")
    make_bundle(tmp_path / "c.bundle")
    with pytest.raises(BundleUnsignedError):
        load(tmp_path / "c.bundle", state_dir=tmp_path / "state")


def test_targets_that_the_root_did_not_sign_name_no_builder(
    repository: TufRepository, tmp_path: Path
) -> None:
    del repository
    other = TufRepository(tmp_path / "other")
    other.publish()
    forged = next((tmp_path / "other").rglob("*targets.json"))
    cached = tmp_path / "state" / "tuf" / "targets.json"
    cached.write_bytes(forged.read_bytes())
    with pytest.raises(UpdateTrustError, match="the builder's keys are not known"):
        load_builder_keys(tmp_path / "state")
    for nonsense in (b"", b"{}", b"[1]", b"\xff"):
        cached.write_bytes(nonsense)
        with pytest.raises(UpdateTrustError):
            load_builder_keys(tmp_path / "state")


def test_without_an_enrolment_or_a_look_nobody_is_known(
    repository: TufRepository, tmp_path: Path
) -> None:
    del repository
    with pytest.raises(NotEnrolledError):
        load_builder_keys(tmp_path)
    (tmp_path / "state" / "tuf" / "targets.json").unlink()
    with pytest.raises(UpdateTrustError) as caught:
        load_builder_keys(tmp_path / "state")
    assert "--trust" in caught.value.next_step


def test_a_broker_that_is_there_answers(broker: TestBroker) -> None:
    assert "answered in" in greet(enrolment(port=broker.port))


def test_a_broker_that_is_not_there_is_named() -> None:
    port = unused_port()
    with pytest.raises(LinkError, match=f"broker 127.0.0.1:{port}: ") as caught:
        greet(replace(enrolment(), broker_port=port))
    assert "check that the server runs" in caught.value.next_step
