# SPDX-License-Identifier: Apache-2.0
"""Changes of keys: what a device reads before, after, and in the middle of each."""

import itertools
import shutil
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from edge_contract.errors import BundleSignatureError
from edge_contract.signing import generate_key
from fleet.registry import files, metadata, release
from fleet.registry.builder import Builder
from fleet.registry.ceremony import Ceremony
from fleet.registry.errors import CeremonyError, KeyUnusableError, RepositoryError
from fleet.registry.key_reference import (
    KeyReference,
    find_key,
    make_or_find_key,
    read_signer,
)
from fleet.registry.rotation import (
    collect,
    propose_first,
    propose_keys,
    renew_targets,
    rotate_delegated,
)
from fleet.registry.setup import init_repository
from fleet.registry.site import Site
from tests.support import power
from tests.support.registry_world import SetClock, World
from tests.support.served_registry import Served
from tests.support.tuf_reader import TufReader

DESIRED = "fleets/default/desired.json"
TOP = metadata.TOP_ROLES
DELEGATED = ("models", "fleet-default")


def site_of(world: World) -> Site:
    return Site(world.state, world.clock.now)


def key_ids(site: Site, role: str) -> tuple[str, ...]:
    return next(one.key_ids for one in site.open().status() if one.role == role)


def rotate(site: Site, role: str, new: KeyReference | None = None) -> KeyReference:
    new = new or site.keyring.make(role)
    if role in TOP:
        propose_keys(site, role, [new])
        assert collect(site).path is None
    else:
        rotate_delegated(site, role, new)
    return new


@pytest.mark.parametrize("role", [*TOP, *DELEGATED])
def test_a_device_follows_a_new_key_of_any_role(world: World, role: str) -> None:
    site, reader = site_of(world), world.reader()
    site.open().publish_desired("default", b'{"n":0}')
    assert reader.read(DESIRED) == b'{"n":0}'
    old = key_ids(site, role)

    new = rotate(site, role)

    assert key_ids(site, role) == (new.public.keyid,) != old
    assert reader.read(DESIRED) == b'{"n":0}'
    site.open().publish_desired("default", b'{"n":1}')
    assert reader.read(DESIRED) == b'{"n":1}'
    assert world.reader("new").read(DESIRED) == b'{"n":1}'
    assert [one.public.keyid for one in site.keyring.references(role)] == [
        new.public.keyid
    ]


@pytest.mark.slow
def test_a_device_that_was_off_for_many_rotations_follows_them_all(
    world: World,
) -> None:
    site, reader = site_of(world), world.reader()
    site.open().publish_desired("default", b'{"n":0}')
    assert reader.read(DESIRED) == b'{"n":0}'

    for role, _ in itertools.product(TOP, range(6)):
        world.clock.advance(seconds=1)
        rotate(site, role)
    site.open().publish_desired("default", b'{"n":1}')

    assert site.open().root.version == 25
    assert reader.read(DESIRED) == b'{"n":1}'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "is_lost"),
    [
        *((role, False) for role in ("root", "snapshot", "models")),
        *((role, True) for role in ("timestamp", "fleet-default")),
    ],
)
def test_a_change_of_keys_whose_power_fails_anywhere_goes_on(
    tmp_path: Path, role: str, *, is_lost: bool
) -> None:
    """With ``is_lost`` the old key is gone: the way back from a lost or stolen key."""
    clock, template, state = SetClock(), tmp_path / "template", tmp_path / "state"
    root = init_repository(template, ["default"], clock.now).root.read_bytes()
    Site(template, clock.now).open().publish_desired("default", b'{"n":0}')
    if is_lost:
        for path in (template / "keys").rglob(f"{role}.*"):
            path.unlink()
    site = Site(state, clock.now)
    moments = 0
    for moment in itertools.count():
        shutil.rmtree(state, ignore_errors=True)
        shutil.copytree(template, state)
        old = key_ids(site, role)
        reader = TufReader(state / "tuf", tmp_path / f"{moment}", root)
        assert reader.read(DESIRED) == b'{"n":0}'

        def change() -> None:
            rotate(site, role)

        moments = power.run(state, change, die_at=moment, lose=True)
        if moments:
            break
        if not is_lost:  # a device in the middle, and a server that starts
            assert reader.read(DESIRED) == b'{"n":0}'
            site.open().publish_desired("default", b'{"n":0}')
        if site.ceremony().proposal is not None:
            assert collect(site).path is None
        elif key_ids(site, role) == old:
            rotate(site, role)
        assert key_ids(site, role) != old
        assert reader.read(DESIRED) == b'{"n":0}'
        site.open().publish_desired("default", b'{"n":1}')
        assert reader.read(DESIRED) == b'{"n":1}'
    assert moment == moments >= 20


