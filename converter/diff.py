# SPDX-License-Identifier: Apache-2.0
"""What is different between two bundles: ``edge-convert diff``.

Owns the comparison of what they say; it runs nothing. Reference profiles are compared
feature by feature: by the Jensen-Shannon distance of their counts where the bins are
the same.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from converter.errors import ConvertUsageError
from edge_contract.bundle import Bundle
from edge_contract.manifest import Manifest
from edge_contract.profile import FeatureReference, ReferenceProfile

_FIELDS: Final = ("name", "task", "observe", "input", "output", "pre", "post")


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same; None where a bundle does not have it."""

    what: str
    first: Any
    second: Any


def diff_bundles(first: Path, second: Path) -> tuple[Difference, ...]:
    """Return what is different between two bundles.

    Raises:
        BundleError: Malformed or altered.
        ConvertUsageError: There is no such file.
    """
    with _open(first) as one, _open(second) as other:
        one.check_files()
        other.check_files()
        if one.digest == other.digest:
            return ()
        a, b = one.manifest, other.manifest
        found = [
            Difference(name, getattr(a, name), getattr(b, name))
            for name in _FIELDS
            if getattr(a, name) != getattr(b, name)
        ]
        found += _variants(a, b)
        found += _mappings("selected", dict(a.selected), dict(b.selected))
        found += _mappings("metrics", dict(a.metrics), dict(b.metrics))
        found += _mappings("lineage", dict(a.lineage), dict(b.lineage))
        found += _profiles(one.profile, other.profile)
        if a.golden_file != b.golden_file:
            found.append(Difference("golden vectors", a.golden_file, b.golden_file))
        return tuple(found)


def format_differences(found: tuple[Difference, ...]) -> str:
    """Return differences as lines of text."""
    if not found:
        return "the same release"
    lines = []
    for one in found:
        lines.append(f"{one.what}:")
        lines += [f"  - {one.first}"] if one.first is not None else []
        lines += [f"  + {one.second}"] if one.second is not None else []
    return "\n".join(lines)


def to_json(found: tuple[Difference, ...]) -> dict[str, Any]:
    """Return the document of ``--json``."""
    return {
        "same": not found,
        "differences": [
            {"what": one.what, "first": _plain(one.first), "second": _plain(one.second)}
            for one in found
        ],
    }


def _open(path: Path) -> Bundle:
    try:
        return Bundle.open(path)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise ConvertUsageError(msg, next_step="check the path") from error


def _variants(first: Manifest, second: Manifest) -> list[Difference]:
    a = {one.id: asdict(one) for one in first.variants}
    b = {one.id: asdict(one) for one in second.variants}
    return _mappings("variant", a, b)


def _mappings(
    what: str, first: dict[str, Any], second: dict[str, Any]
) -> list[Difference]:
    return [
        Difference(f"{what} {name}", first.get(name), second.get(name))
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    ]


def _profiles(first: ReferenceProfile, second: ReferenceProfile) -> list[Difference]:
    if first.ref_id == second.ref_id:
        return []
    found = []
    others = {one.name: one for one in second.features}
    for one in first.features:
        other = others.get(one.name)
        if other is None:
            found.append(Difference(f"feature {one.name}", "observed", None))
            continue
        text = _feature(one, other)
        if text:
            found.append(
                Difference(
                    f"feature {one.name}", _moments(one), f"{_moments(other)}{text}"
                )
            )
    known = {one.name for one in first.features}
    found += [
        Difference(f"feature {name}", None, "observed")
        for name in others
        if name not in known
    ]
    return found or [Difference("ref_id", first.ref_id.hex(), second.ref_id.hex())]


def _moments(one: FeatureReference) -> str:
    return f"mean {one.mean:.4g}, sd {one.sd:.4g}"


def _feature(one: FeatureReference, other: FeatureReference) -> str:
    if _bins(one) != _bins(other):
        return ", other bins"
    if np.array_equal(one.counts, other.counts):
        return ""
    return f", Jensen-Shannon distance {_distance(one.counts, other.counts):.3f}"


def _bins(one: FeatureReference) -> tuple[list[float], list[float]]:
    named = one.categories
    return one.edges.tolist(), [] if named is None else named.tolist()


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Jensen-Shannon distance of two histograms, 0 to 1."""
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2
    divergence = 0.0
    for one in (p, q):
        present = one > 0
        ratio = np.log2(one[present] / middle[present])
        divergence += float((one[present] * ratio).sum()) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    return [dict(one) for one in value] if isinstance(value, tuple) else value
