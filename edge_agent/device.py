# SPDX-License-Identifier: Apache-2.0
"""Who this device is, and whose models it trusts: what enrolment left behind.

Owns the reading of ``device.json``, and the way from the enrolled root to the builder's
keys without a network. It asks no server; see ``edge_contract.enrolment`` for the form.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_agent.errors import NotEnrolledError, UpdateTrustError
from edge_contract.enrolment import MAX_ENROLMENT_BYTES, Enrolment
from edge_contract.errors import EnrolmentError

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Targets

DEVICE_FILE: Final = "device.json"
MODELS_ROLE: Final = "models"
_NOTES: Final = "edgeloop"  # our field in what that role signs
_MAX_ROTATIONS: Final = 256


def load_device(state_dir: Path) -> Enrolment:
    """Return what this device is enrolled as.

    Raises:
        NotEnrolledError: It is not enrolled.
        EnrolmentError: ``device.json`` is damaged.
    """
    path = state_dir / DEVICE_FILE
    if not path.exists():
        raise NotEnrolledError(
            f"{path}: expected an enrolment, found none",
            next_step="run `edge-agent enrol FILE` with a file from "
            "`edge-fleet device add`",
        )
    return read_enrolment(path, "enrol the device again")


def read_enrolment(path: Path, next_step: str) -> Enrolment:
    """Read an enrolment file.

    Raises:
        EnrolmentError: It is missing or malformed.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_ENROLMENT_BYTES + 1)
    except OSError as error:
        raise EnrolmentError(
            f"{path}: {error.strerror}", next_step=next_step
        ) from error
    return Enrolment.from_json(data)


def load_builder_keys(state_dir: Path) -> list[bytes]:
    """Return the builder's raw Ed25519 keys, as the enrolled root vouches for them.

    The root vouches for targets, and targets name the keys of ``models``, which may
    name more. The documents are those of the last update check; their signatures are
    verified again, and their expiry is not asked: a stick carries bundles to where no
    network renews anything.

    Raises:
        NotEnrolledError: It is not enrolled.
        UpdateTrustError: No targets are there yet, or the root did not sign them.
    """
    from securesystemslib.exceptions import Error as SigningError
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Root, Targets
    from tuf.api.serialization import DeserializationError

    enrolment, folder = load_device(state_dir), state_dir / "tuf"
    try:
        anchor: Metadata[Root] = Metadata.from_bytes(enrolment.tuf_root)
        root = _follow_rotations(anchor, folder / "root_history")
        targets: Metadata[Targets] = Metadata.from_file(str(folder / "targets.json"))
        root.signed.verify_delegate("targets", targets.signed_bytes, targets.signatures)
        path = folder / f"{MODELS_ROLE}.json"  # fetched with the first release only
        if not path.exists():
            return bundle_keys(targets.signed, None)
        models: Metadata[Targets] = Metadata.from_file(str(path))
        targets.signed.verify_delegate(
            MODELS_ROLE, models.signed_bytes, models.signatures
        )
        return bundle_keys(targets.signed, models.signed)
    except (OSError, RepositoryError, DeserializationError, SigningError) as error:
        raise UpdateTrustError(
            f"{folder}: the builder's keys are not known: {error}",
            next_step="run `edge-agent update` once with the server in reach, or name "
            "the builder's public key (--trust)",
        ) from error


def bundle_keys(targets: "Targets", models: "Targets | None") -> list[bytes]:
    """Return the raw Ed25519 keys that sign bundles: the role's, and those it names.

    The role ``models`` names a key that it replaced, or one beside a key of its own
    that lies in a hardware module (docs/spec/updates.md, UPD-7).

    Raises:
        UpdateTrustError: What it names are no keys.
    """
    role = targets.get_delegated_role(MODELS_ROLE)
    keys = [targets.get_key(one) for one in role.keyids]
    own = [key.keyval["public"] for key in keys if key.keytype == "ed25519"]
    noted = {} if models is None else models.unrecognized_fields.get(_NOTES, {})
    try:
        return [bytes.fromhex(one) for one in [*own, *noted.get("bundle_keys", [])]]
    except (ValueError, TypeError, AttributeError) as error:
        raise UpdateTrustError(
            f"models: expected keys that sign bundles, found {noted!r:.200}",
            next_step="sign the list of releases again with `edge-fleet model renew`",
        ) from error


def _follow_rotations(root: "Metadata[Root]", folder: Path) -> "Metadata[Root]":
    """Return the newest root that an unbroken chain of signatures leads to."""
    from tuf.api.metadata import Metadata, Root

    for _ in range(_MAX_ROTATIONS):
        path = folder / f"{root.signed.version + 1}.root.json"
        if not path.exists():
            break
        newer: Metadata[Root] = Metadata.from_file(str(path))
        for one in (root, newer):  # the old keys and the new ones
            one.signed.verify_delegate("root", newer.signed_bytes, newer.signatures)
        root = newer
    return root
