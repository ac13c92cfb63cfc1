# SPDX-License-Identifier: Apache-2.0
"""Judging and publishing a release: the server's side of ``model publish``.

Owns the staging folder for uploaded bundles and the order of a publication: judge
everything, publish in TUF, then write the catalogue. The TUF repository is the truth;
``heal`` brings the catalogue in line with it after a crash between the two. Nobody
but the holder of the builder's key can make this code publish anything.
"""

import hashlib
import os
import secrets
from collections.abc import AsyncIterable
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from tuf.api.metadata import Targets

from edge_contract.bundle import MAX_BUNDLE_BYTES, Bundle
from fleet.errors import TooLargeError
from fleet.registry import catalogue, release
from fleet.registry.errors import ReleaseConflictError, ReleaseRefusedError
from fleet.registry.files import PRIVATE_MODE, sync_folder
from fleet.registry.tuf_repository import TufRepository
from fleet.services import Clock
from fleet.store.engine import writing

_STAGING = "incoming"


class Publication:
    """Takes uploads, judges them, publishes them.

    Args:
        folder: The ``tuf`` folder; staging lies beside metadata and targets, so that
            a bundle reaches its place by a rename.
        repository: The TUF repository.
        engine: The database.
        clock: The time.
    """

    def __init__(
        self, folder: Path, repository: TufRepository, engine: Engine, clock: Clock
    ) -> None:
        self._staging = folder / _STAGING
        self._repository = repository
        self._engine = engine
        self._clock = clock

    def heal(self) -> None:
        """Complete what a crash interrupted; call once before the server answers."""
        self._staging.mkdir(parents=True, exist_ok=True)
        for path in self._staging.iterdir():
            path.unlink()
        releases = release.list_releases(self._repository.models.signed)
        with writing(self._engine) as connection:
            listed = catalogue.listed_paths(connection)
            for one in releases:
                if one.target_path not in listed:
                    with Bundle.open(
                        self._repository.target_file(one.target_path)
                    ) as b:
                        catalogue.add(connection, one, b, self._clock.wall_us())
            catalogue.withdraw(
                connection,
                listed - {one.target_path for one in releases},
                self._clock.wall_us(),
            )

    async def stage(self, sha256: str, chunks: AsyncIterable[bytes]) -> int:
        """Store an uploaded bundle until its metadata comes; return its length.

        Raises:
            TooLargeError: It is longer than a bundle may be.
            ReleaseRefusedError: It does not have the digest ``sha256``.
        """
        partial = self._staging / f"{secrets.token_hex(8)}.part"
        digest, length = hashlib.sha256(), 0
        try:
            with await run_in_threadpool(partial.open, "xb") as file:
                await run_in_threadpool(partial.chmod, PRIVATE_MODE)
                async for chunk in chunks:
                    length += len(chunk)
                    if length > MAX_BUNDLE_BYTES:
                        raise TooLargeError(
                            f"bundle: expected at most {MAX_BUNDLE_BYTES} bytes",
                            next_step="publish a smaller model",
                        )
                    digest.update(chunk)
                    await run_in_threadpool(file.write, chunk)
                await run_in_threadpool(_flush, file)
            if digest.hexdigest() != sha256:
                raise ReleaseRefusedError(
                    f"bundle: expected the sha256 {sha256}, received"
                    f" {digest.hexdigest()}",
                    next_step="upload it again",
                )
            partial.replace(self._staged_path(sha256))
        finally:
            partial.unlink(missing_ok=True)
        await run_in_threadpool(sync_folder, self._staging)
        return length

    def publish(self, data: bytes, actor: str) -> release.Change:
        """Judge a signed ``models`` document and make it the current one.

        Args:
            data: The document; the bundles that it adds were staged before.
            actor: Who asks, for the audit log.

        Returns:
            What was added and withdrawn.

        Raises:
            ReleaseRefusedError: A signature, digest, length or description is wrong.
            ReleaseConflictError: It does not follow the current document.
            BundleError: A bundle is not one, or is not signed by the builder.
        """
        with self._repository.publishing():
            current = self._repository.models
            new = release.parse_models(data)
            release.check_successor(
                self._repository.targets, current, new, self._repository.now()
            )
            change = release.compare(current.signed, new.signed)
            staged = {one.target_path: self._find_staged(one) for one in change.added}
            for one in change.added:
                self._judge_bundle(one, new.signed)
            self._repository.publish_models(new, staged)
            self._record(change, actor)
        return change

    def _record(self, change: release.Change, actor: str) -> None:
        time_us = self._clock.wall_us()
        with writing(self._engine) as connection:
            for one in change.added:
                path = self._repository.target_file(one.target_path)
                with Bundle.open(path) as bundle:
                    catalogue.add(connection, one, bundle, time_us)
            catalogue.withdraw(
                connection, {one.target_path for one in change.withdrawn}, time_us
            )
            catalogue.audit_change(connection, change, actor, time_us)

    def _judge_bundle(self, one: release.Release, models: Targets) -> None:
        path, target = self._staged_path(one.sha256), models.targets[one.target_path]
        trusted = release.raw_ed25519(self._repository.models_keys())
        trusted += [bytes.fromhex(key) for key in release.bundle_keys(models)]
        with Bundle.open(path) as bundle:
            bundle.verify_signature(trusted)
            bundle.check_files()
            expected = release.describe_target(
                bundle.manifest, one.release_counter, path.stat().st_size, one.sha256
            )
            # Decodes both, so that no release enters that a device could not read.
            found = (bundle.profile.ref_id.hex(), len(bundle.golden.outputs))
        if target != expected or found[0] != one.ref_id:
            raise ReleaseRefusedError(
                f"models: {one.target_path}: expected the description"
                f" {expected.to_dict()}, found {target.to_dict()}",
                next_step="sign it with `edge-fleet model publish`",
            )

    def _find_staged(self, one: release.Release) -> Path:
        path = self._staged_path(one.sha256)
        if not path.exists():
            raise ReleaseConflictError(
                f"models: {one.target_path}: expected its bundle to be uploaded first,"
                f" found none with sha256 {one.sha256[:12]}",
                next_step="run `edge-fleet model publish` again",
            )
        return path

    def _staged_path(self, sha256: str) -> Path:
        return self._staging / f"{sha256}.bundle"


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
