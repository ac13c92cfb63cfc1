# SPDX-License-Identifier: Apache-2.0
"""From the server to a device by stick: its own export, its own import, no network."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.errors import UpdateTrustError
from edge_agent.ota.folder import FolderAccess
from edge_agent.ota.machine import UpdateRecord
from edge_agent.ota.update import UpdateSettings, run_update
from edge_contract.canonical import encode_json
from edge_contract.enrolment import Enrolment
from fleet.registry.export import Receiver, export_repository
from fleet.registry.rotation import collect, propose_keys
from fleet.registry.site import Site
from fleet.store.engine import database_url, open_engine
from fleet.store.migrate import migrate
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.registry_world import make_world
from tests.support.served_registry import Served, serve_registry
from tests.support.tuf_repository import rule

SELFTEST = [sys.executable, "-m", "edge_agent.cli", "selftest"]


@contextmanager
def opened(folder: Path) -> Iterator[Served]:
    engine = open_engine(database_url(folder / "fleet.sqlite"))
    migrate(engine)
    with serve_registry(make_world(folder, engine)) as served:
        yield served
    engine.dispose()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "server").mkdir()
    with opened(tmp_path / "server") as served:
        yield served


def release(served: Served, number: int) -> str:
    path = served.world.state / f"{number}.bundle"
    key = served.world.paths.builder_key.read_bytes()
    digest = make_bundle(path, ModelRecipe(seed=number), sign_key=key)
    published = served.builder.publish_bundle(path).release
    document = {
        "format": 1,
        "fleet": "default",
        "desired_version": number,
        "slots": {"main": [rule(published.target_path, digest, number)]},
    }
    served.registry.publish_desired("default", encode_json(document))
    return digest


class Device:
    """A device that never hears of the server."""

    def __init__(self, state_dir: Path, root: bytes) -> None:
        state_dir.mkdir()
        self._state_dir = state_dir
        self._enrolment = Enrolment(
            fleet="default",
            device="watch-1",
            key=bytes(32),
            epoch=1,
            tuf_root=root,
            broker_host="127.0.0.1",
            broker_port=1,
            api_url="http://127.0.0.1:9",
        )

    def bring(self, stick: Path) -> UpdateRecord:
        settings = UpdateSettings(
            self._state_dir,
            "main",
            "linux-x86_64",
            lambda path: [*SELFTEST, str(path)],
            is_now=True,
        )
        return run_update(settings, self._enrolment, FolderAccess(stick))


@pytest.mark.slow
def test_a_release_and_new_keys_reach_a_device_by_stick(
    served: Served, tmp_path: Path
) -> None:
    world, stick = served.world, tmp_path / "stick"
    device = Device(tmp_path / "device", world.paths.root.read_bytes())
    first = release(served, 1)
    export_repository(served.client, stick, Receiver("default", "watch-1"))
    assert device.bring(stick).digest == first

    site = Site(world.state, world.clock.now)
    for role in ("root", "snapshot", "timestamp", "targets"):
        propose_keys(site, role, [site.keyring.make(role)])
        assert collect(site).path is None
    served.registry.start()  # as after the restart that a change of keys asks for
    second = release(served, 2)
    old = tmp_path / "old"
    stick.rename(old)
    export_repository(served.client, stick, Receiver("default"))

    record = device.bring(stick)
    assert (record.digest, record.is_ready) == (second, True)
    with pytest.raises(UpdateTrustError):
        device.bring(old)
