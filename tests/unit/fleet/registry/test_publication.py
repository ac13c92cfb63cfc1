# SPDX-License-Identifier: Apache-2.0
"""Releases: from a signed bundle, over HTTP, to what a device reads."""

import hashlib
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import delete, select

from edge_contract.bundle import Bundle
from edge_contract.errors import BundleSignatureError, BundleUnsignedError
from edge_contract.signing import generate_key
from fleet.errors import NotFoundError, RemoteError
from fleet.registry import metadata, release
from fleet.registry.builder import Builder
from fleet.registry.errors import ReleaseRefusedError
from fleet.registry.key_reference import read_signer
from fleet.store.engine import reading, writing
from fleet.store.tables import audit, models, reference_profiles
from tests.support.served_registry import Served


def test_published_release_reaches_a_device(served: Served) -> None:
    path = served.world.bundle(b"model one")

    published = served.builder.publish_bundle(path)

    assert published.is_new
    assert published.release.target_path == "models/sample-1.bundle"
    assert served.world.reader().read("models/sample-1.bundle") == path.read_bytes()
    (listed,) = served.client.get("/models")["models"]
    assert listed["digest"] == published.release.digest
    assert listed["release"] == 1
    shown = served.client.get("/models/sample/1")
    assert shown["manifest"]["name"] == "sample"
    with reading(served.world.services.engine) as connection:
        profiles = connection.execute(select(reference_profiles)).mappings().all()
        actions = connection.execute(select(audit.c.action, audit.c.actor)).all()
    assert [row["ref_id"].hex() for row in profiles] == [published.release.ref_id]
    assert [tuple(row) for row in actions] == [("model.publish", "admin")]


def test_counters_grow_and_publishing_again_changes_nothing(served: Served) -> None:
    builder = served.builder
    first = served.world.bundle(b"model one")
    second = served.world.bundle(b"model two")
    other = served.world.bundle(b"model one", name="other")

    counters = [
        builder.publish_bundle(path).release.release_counter
        for path in (first, second, other, first)
    ]

    assert counters == [1, 2, 1, 1]
    assert not builder.publish_bundle(first).is_new
    assert len(served.client.get("/models")["models"]) == 3


def test_a_withdrawn_release_is_gone_and_its_number_is_never_given_again(
    served: Served,
) -> None:
    served.builder.publish_bundle(served.world.bundle(b"model one"))
    served.builder.publish_bundle(served.world.bundle(b"model two"))

    served.builder.withdraw("sample", 2)
    third = served.builder.publish_bundle(served.world.bundle(b"model three"))

    assert third.release.release_counter == 3
    assert served.world.reader().read("models/sample-2.bundle") is None
    marks = {
        one["release"]: one["withdrawn_us"] is not None
        for one in served.client.get("/models")["models"]
    }
    assert marks == {1: False, 2: True, 3: False}
    with pytest.raises(NotFoundError):
        served.builder.withdraw("sample", 2)


def test_renewal_extends_the_list(served: Served) -> None:
    served.builder.publish_bundle(served.world.bundle(b"model one"))
    served.world.clock.advance(days=300)

    expires = served.builder.renew()

    assert expires - served.world.clock.now() == timedelta(days=365)
    assert [
        role["days_left"]
        for role in served.client.get("/keys")["roles"]
        if role["role"] == "models"
    ] == [365]


def test_unsigned_and_foreign_bundles_are_not_published(served: Served) -> None:
    foreign, _ = generate_key()

    with pytest.raises(BundleUnsignedError):
        served.builder.publish_bundle(served.world.bundle(b"model", key=b""))
    with pytest.raises(BundleSignatureError):
        served.builder.publish_bundle(served.world.bundle(b"model", key=foreign))

    assert served.client.get("/models")["models"] == []


def test_a_foreign_key_does_not_extend_the_list(served: Served, tmp_path: Path) -> None:
    foreign, _ = generate_key()
    key = tmp_path / "foreign.pem"
    key.write_bytes(foreign)
    path = served.world.bundle(b"model", key=foreign)

    with pytest.raises(ReleaseRefusedError, match="to be signed by the key"):
        Builder(
            served.client, [read_signer(key)], served.world.clock.now
        ).publish_bundle(path)


def upload(served: Served, path: Path, **changes: object) -> str:
    """Send a bundle with a description that a rogue builder changed."""
    signer = read_signer(served.world.paths.builder_key)
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    served.client.put_bytes(f"/models/bundles/{sha256}", content)
    with Bundle.open(path) as bundle:
        target = release.describe_target(bundle.manifest, 1, len(content), sha256)
    target.custom.update(changes)
    current = served.registry.repository.models.signed
    successor = release.build_successor(
        current,
        {},
        served.world.clock.now() + timedelta(days=1),
        current.version + 1,
    )
    successor.targets = {target.path: target}
    return send(served, metadata.encode(metadata.sign(successor, [signer])))


def send(served: Served, document: bytes) -> str:
    with pytest.raises(RemoteError) as caught:
        served.client.put_bytes("/models/metadata", document)
    return caught.value.remote_code


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "0" * 64},
        {"hardware": ["default", "tpu"]},
        {"ref_id": "0" * 16},
        {"bytes": 5},
        {"name": "else"},
        {"release_counter": 0},
        {"digest": "Z" * 64},
    ],
)
def test_a_description_that_the_bundle_does_not_bear_is_refused(
    served: Served, changes: dict[str, object]
) -> None:
    code = upload(served, served.world.bundle(b"model"), **changes)

    assert code == "fleet.registry.refused"
    assert served.world.reader().read("models/sample-1.bundle") is None
    assert served.client.get("/models")["models"] == []