def make_people(folder: Path, count: int = 3) -> list[tuple[KeyReference, str]]:
    """Return a private key and the public address of each of some people."""
    people = []
    for number in range(count):
        path = folder / f"person-{number}.pem"
        private, public = generate_key()
        path.write_bytes(private)
        path.with_suffix(".pub").write_bytes(public)
        people.append((find_key(f"file:{path}"), f"public:{path.with_suffix('.pub')}"))
    return people


def sign_copy(
    proposal: Path, folder: Path, *signers: KeyReference, name: str = "copy"
) -> Path:
    """Sign a copy of a proposed root on another machine."""
    document: Metadata[Root] = Metadata.from_bytes(proposal.read_bytes())
    for one in signers:
        metadata.add_signature(document, one.open())
    copy = folder / f"{name}.root.json"
    copy.write_bytes(metadata.encode(document))
    return copy


def test_two_of_three_people_make_and_change_a_root(tmp_path: Path) -> None:
    clock = SetClock()
    site = Site(tmp_path / "state", clock.now)
    people = make_people(tmp_path)
    keys = {role: [site.keyring.ensure(role)] for role in (*TOP[1:], "models")}
    keys["root"] = [find_key(public) for _, public in people]
    propose_first(site, keys, 2)
    (first, _), (second, _), (third, _) = people

    progress = collect(site)
    assert progress.path is not None
    assert [one.count for one in progress.missing] == [2]
    with pytest.raises(CeremonyError, match="2 are missing"):
        init_repository(site.state_dir, ["default"], clock.now)
    one = collect(site, [sign_copy(progress.path, tmp_path, first)])
    assert [one.count for one in one.missing] == [1]
    assert not site.is_made
    assert collect(site, [sign_copy(progress.path, tmp_path, third)]).path is None
    paths = init_repository(site.state_dir, ["default"], clock.now)
    site.open().publish_desired("default", b'{"n":0}')
    reader = TufReader(site.folder, tmp_path / "device", paths.root.read_bytes())
    assert reader.read(DESIRED) == b'{"n":0}'

    new = make_or_find_key(f"file:{tmp_path / 'new.pem'}")
    public = [KeyReference("public:", one.public) for one in (second, third, new)]
    propose_keys(site, "root", public)
    progress = collect(site)
    # Of the old three and of the new three, two each: the first and the second, and
    # one of the new: or the two that stay.
    assert progress.path is not None
    signed = sign_copy(progress.path, tmp_path, second, new)
    assert [one.count for one in collect(site, [signed]).missing] == [1]
    assert collect(site, [sign_copy(progress.path, tmp_path, third)]).path is None
    assert site.open().root.version == 2
    assert reader.read(DESIRED) == b'{"n":0}'


