# SPDX-License-Identifier: Apache-2.0
"""What a bundle holds, checked whole: every digest, the profile, the golden vectors.

Owns the document of ``edge-convert inspect``. It runs no model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converter.errors import ConvertUsageError
from edge_contract.bundle import Bundle
from edge_contract.errors import KeyFormatError
from edge_contract.signing import parse_public_key


def read_trusted(path: Path) -> bytes:
    """Return the raw public key of a PEM file.

    Raises:
        KeyFormatError: Not an Ed25519 public key, or unreadable.
    """
    try:
        return parse_public_key(path.read_bytes())
    except OSError as error:
        msg = f"--trust {path}: cannot be read: {error.strerror}"
        raise KeyFormatError(msg, next_step="check the path") from error


def inspect_bundle(path: Path, trusted: Sequence[bytes]) -> dict[str, Any]:
    """Return what the bundle at ``path`` holds.

    Args:
        path: The bundle.
        trusted: Raw public keys; with any, a bundle that none of them signed is
            refused.

    Raises:
        BundleError: Malformed, altered, or not signed by a trusted key.
        ConvertUsageError: There is no such file.
    """
    try:
        bundle = Bundle.open(path)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise ConvertUsageError(msg, next_step="check the path") from error
    with bundle:
        signature = "unsigned"
        if bundle.is_signed:
            signature = "signed, not checked (pass --trust)"
        if trusted:
            signature = f"verified, key {bundle.verify_signature(trusted)}"
        bundle.check_files()
        profile, golden = bundle.profile, bundle.golden
        manifest = bundle.manifest
        return {
            "bundle": str(path),
            "digest": bundle.digest,
            "signature": signature,
            "name": manifest.name,
            "task": manifest.task,
            "observe": manifest.observe,
            "input": {
                "name": manifest.input.name,
                "shape": list(manifest.input.shape),
                "dtype": manifest.input.dtype,
                "hop": manifest.input.hop,
                "features": list(manifest.input.features),
            },
            "output": {
                "name": manifest.output.name,
                "shape": list(manifest.output.shape),
                "labels": list(manifest.output.labels),
            },
            "frame_shape": list(manifest.frame_shape),
            "pre": [dict(one) for one in manifest.pre],
            "post": [dict(one) for one in manifest.post],
            "variants": [
                {
                    "id": one.id,
                    "runtime": f"{one.runtime} >= {one.min_runtime}",
                    "dtype": one.dtype,
                    "bytes": one.bytes,
                    "sha256": one.file,
                }
                for one in manifest.variants
            ],
            "selected": dict(manifest.selected),
            "ref_id": manifest.ref_id,
            "unit_rows": profile.unit_rows,
            "groups": profile.groups,
            "golden_vectors": len(golden.inputs),
            "metrics": manifest.metrics,
            "lineage": manifest.lineage,
        }


def format_inspection(found: dict[str, Any]) -> str:
    """Return an inspection as lines of text."""
    given, target = found["input"], found["output"]
    hop = f", hop {given['hop']}" if given["hop"] else ""
    labels = ", ".join(target["labels"])
    unit = f"units of {found['unit_rows']} rows, {found['groups']} groups"
    lines = [
        f"{found['name']}: release {found['digest']}",
        f"  signature   {found['signature']}",
        f"  input       {given['name']} {given['shape']} {given['dtype']}{hop}",
        *(f"  before      {_step(one)}" for one in found["pre"]),
        f"  observes    {found['observe']}: {', '.join(given['features'])}",
        f"  output      {target['name']} {target['shape']}: {labels}",
        *(f"  after       {_step(one)}" for one in found["post"]),
        f"  reference   {found['ref_id']}, {unit}",
        f"  golden      {found['golden_vectors']} vectors",
    ]
    for one in found["variants"]:
        chosen = sorted(
            name for name, used in found["selected"].items() if used == one["id"]
        )
        lines.append(
            f"  variant     {one['id']}: {one['dtype']}, {one['bytes']} bytes,"
            f" {one['runtime']}"
            + (f", selected for {', '.join(chosen)}" if chosen else "")
        )
    lines += [f"  metrics     {name}: {one}" for name, one in found["metrics"].items()]
    return "\n".join(lines)


def _step(step: dict[str, str]) -> str:
    """Return a step as ``--pre`` and ``--post`` take it."""
    pairs = [f"{name}={value}" for name, value in step.items() if name != "step"]
    return " ".join([step["step"], *pairs])
