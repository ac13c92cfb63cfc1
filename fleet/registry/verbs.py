# SPDX-License-Identifier: Apache-2.0
"""The verbs ``model publish|list|show|withdraw|renew`` and ``export``.

Owns their arguments and words. Signing happens here, in the process of the command
line, with ``builder``; everything else is asked of the server.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet.client import FleetClient
from fleet.commands import Answer, Groups, add_group, add_verb, format_table
from fleet.registry.builder import Builder
from fleet.registry.export import export_repository, find_receiver
from fleet.registry.key_reference import open_key, read_public
from fleet.registry.site import system_now

_KEY_HELP = "the builder's key: a file (keys/offline/models.pem after init) or hsm:..."


def register(groups: Groups) -> None:
    """Add the noun ``model`` and the verb ``export``."""
    models = add_group(groups, "model", "Publish models and look at what is there.")
    publish = add_verb(
        models,
        "publish",
        _publish,
        summary="Sign a bundle into the list of releases and upload it.",
        example="edge-fleet model publish watch.bundle --key builder.pem",
    )
    publish.add_argument("bundle", metavar="BUNDLE", help="a signed bundle")
    _add_key(publish)
    publish.add_argument(
        "--bundle-key",
        metavar="FILE",
        action="append",
        default=[],
        help="a public key whose bundles to vouch for, where the builder's key is in a"
        " module and cannot sign bundles itself",
    )
    add_verb(
        models,
        "list",
        _list,
        summary="List the releases, withdrawn ones too.",
        example="edge-fleet model list --json",
    )
    show = add_verb(
        models,
        "show",
        _show,
        summary="Show one release with its manifest.",
        example="edge-fleet model show watch 2",
    )
    _add_release(show)
    withdraw = add_verb(
        models,
        "withdraw",
        _withdraw,
        summary="Take a bad release back: no device installs it any more.",
        example="edge-fleet model withdraw watch 2 --key builder.pem",
    )
    _add_release(withdraw)
    _add_key(withdraw)
    renew = add_verb(
        models,
        "renew",
        _renew,
        summary="Sign the list of releases again before its signature ends.",
        example="edge-fleet model renew --key builder.pem",
    )
    _add_key(renew)
    _register_export(groups)


def _register_export(groups: Groups) -> None:
    export = add_verb(
        groups,
        "export",
        _export,
        summary="Copy what a device or a fleet may need to a folder, for a stick.",
        example="edge-fleet export /media/stick/edgeloop --device watch-3",
    )
    export.add_argument(
        "folder", metavar="DIR", help="a new folder, or an earlier export to renew"
    )
    receiver = export.add_mutually_exclusive_group()
    receiver.add_argument("--device", metavar="ID", help="for this device alone")
    receiver.add_argument("--fleet", metavar="F", help="for a fleet (default: default)")


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        metavar="KEY",
        action="append",
        required=True,
        help=_KEY_HELP + "; twice to sign with the next one too",
    )


def _add_release(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the model's name")
    parser.add_argument("release", metavar="RELEASE", type=int, help="its number")


def _builder(arguments: argparse.Namespace, client: FleetClient) -> Builder:
    signers = [open_key(one) for one in arguments.key]
    return Builder(client, signers, system_now)


def _publish(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    published = _builder(arguments, client).publish_bundle(
        Path(arguments.bundle), [read_public(Path(one)) for one in arguments.bundle_key]
    )
    one = published.release
    document = {
        "name": one.name,
        "release": one.release_counter,
        "digest": one.digest,
        "target": one.target_path,
        "bytes": one.bytes,
        "ref_id": one.ref_id,
        "new": published.is_new,
    }
    done = "published" if published.is_new else "was published before"
    text = (
        f"{one.name} release {one.release_counter} {done}"
        f" ({one.bytes} bytes, digest {one.digest[:12]})\n"
        f"next: edge-fleet rollout create --model {one.name}"
        f" --release {one.release_counter}"
    )
    return Answer(document, text)


def _list(_arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.get("/models")
    rows: list[tuple[object, ...]] = [
        (
            one["name"],
            one["release"],
            one["digest"][:12],
            one["bytes"],
            _format_time(one["published_us"]),
            "withdrawn" if one["withdrawn_us"] is not None else "",
        )
        for one in document["models"]
    ]
    header = ("model", "release", "digest", "bytes", "published", "")
    return Answer(document, format_table(header, rows) if rows else "no models yet")


def _show(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.get(f"/models/{arguments.name}/{arguments.release}")
    manifest: dict[str, Any] = document["manifest"]
    variants = ", ".join(
        f"{one['id']} ({one['dtype']}, {one['bytes']} bytes)"
        for one in manifest["variants"]
    )
    selected = ", ".join(
        f"{profile}: {variant}" for profile, variant in manifest["selected"].items()
    )
    lines = [
        f"{document['name']} release {document['release']}",
        f"  digest    {document['digest']}",
        f"  published {_format_time(document['published_us'])}",
        f"  variants  {variants}",
        f"  selected  {selected}",
    ]
    if document["withdrawn_us"] is not None:
        lines.append(f"  withdrawn {_format_time(document['withdrawn_us'])}")
    return Answer(document, "\n".join(lines))


def _withdraw(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    builder = _builder(arguments, client)
    one = builder.withdraw(arguments.name, arguments.release)
    document = {"name": one.name, "release": one.release_counter, "withdrawn": True}
    return Answer(document, f"{one.name} release {one.release_counter} withdrawn")


def _renew(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    expires = _builder(arguments, client).renew()
    return Answer(
        {"expires": expires.isoformat()},
        f"the list of releases is signed until {expires:%Y-%m-%d}",
    )


def _export(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    folder = Path(arguments.folder)
    receiver = find_receiver(client, arguments.fleet, arguments.device)
    done = export_repository(client, folder, receiver)
    document = {
        "folder": str(folder),
        "fleet": receiver.fleet,
        "device": receiver.device,
        "files": done.files,
        "bytes": done.bytes,
        "written_bytes": done.written_bytes,
        "targets": list(done.targets),
        "withdrawn": list(done.withdrawn),
    }
    size = f"{done.files} files, {done.bytes} bytes, {done.written_bytes} written now"
    lines = [
        f"{folder}: {size}",
        *(f"  {one}" for one in done.targets),
        *(f"  {one}: withdrawn, left out" for one in done.withdrawn),
        f"next, on the device: edge-agent bundle import {folder}",
    ]
    return Answer(document, "\n".join(lines))


def _format_time(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"