def test_a_copy_that_was_changed_or_forged_is_refused(
    world: World, tmp_path: Path
) -> None:
    site = site_of(world)
    new = site.keyring.make("snapshot")
    (world.state / "keys" / "offline" / "root.pem").rename(tmp_path / "root.pem")
    propose_keys(site, "snapshot", [new])
    progress = collect(site)
    assert progress.path is not None
    key = find_key(f"file:{tmp_path / 'root.pem'}")
    (stranger, _), *_ = make_people(tmp_path)

    with pytest.raises(CeremonyError, match="that does not count: KeyError"):
        collect(site, [sign_copy(progress.path, tmp_path, stranger)])
    forged: Metadata[Root] = Metadata.from_bytes(progress.path.read_bytes())
    signature = metadata.sign(forged.signed, [stranger.open()]).signatures
    (forged_one,) = signature.values()
    forged_one.keyid = key.public.keyid
    forged.signatures[key.public.keyid] = forged_one
    copy = tmp_path / "forged.json"
    copy.write_bytes(metadata.encode(forged))
    with pytest.raises(CeremonyError, match="that does not count: Unverified"):
        collect(site, [copy])
    forged.signed.version += 1
    copy.write_bytes(metadata.encode(metadata.sign(forged.signed, [key.open()])))
    with pytest.raises(CeremonyError, match="found another root"):
        collect(site, [copy])
    for nonsense in (b"", b"{}", b"[1]", b"\xff", b" " * 600_000):
        copy.write_bytes(nonsense)
        with pytest.raises(CeremonyError, match="expected a root document"):
            collect(site, [copy])

    assert collect(site, [sign_copy(progress.path, tmp_path, key)]).path is None


def test_one_root_at_a_time_until_it_is_given_up(world: World, tmp_path: Path) -> None:
    site = site_of(world)
    (world.state / "keys" / "offline" / "root.pem").rename(tmp_path / "root.pem")
    propose_keys(site, "snapshot", [site.keyring.make("snapshot")])
    with pytest.raises(CeremonyError, match="another root waits"):
        propose_keys(site, "timestamp", [site.keyring.make("timestamp")])
    site.open().publish_desired("default", b'{"n":1}')

    site.ceremony().abandon()

    with pytest.raises(CeremonyError, match="expected a proposed root, found none"):
        collect(site)
    assert world.reader().read(DESIRED) == b'{"n":1}'


def test_a_proposal_that_skips_a_version_is_refused(world: World) -> None:
    root = Root(version=3)
    (world.state / "tuf" / "next.root.json").write_bytes(
        metadata.encode(Metadata(root))
    )
    with pytest.raises(CeremonyError, match="expected the successor of root 1, found"):
        site_of(world).ceremony()


@pytest.mark.parametrize("threshold", [0, 2])
def test_a_threshold_out_of_reach_is_refused(world: World, threshold: int) -> None:
    site = site_of(world)
    with pytest.raises(CeremonyError, match="expected 1 to 1"):
        propose_keys(site, "root", [site.keyring.make("root")], threshold)
    assert site.ceremony().proposal is None


def test_a_repository_is_not_made_twice(world: World) -> None:
    with pytest.raises(CeremonyError, match="found one"):
        propose_first(site_of(world), {"root": []}, 1)


def test_a_key_of_snapshot_that_is_not_at_hand_changes_nothing(
    world: World, tmp_path: Path
) -> None:
    site = site_of(world)
    new = make_or_find_key(f"file:{tmp_path / 'away.pem'}")
    (tmp_path / "away.pem").rename(tmp_path / "gone.pem")
    propose_keys(site, "snapshot", [new])

    with pytest.raises(RepositoryError, match=r"away\.pem"):
        collect(site)
    assert site.open().root.version == 1

    (tmp_path / "gone.pem").rename(tmp_path / "away.pem")
    assert collect(site).path is None
    assert world.reader().read(DESIRED) is None


def test_offline_documents_are_signed_again_with_the_same_keys(world: World) -> None:
    site, reader = site_of(world), world.reader()
    site.open().publish_desired("default", b'{"n":0}')
    world.clock.advance(days=300)
    before = {one.role: one.expires for one in site.open().status()}
    renew_targets(site)
    propose_keys(site, "root", site.keyring.references("root"))
    assert collect(site).path is None

    after = {one.role: one.expires for one in site.open().status()}
    for role in ("root", "targets"):
        assert (after[role] - before[role]).days == 300
    assert reader.read(DESIRED) == b'{"n":0}'


