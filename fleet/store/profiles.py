# SPDX-License-Identifier: Apache-2.0
"""Reference profiles by ``ref_id``.

Owns the table ``reference_profiles`` and a cache of decoded profiles. A profile never
changes under its ``ref_id``, so the cache is never stale.
"""

from sqlalchemy import Connection, insert, select

from edge_contract.profile import ReferenceProfile
from fleet.store.tables import reference_profiles


def insert_profile(
    connection: Connection, profile: ReferenceProfile, *, digest: str, now_us: int
) -> None:
    """Store ``profile`` unless it is there already.

    Args:
        connection: The caller's write transaction.
        profile: The profile.
        digest: The release that brought it, hex.
        now_us: The time in microseconds UTC.
    """
    table = reference_profiles
    known = select(table.c.ref_id).where(table.c.ref_id == profile.ref_id)
    if connection.execute(known).first() is None:
        connection.execute(
            insert(table).values(
                ref_id=profile.ref_id,
                profile=profile.encoded,
                digest=digest,
                added_us=now_us,
            )
        )


class ProfileCache:
    """Decoded reference profiles; safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[bytes, ReferenceProfile] = {}

    def find(self, connection: Connection, ref_id: bytes) -> ReferenceProfile | None:
        """Return the profile with ``ref_id``, None when no release brought it."""
        profile = self._known.get(ref_id)
        if profile is None:
            column = reference_profiles.c.profile
            query = select(column).where(reference_profiles.c.ref_id == ref_id)
            data = connection.execute(query).scalar()
            if data is None:
                return None
            profile = self._known.setdefault(ref_id, ReferenceProfile.decode(data))
        return profile
