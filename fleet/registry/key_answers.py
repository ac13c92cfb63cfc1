# SPDX-License-Identifier: Apache-2.0
"""What the verbs of the noun ``keys`` answer, as a document and in words.

Pure but for ``show_status``, which asks the server; see ``key_verbs`` for the verbs.
"""

import argparse
from pathlib import Path
from typing import Any

from tuf.api.metadata import Root

from fleet.client import FleetClient
from fleet.commands import Answer, format_table
from fleet.registry.key_reference import KeyReference
from fleet.registry.keyring import OFFLINE_ROLES
from fleet.registry.rotation import Progress

_ID_DIGITS = 12


def describe_signed(path: Path, root: Root, reference: KeyReference) -> Answer:
    """Return what a person just signed, so that it can be compared."""
    roles = {
        name: {"key_ids": list(role.keyids), "threshold": role.threshold}
        for name, role in root.roles.items()
    }
    document = {
        "version": root.version,
        "expires": root.expires.isoformat(),
        "signed_with": reference.public.keyid,
        "roles": roles,
    }
    head = f"root {root.version}, until {root.expires:%Y-%m-%d}"
    lines = [f"{head}, signed with {_short([reference.public.keyid])}"]
    lines += [
        f"  {name}: {role.threshold} of {_short(role.keyids)}"
        for name, role in root.roles.items()
    ]
    lines.append(f"next: take {path} back and run `edge-fleet keys collect {path}`")
    return Answer(document, "\n".join(lines))


def describe_rotated(role: str, key: KeyReference) -> Answer:
    """Return which key signs for a delegated role now."""
    short = _short([key.public.keyid])
    text = f"{role}: signed with {short} ({key.uri}) from now on"
    return Answer({"role": role, "key_id": key.public.keyid, "uri": key.uri}, text)


def _short(key_ids: list[str]) -> str:
    return ", ".join(one[:_ID_DIGITS] for one in key_ids)


def show_status(_arguments: argparse.Namespace, client: FleetClient) -> Answer:
    """Return each role's expiry and keys, and what to do."""
    document = client.get("/keys")
    rows: list[tuple[object, ...]] = [
        (
            role["role"],
            role["version"],
            f"{role['days_left']} days",
            f"{role['threshold']} of "
            + ", ".join(key_id[:_ID_DIGITS] for key_id in role["key_ids"]),
            _describe_places(role),
        )
        for role in document["roles"]
    ]
    header = ("role", "version", "expires in", "key", "private key")
    lines = [format_table(header, rows), *document["advice"]]
    return Answer(document, "\n".join(lines))


def _describe_places(role: dict[str, Any]) -> str:
    if not role["places"]:
        return "elsewhere"
    beside = role["role"] in OFFLINE_ROLES and "file" in role["places"]
    return ", ".join(role["places"]) + (" (on this server)" if beside else "")


def describe_progress(progress: Progress, done: str) -> Answer:
    """Return whether a root is in force, else what it needs."""
    document = {
        "root": progress.version,
        "in_force": progress.path is None,
        "proposal": None if progress.path is None else str(progress.path),
        "missing": [
            {"count": one.count, "key_ids": list(one.key_ids)}
            for one in progress.missing
        ],
    }
    if progress.path is None:
        return Answer(document, f"root {progress.version} is in force\n{done}")
    lines = [f"root {progress.version} waits for signatures:"]
    lines += [
        f"  {one.count} of {', '.join(key[:_ID_DIGITS] for key in one.key_ids)}"
        for one in progress.missing
    ]
    lines.append(
        f"next: have copies of {progress.path} signed with `edge-fleet keys sign-root`,"
        " then run `edge-fleet keys collect FILE...`"
    )
    return Answer(document, "\n".join(lines))