def test_a_ceremony_knows_when_a_crash_came_after_the_adoption(world: World) -> None:
    site = site_of(world)
    current = Ceremony(site.folder, None)
    current.propose(Metadata.from_bytes(site.find_root().read_bytes()).signed)

    assert site.ceremony().is_adopted
    assert collect(site).path is None
    assert not (site.folder / "next.root.json").exists()


def test_the_server_lists_no_private_key(world: World) -> None:
    site = site_of(world)
    assert site.keyring.places("root") == ["file"]
    site.keyring.path("root").write_bytes(b"not read")
    assert site.keyring.places("root") == ["file"]
    with pytest.raises(RepositoryError, match="expected an Ed25519 private key"):
        site.keyring.references("root")


def test_a_missing_key_is_named(world: World) -> None:
    site = site_of(world)
    with pytest.raises(KeyUnusableError, match="role snapshot: expected a private key"):
        site.keyring.signers("snapshot", ["00" * 32])
    assert files.PRIVATE_MODE == 0o600


def test_bundles_of_a_replaced_builder_stay_good_unless_its_key_was_stolen(
    served: Served,
) -> None:
    world = served.world
    site = site_of(world)
    served.builder.publish_bundle(world.bundle(b"one"))
    (old,) = release.raw_ed25519(site.open().models_keys())

    rotate(site, "models")
    assert release.bundle_keys(site.open().models.signed) == [old.hex()]
    assert b"one" in (world.reader().read("models/sample-1.bundle") or b"")

    rotate_delegated(site, "models", site.keyring.make("models"), trust_bundles=False)
    kept = release.bundle_keys(site.open().models.signed)
    assert kept == [old.hex()]  # of the two before, only the last one was stolen
    assert len(release.list_releases(site.open().models.signed)) == 1


def test_a_builder_elsewhere_signs_with_both_keys_before_the_change(
    served: Served, tmp_path: Path
) -> None:
    world, site = served.world, site_of(served.world)
    served.builder.publish_bundle(world.bundle(b"one"))
    ((new, public), *_) = make_people(tmp_path)
    both = [read_signer(world.paths.builder_key), new.open()]
    Builder(served.client, both, world.clock.now).renew()

    rotate_delegated(site, "models", find_key(public))  # the public half alone

    assert key_ids(site, "models") == (new.public.keyid,)
    assert world.reader().read("models/sample-1.bundle") is not None


def test_a_builder_in_a_module_vouches_for_a_key_that_signs_bundles(
    served: Served, tmp_path: Path
) -> None:
    world, site = served.world, site_of(served.world)
    module = CryptoSigner.generate_ecdsa()
    reference = KeyReference("file:unused", module.public_key)
    repository = site.open()
    targets = metadata.follow(repository.targets, repository.targets.expires, 2**40)
    metadata.replace_keys(targets, "models", [reference.public])
    models = metadata.follow(
        repository.models.signed, repository.models.signed.expires, 2**40
    )
    signers = site.keyring.signers("targets", key_ids(site, "targets"))
    repository.publish_targets(
        metadata.sign(targets, signers), {"models": metadata.sign(models, [module])}
    )
    served.registry.start()  # as after a restart
    builder = Builder(served.client, [module], world.clock.now)
    key = tmp_path / "bundles.pem"
    key.write_bytes(generate_key()[0])
    bundle = world.bundle(b"one", key=key.read_bytes())

    with pytest.raises(BundleSignatureError):
        builder.publish_bundle(bundle)
    also = read_signer(key).public_key
    assert builder.publish_bundle(bundle, [also]).is_new
    second = world.bundle(b"two", key=key.read_bytes())
    assert builder.publish_bundle(second).is_new  # it is on the list from then on
    assert world.reader().read("models/sample-2.bundle") == second.read_bytes()
