# SPDX-License-Identifier: Apache-2.0
"""The verbs of the noun ``keys``: what is typed, and which change of keys it means.

All but ``status`` work on files, with no server running: ``sign-root`` and ``public``
on any machine, the others on the state folder. What they answer: ``key_answers``.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from edge_contract.canonical import sha256_hex
from fleet.audit.log import append_audit
from fleet.auth.actor import name_person
from fleet.commands import (
    Answer,
    Groups,
    add_group,
    add_state_verb,
    add_verb,
    require,
)
from fleet.config import StateLayout
from fleet.registry import metadata
from fleet.registry.ceremony import read_root
from fleet.registry.errors import CeremonyError
from fleet.registry.files import save_bytes
from fleet.registry.key_answers import (
    describe_progress,
    describe_rotated,
    describe_signed,
    show_status,
)
from fleet.registry.key_reference import (
    PUBLIC,
    KeyReference,
    find_key,
    make_or_find_key,
    public_pem,
)
from fleet.registry.rotation import (
    collect,
    propose_first,
    propose_keys,
    renew_targets,
    rotate_delegated,
)
from fleet.registry.site import Site
from fleet.state import hold_lock
from fleet.store.engine import database_url, open_engine, writing

_ID_DIGITS = 12


def register(groups: Groups) -> None:
    """Add the noun ``keys``."""
    keys = add_group(groups, "keys", "Make, replace and look at signing keys.")
    _register_init(keys)
    _register_rotate(keys)
    _register_ceremony(keys)
    public = add_state_verb(
        keys,
        "public",
        _public,
        summary="Write the public half of a key; a file: key is made if there is none.",
        example="edge-fleet keys public anna.pub --key file:anna.pem",
    )
    public.add_argument("file", metavar="FILE", help="where to write it")
    _add_key(public)
    export_root = add_state_verb(
        keys,
        "export-root",
        _export_root,
        summary="Write the newest root, from which a device starts to trust.",
        example="edge-fleet keys export-root root.json",
    )
    export_root.add_argument("file", metavar="FILE", help="where to write it")
    add_verb(
        keys,
        "status",
        show_status,
        summary="Show each role's expiry and which private keys lie on the server.",
        example="edge-fleet keys status",
    )


def _register_init(keys: Groups) -> None:
    init = add_state_verb(
        keys,
        "init",
        _init,
        summary="Make a repository with keys of your choice, before `edge-fleet init`.",
        example="edge-fleet keys init --root-key public:anna.pub"
        " --root-key public:ben.pub --root-threshold 2",
    )
    init.add_argument(
        "--root-key",
        metavar="KEY",
        action="append",
        default=[],
        help="one of root's keys (default: a new file)",
    )
    init.add_argument(
        "--root-threshold", metavar="K", type=int, default=1, help="how many must sign"
    )
    init.add_argument(
        "--key",
        metavar="ROLE=KEY",
        action="append",
        default=[],
        help="the key of targets, models, snapshot or timestamp (default: a new file)",
    )


def _register_rotate(keys: Groups) -> None:
    rotate = add_state_verb(
        keys,
        "rotate",
        _rotate,
        summary="Replace the key of a role.",
        example="edge-fleet keys rotate snapshot",
    )
    rotate.add_argument(
        "role",
        metavar="ROLE",
        help="root, targets, snapshot, timestamp, models, fleet-F",
    )
    rotate.add_argument(
        "--to",
        metavar="KEY",
        action="append",
        default=[],
        help="the new key: file:, hsm:, gcpkms:, awskms:, azurekms: or public:"
        " (default: a new file)",
    )
    rotate.add_argument(
        "--drop",
        metavar="ID",
        action="append",
        default=[],
        help="of root's several keys, the one to drop (the first digits of its id)",
    )
    rotate.add_argument("--keep", action="store_true", help="root: drop no key")
    rotate.add_argument(
        "--threshold", metavar="K", type=int, help="root: how many keys must sign"
    )
    rotate.add_argument(
        "--compromised",
        action="store_true",
        help="models: trust no bundle any more that the old key signed",
    )
    renew = add_state_verb(
        keys,
        "renew",
        _renew,
        summary="Sign root or targets again, with the same keys, before they expire.",
        example="edge-fleet keys renew root",
    )
    renew.add_argument("role", metavar="ROLE", choices=("root", "targets"))


def _register_ceremony(keys: Groups) -> None:
    sign = add_state_verb(
        keys,
        "sign-root",
        _sign_root,
        summary="Sign a copy of a proposed root, wherever one of root's keys is.",
        example="edge-fleet keys sign-root next.root.json --key file:anna.pem",
    )
    sign.add_argument("file", metavar="FILE", help="the copy; it is signed in place")
    _add_key(sign)
    gather = add_state_verb(
        keys,
        "collect",
        _collect,
        summary="Collect signatures of the proposed root; adopt it when it has enough.",
        example="edge-fleet keys collect anna/next.root.json ben/next.root.json",
    )
    gather.add_argument("files", metavar="FILE", nargs="*", help="signed copies")
    add_state_verb(
        keys,
        "abandon",
        _abandon,
        summary="Give a proposed root up.",
        example="edge-fleet keys abandon",
    )


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", metavar="KEY", required=True, help="file:, hsm:, ...")


def _init(arguments: argparse.Namespace, layout: StateLayout) -> Answer:
    layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_lock(layout):
        site = Site(layout.root)
        named = dict(_parse_role_key(one) for one in arguments.key)
        roles = (*metadata.TOP_ROLES[1:], metadata.MODELS)
        keys = {
            role: [make_or_find_key(named[role])]
            if role in named
            else [site.keyring.ensure(role)]
            for role in roles
        }
        keys["root"] = [make_or_find_key(one) for one in arguments.root_key] or [
            site.keyring.ensure("root")
        ]
        propose_first(site, keys, arguments.root_threshold)
        return describe_progress(collect(site), "next: edge-fleet init")


def _rotate(arguments: argparse.Namespace, layout: StateLayout) -> Answer:
    role: str = arguments.role
    with hold_lock(layout):
        site = Site(layout.root)
        status = {one.role: one for one in site.open().status()}
        require(
            role in status,
            f"role {role}: expected one of {', '.join(status)}",
            "`edge-fleet keys status` shows them",
        )
        _check_rotation(arguments)
        new = [make_or_find_key(one) for one in arguments.to] or [
            site.keyring.make(role)
        ]
        if role not in metadata.TOP_ROLES:
            rotate_delegated(
                site, role, new[0], trust_bundles=not arguments.compromised
            )
            _record(layout, "keys.rotate", role, new)
            return describe_rotated(role, new[0])
        kept = _kept(arguments, site) if role == "root" else []
        propose_keys(site, role, [*kept, *new], arguments.threshold)
        progress = collect(site)
        _record(layout, "keys.propose", role, new)
        return describe_progress(
            progress, f"{role}: signed with the new key from now on"
        )


def _check_rotation(arguments: argparse.Namespace) -> None:
    role: str = arguments.role
    only_root = arguments.drop or arguments.keep or arguments.threshold is not None
    require(
        role == "root" or not (only_root or len(arguments.to) > 1),
        f"role {role}: expected one new key, and no --drop, --keep or --threshold",
        "only root has several keys",
    )
    require(
        role in {"root", metadata.MODELS}
        or not any(one.startswith(f"{PUBLIC}:") for one in arguments.to),
        f"role {role}: expected a key that signs, found a public one",
        "only a key of root or models may be somebody else's",
    )
    require(
        role == metadata.MODELS or not arguments.compromised,
        f"role {role}: --compromised says something about bundles",
        "leave it out: the old key of any role counts no more once it is replaced",
    )


def _kept(arguments: argparse.Namespace, site: Site) -> list[KeyReference]:
    root = site.open().root
    ids = list(root.roles["root"].keyids)
    dropped = [
        one for one in ids if any(one.startswith(prefix) for prefix in arguments.drop)
    ]
    choices = ", ".join(one[:_ID_DIGITS] for one in ids)
    require(
        len(ids) == 1 or dropped or arguments.keep,
        f"root: expected --drop with one of {choices}, or --keep",
        "name the key that is replaced",
    )
    if len(ids) == 1 and not arguments.keep:
        dropped = ids
    return [one for one in _root_keys(site) if one.public.keyid not in dropped]


def _root_keys(site: Site) -> list[KeyReference]:
    root = site.open().root
    at_hand = {one.public.keyid: one for one in site.keyring.references("root")}
    return [
        at_hand.get(one) or KeyReference(f"{PUBLIC}:", root.get_key(one))
        for one in root.roles["root"].keyids
    ]


def _renew(arguments: argparse.Namespace, layout: StateLayout) -> Answer:
    with hold_lock(layout):
        site = Site(layout.root)
        if arguments.role == "targets":
            renew_targets(site)
            _record(layout, "keys.renew", "targets", [])
            return Answer({"role": "targets"}, "targets: signed again")
        propose_keys(site, "root", _root_keys(site))
        progress = collect(site)
        _record(layout, "keys.renew", "root", [])
        return describe_progress(progress, "root: signed again")


def _collect(arguments: argparse.Namespace, layout: StateLayout) -> Answer:
    with hold_lock(layout):
        progress = collect(Site(layout.root), [Path(one) for one in arguments.files])
        if progress.path is None:
            _record(layout, "keys.adopt", f"root {progress.version}", [])
    return describe_progress(progress, "it is in force")


def _abandon(_arguments: argparse.Namespace, layout: StateLayout) -> Answer:
    with hold_lock(layout):
        ceremony = Site(layout.root).ceremony()
        require(
            not ceremony.is_adopted,
            f"{ceremony.path}: the root is in force already",
            "finish with `edge-fleet keys collect`",
        )
        ceremony.abandon()
    return Answer({"abandoned": True}, "no root is proposed any more")


def _sign_root(arguments: argparse.Namespace, _layout: StateLayout) -> Answer:
    path = Path(arguments.file)
    document, reference = read_root(path), _existing(arguments.key)
    root = document.signed
    metadata.add_signature(document, reference.open())
    save_bytes(path, metadata.encode(document))
    return describe_signed(path, root, reference)


def _public(arguments: argparse.Namespace, _layout: StateLayout) -> Answer:
    reference = make_or_find_key(arguments.key)
    save_bytes(Path(arguments.file), public_pem(reference.public))
    document = {"file": arguments.file, "key_id": reference.public.keyid}
    return Answer(document, f"{arguments.file}: key {reference.public.keyid}")


def _export_root(arguments: argparse.Namespace, layout: StateLayout) -> Answer:
    site = Site(layout.root)
    document = site.open().root
    data = site.find_root().read_bytes()
    save_bytes(Path(arguments.file), data)
    facts: dict[str, Any] = {
        "file": arguments.file,
        "version": document.version,
        "expires": document.expires.isoformat(),
        "sha256": sha256_hex(data),
    }
    return Answer(
        facts,
        f"{arguments.file}: root {document.version}, until"
        f" {document.expires:%Y-%m-%d}, sha256 {facts['sha256']}",
    )


def _existing(uri: str) -> KeyReference:
    reference = find_key(uri)
    if not reference.can_sign:
        raise CeremonyError(
            f"key {uri}: expected a key that can sign, found a public one",
            next_step="run it where the private key is",
        )
    return reference


def _parse_role_key(text: str) -> tuple[str, str]:
    role, _, uri = text.partition("=")
    known = (*metadata.TOP_ROLES[1:], metadata.MODELS)
    require(
        role in known and uri and not uri.startswith(f"{PUBLIC}:"),
        f"--key {text}: expected ROLE=KEY with one of {', '.join(known)}, and a key"
        " that signs",
        "for example --key models=hsm:2?label=builder",
    )
    return role, uri


def _record(
    layout: StateLayout, action: str, subject: str, keys: list[KeyReference]
) -> None:
    """Note who did it, where there is a database yet."""
    if not layout.database.exists():
        return
    engine = open_engine(database_url(layout.database))
    try:
        with writing(engine) as connection:
            append_audit(
                connection,
                time_us=int(Site(layout.root).now().timestamp() * 1e6),
                actor=name_person(os.getuid()),
                action=action,
                subject=subject,
                detail={"key_ids": [one.public.keyid for one in keys]},
            )
    finally:
        engine.dispose()
