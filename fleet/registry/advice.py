# SPDX-License-Identifier: Apache-2.0
"""What a person should do about keys before it is too late.

Owns the sentences of ``keys status`` and of the alerts. Pure: what is the case
is given. What the server renews itself is worth a word only when it fails to.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fleet.registry.ceremony import Ceremony
from fleet.registry.keyring import OFFLINE_ROLES

WARNING_DAYS: Final = 30
_ONLINE_DAYS: Final = 3  # the timestamp is renewed daily, the others half-way
_RENEW: Final = {
    "root": "edge-fleet keys renew root",
    "targets": "edge-fleet keys renew targets",
    "models": "edge-fleet model renew --key KEY",
}


def advise(roles: Sequence[Mapping[str, Any]], ceremony: Ceremony) -> list[str]:
    """Return what to do, the most pressing first.

    Args:
        roles: As ``Registry.keys_status`` tells them.
        ceremony: The root that is being agreed on.
    """
    found = [f"{one['title']}; {one['next_step']}" for one in expiring(roles)]
    if ceremony.proposal is not None and not ceremony.is_adopted:
        needed = " and ".join(str(one.count) for one in ceremony.missing())
        found.append(
            f"root {ceremony.proposal.signed.version} waits for {needed or 'no'} more"
            " signatures: see `edge-fleet keys collect`"
        )
    here = [
        str(one["role"])
        for one in roles
        if one["role"] in OFFLINE_ROLES and "file" in one["places"]
    ]
    if here:
        found.append(
            f"the offline keys {', '.join(here)} lie beside the online ones: who"
            " takes this machine can publish models; move keys/offline elsewhere"
        )
    return found


def expiring(roles: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return ``role``, ``title`` and ``next_step`` of signatures about to end."""
    found = []
    for one in sorted(roles, key=lambda one: int(one["days_left"])):
        role, days = str(one["role"]), int(one["days_left"])
        offline = role in OFFLINE_ROLES
        if days >= (WARNING_DAYS if offline else _ONLINE_DAYS):
            continue
        when = f"expires in {days} days" if days >= 0 else "has expired"
        step = (
            f"sign it again: {_RENEW[role]}"
            if offline
            else "the server cannot renew it, look into its log"
        )
        found.append({"role": role, "title": f"{role}: {when}", "next_step": step})
    return found
