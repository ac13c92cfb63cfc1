# SPDX-License-Identifier: Apache-2.0
"""A small TUF repository made with python-tuf, as the device's tests need it.

One builder (role ``models``, whose key signs bundles too), one fleet, consistent
snapshots. A test may publish what a thief of either key would.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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
        self._models: dict[str, TargetFile] = {}
        self._fleet: dict[str, TargetFile] = {}
        self.root = self._make_root()

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
        data = encode_json(wire)
        target = TargetFile.from_data(_DESIRED, data, ["sha256"])
        self._fleet[_DESIRED] = target
        self._write_target(target, data)

    def publish(self) -> None:
        """Sign and write everything under the next version."""
        self.version += 1
        models = self._sign(Targets(targets=self._models), "models")
        fleet = self._sign(Targets(targets=self._fleet), "fleet")
        top = Targets(delegations=self._delegations())
        top.add_key(self.signers["models"].public_key, "models")
        top.add_key(self.signers["fleet"].public_key, f"fleet-{FLEET}")
        documents = {
            "targets": self._sign(top, "targets"),
            "models": models,
            f"fleet-{FLEET}": fleet,
        }
        snapshot = self._sign(
            Snapshot(
                meta={
                    f"{name}.json": self._meta(one) for name, one in documents.items()
                }
            ),
            "snapshot",
        )
        timestamp = self._sign(
            Timestamp(snapshot_meta=self._meta(snapshot)), "timestamp"
        )
        for name, data in {**documents, "snapshot": snapshot}.items():
            (self._metadata / f"{self.version}.{name}.json").write_bytes(data)
        (self._metadata / "timestamp.json").write_bytes(timestamp)

    def _make_root(self) -> bytes:
        root = Root(version=1, expires=self.expires, consistent_snapshot=True)
        for role in _ROLES[:4]:
            root.add_key(self.signers[role].public_key, role)
        document = Metadata(root)
        document.sign(self.signers["root"])
        data = document.to_bytes()
        (self._metadata / "1.root.json").write_bytes(data)
        return data

    def _sign(self, signed: Any, role: str) -> bytes:
        signed.version, signed.expires = self.version, self.expires
        document = Metadata(signed)
        document.sign(self.signers[role])
        return document.to_bytes()

    def _meta(self, data: bytes) -> MetaFile:
        return MetaFile.from_data(self.version, data, ["sha256"])

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
        "tags": None,
        "rollout": "r1",
        **changes,
    }


def _signer(pem: bytes) -> CryptoSigner:
    key: Any = load_pem_private_key(pem, password=None)
    return CryptoSigner(key)