def test_the_server_verifies_the_bundle_itself(served: Served) -> None:
    foreign, _ = generate_key()

    unsigned = upload(served, served.world.bundle(b"model", key=b""))
    wrong = upload(served, served.world.bundle(b"model", key=foreign))

    assert (unsigned, wrong) == ("bundle.unsigned", "bundle.signature")
    assert served.client.get("/models")["models"] == []


def test_documents_that_do_not_follow_are_refused(served: Served) -> None:
    served.builder.publish_bundle(served.world.bundle(b"model one"))
    signer = read_signer(served.world.paths.builder_key)
    repository = served.registry.repository
    current = repository.models.signed
    now = served.world.clock.now()

    def successor(**changes: object) -> bytes:
        document = release.build_successor(
            current,
            dict(current.targets),
            now + timedelta(days=1),
            current.version + 1,
        )
        for name, value in changes.items():
            setattr(document, name, value)
        return metadata.encode(metadata.sign(document, [signer]))

    stale = {"edgeloop": {"follows": current.version - 1, "highest": {"sample": 1}}}
    forgetful = {"edgeloop": {"follows": current.version, "highest": {}}}
    codes = {
        "replayed": send(served, metadata.encode(repository.models)),
        "stale": send(served, successor(unrecognized_fields=stale)),
        "forgetful": send(served, successor(unrecognized_fields=forgetful, targets={})),
        "expired": send(served, successor(expires=now - timedelta(days=1))),
        "not metadata": send(served, b"{}"),
        "not json": send(served, b"\x00\xff"),
        "a timestamp": send(
            served, (served.world.state / "tuf/metadata/timestamp.json").read_bytes()
        ),
        "foreign role": send(
            served,
            metadata.encode(repository._documents["fleet-default"]),
        ),
    }

    assert codes == {
        "replayed": "fleet.registry.conflict",
        "stale": "fleet.registry.conflict",
        "forgetful": "fleet.registry.conflict",
        "expired": "fleet.registry.refused",
        "not metadata": "fleet.registry.refused",
        "not json": "fleet.registry.refused",
        "a timestamp": "fleet.registry.refused",
        "foreign role": "fleet.registry.refused",
    }
    assert repository.models.signed == current


def test_a_bundle_is_needed_with_its_description(served: Served) -> None:
    with pytest.raises(RemoteError, match="expected the sha256"):
        served.client.put_bytes(f"/models/bundles/{'0' * 64}", b"something else")
    with pytest.raises(RemoteError, match="expected a sha256"):
        served.client.put_bytes("/models/bundles/short", b"x")
    assert list((served.world.state / "tuf" / "incoming").iterdir()) == []


def test_a_crash_before_the_catalogue_is_written_heals(served: Served) -> None:
    published = served.builder.publish_bundle(served.world.bundle(b"model one"))
    engine = served.world.services.engine
    with writing(engine) as connection:
        connection.execute(delete(models))
        connection.execute(delete(reference_profiles))

    registry = served.world.open()

    (entry,) = registry.list_entries()
    assert entry.digest == published.release.digest
    assert entry.target_path == published.release.target_path
    with reading(engine) as connection:
        profiles = connection.execute(select(reference_profiles.c.digest)).scalars()
        assert list(profiles) == [entry.digest]


def test_files_are_served_to_strangers_and_nothing_else_is(served: Served) -> None:
    published = served.builder.publish_bundle(served.world.bundle(b"model one"))
    content = (served.registry.repository.target_file("models/sample-1.bundle")).name
    stranger = httpx.Client(base_url=served.http.base_url)

    timestamp = stranger.get("/tuf/metadata/timestamp.json")
    whole = stranger.get(f"/tuf/targets/models/{content}")
    part = stranger.get(
        f"/tuf/targets/models/{content}",
        headers={
            "Range": "bytes=10-19",
            "If-Range": f'"{published.release.sha256}"',
        },
    )
    changed = stranger.get(
        f"/tuf/targets/models/{content}",
        headers={"Range": "bytes=10-19", "If-Range": f'"{"0" * 64}"'},
    )

    assert timestamp.status_code == 200
    assert timestamp.headers["cache-control"] == "no-cache"
    assert hashlib.sha256(whole.content).hexdigest() == published.release.sha256
    assert part.status_code == 206
    assert part.content == whole.content[10:20]
    assert changed.status_code == 200
    assert stranger.get("/tuf/metadata/99.root.json").status_code == 404
    for path in (
        "/tuf/metadata/%2e%2e%2f%2e%2e%2fkeys/models.pub",
        "/tuf/targets/models/../../../fleet.sqlite",
        "/tuf/targets/..%2f..%2fkeys%2fmodels.pub",
        "/tuf/incoming/x",
    ):
        assert stranger.get(path).status_code in {401, 404}, path
    assert stranger.get("/api/v1/models").status_code == 401
    assert stranger.put("/api/v1/models/metadata", content=b"").status_code == 401
    stranger.close()


def test_keys_status_says_that_all_keys_sit_together(served: Served) -> None:
    together = served.client.get("/keys")["advice"]
    for path in (served.world.state / "keys" / "offline").iterdir():
        path.unlink()

    apart = served.client.get("/keys")["advice"]

    assert len(together) == 1
    assert "root, targets, models lie beside the online ones" in together[0]
    assert apart == []
