# SPDX-License-Identifier: Apache-2.0
"""A small TUF repository made with python-tuf, as the device's tests need it.

One builder (role ``models``, whose key signs bundles too), one fleet, consistent
snapshots. A test may publish what a thief of either key would.
"""

import copy
import shutil
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from edge_contract.canonical import encode_json
from edge_contract.signing import generate_key

FLEET = "default"
_DESIRED = f"fleets/{FLEET}/desired.json"
_ROLES = ("root", "targets", "snapshot", "timestamp", "models", "fleet")
_DOCUMENTS = {"models": "models", "fleet": f"fleet-{FLEET}", "targets": "targets"}


class TufRepository:
    """Files below ``folder/tuf``; each ``publish`` is a new version of everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tuf"
        self._metadata = self.folder / "metadata"
        self._metadata.mkdir(parents=True)
        self.version = 0
        self.expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        self.builder_key, _ = generate_key()
        keys = {role: generate_key()[0] for role in _ROLES} | {
            "models": self.builder_key
        }
        self.signers = {role: _signer(pem) for role, pem in keys.items()}
        self.bundle_keys: list[str] = []
        self._models: dict[str, TargetFile] = {}
        self._fleet: dict[str, TargetFile] = {}
        self._published: dict[str, tuple[int, bytes]] = {}
        self.root = self.write_root(1)

    def fork(self, folder: Path) -> Self:
        """Return another repository with the same past, below another folder."""
        forked = copy.copy(self)
        forked.folder = folder / "tuf"
        forked._metadata = forked.folder / "metadata"
        shutil.copytree(self.folder, forked.folder)
        forked.signers = dict(self.signers)
        forked._models, forked._fleet = dict(self._models), dict(self._fleet)
        forked._published = dict(self._published)
        return forked

    def steal(self, *roles: str) -> None:
        """Go on as a thief: all keys but those of ``roles`` are the thief's own."""
        for role in self.signers.keys() - set(roles):
            self.signers[role] = _signer(generate_key()[0])

    def add_bundle(
        self, path: str, bundle: Path, *, digest: str, counter: int, **custom: Any
    ) -> None:
        """List a bundle as the builder does."""
        data = bundle.read_bytes()
        target = TargetFile.from_data(path, data, ["sha256"])
        target.unrecognized_fields["custom"] = {
            "name": "toy",
            "digest": digest,
            "release_counter": counter,
            "hardware": ["default"],
            "ref_id": "00" * 8,
            "bytes": len(data),
            **custom,
        }
        self._models[path] = target
        self._write_target(target, data)

    def withdraw(self, path: str) -> None:
        """Stop listing a bundle."""
        del self._models[path]

    def set_desired(self, version: int, *rules: dict[str, Any], **more: Any) -> None:
        """Say what the fleet should run."""
        wire = {
            "format": 1,
            "fleet": FLEET,
            "desired_version": version,
            "slots": {"main": list(rules)},
            **more,
        }
        self.set_desired_bytes(encode_json(wire))

    def set_desired_bytes(self, data: bytes) -> None:
        """Say anything in place of the desired document."""
        target = TargetFile.from_data(_DESIRED, data, ["sha256"])
        self._fleet[_DESIRED] = target
        self._write_target(target, data)

    def publish(self, held: Collection[str] = _ROLES) -> None:
        """Sign and write everything under the next version.

        Args:
            held: Roles whose documents are made anew; of ``targets``, ``models`` and
                ``fleet``, those that are not held stay as they were published last.
        """
        self.version += 1
        for role, name in _DOCUMENTS.items():
            if role in held:
                data = self._sign(self._document(role), role)
                self._published[name] = self.version, data
                path = self._metadata / f"{self.version}.{name}.json"
                path.write_bytes(data)
        meta = {
            f"{name}.json": MetaFile.from_data(version, data, ["sha256"])
            for name, (version, data) in self._published.items()
        }
        snapshot = self._sign(Snapshot(meta=meta), "snapshot")
        listed = MetaFile.from_data(self.version, snapshot, ["sha256"])
        timestamp = self._sign(Timestamp(snapshot_meta=listed), "timestamp")
        (self._metadata / f"{self.version}.snapshot.json").write_bytes(snapshot)
        (self._metadata / "timestamp.json").write_bytes(timestamp)

    def forge(self, role: str) -> bytes:
        """Sign what a role would publish next under the version that is out now."""
        return self._sign(self._document(role), role)

    def _document(self, role: str) -> Targets:
        if role != "targets":
            listed = self._models if role == "models" else self._fleet
            document = Targets(targets=listed)
            if role == "models" and self.bundle_keys:
                notes = {"bundle_keys": self.bundle_keys}
                document.unrecognized_fields["edgeloop"] = notes
            return document
        top = Targets(delegations=self._delegations())
        for one, name in _DOCUMENTS.items():
            if one != role:
                top.add_key(self.signers[one].public_key, name)
        return top

    def write_root(self, version: int) -> bytes:
        """Sign and write a root that names the keys of now; return it."""
        root = Root(version=version, expires=self.expires, consistent_snapshot=True)
        for role in _ROLES[:4]:
            root.add_key(self.signers[role].public_key, role)
        document = Metadata(root)
        document.sign(self.signers["root"])
        data = document.to_bytes()
        (self._metadata / f"{version}.root.json").write_bytes(data)
        return data

    def _sign(self, signed: Any, role: str) -> bytes:
        signed.version, signed.expires = self.version, self.expires
        document = Metadata(signed)
        document.sign(self.signers[role])
        return document.to_bytes()

    def _write_target(self, target: TargetFile, data: bytes) -> None:
        for name in target.get_prefixed_paths():
            path = self.folder / "targets" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    @staticmethod
    def _delegations() -> Delegations:
        roles = {
            "models": ["models/*"],
            f"fleet-{FLEET}": [f"fleets/{FLEET}/*"],
        }
        return Delegations(
            keys={},
            roles={
                name: DelegatedRole(name, [], 1, terminating=True, paths=paths)
                for name, paths in roles.items()
            },
        )


def rule(target: str, digest: str, counter: int, **changes: Any) -> dict[str, Any]:
    """A rule for every device of the fleet."""
    return {
        "target": target,
        "digest": digest,
        "release_counter": counter,
        "devices": None,
        "percent": None,
        "salt": "s",
        "rollout": "r1",
        **changes,
    }


def _signer(pem: bytes) -> CryptoSigner:
    key: Any = load_pem_private_key(pem, password=None)
    return CryptoSigner(key)
