# SPDX-License-Identifier: Apache-2.0
"""Finding how one bundle becomes another: which bytes go with which.

Owns two ways. *By role* pairs the files that play the same part in both bundles (the
same variant, the profile, the golden vectors) and subtracts them place by place: a
model that was trained on keeps its layout, so that small changes everywhere become
small numbers, which compress. *By content* is bsdiff's search for what moved. Pure:
bytes in, the smallest delta out; see ``deltas`` for when and where.
"""

import itertools
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import bsdiff4.core
import numpy as np

from edge_contract.delta import CODECS, Delta, Stretch, encode_delta
from edge_contract.manifest import Manifest

# bsdiff holds 17 times its source in memory, and takes seconds for each 10 MB.
MAX_SEARCH_BYTES: Final = 32 * 1024 * 1024
_LOCAL_HEADER: Final = 30
_INT64_BYTES: Final = 8
_LENGTHS: Final = struct.Struct("<HH")


@dataclass(frozen=True, slots=True)
class _Copy:
    """So many bytes of the target that correspond to the source from ``start`` on."""

    start: int
    size: int


def find_delta(source: bytes, target: bytes) -> bytes:
    """Return the smallest delta file that turns one bundle into another.

    Args:
        source: A bundle, or nothing: the delta is then the target compressed.
        target: A bundle.
    """
    found = [compress_whole(target)]
    if source:
        found.append(subtract_by_role(source, target))
        if max(len(source), len(target)) <= MAX_SEARCH_BYTES:
            found.append(search_by_content(source, target))
    return min((encode_delta(one, codec) for one in found for codec in CODECS), key=len)


def compress_whole(target: bytes) -> Delta:
    """Return the delta that needs no source."""
    return Delta((Stretch(0, len(target)),), b"", target)


def search_by_content(source: bytes, target: bytes) -> Delta:
    """Return what bsdiff finds."""
    control, difference, new = bsdiff4.core.diff(source, target)
    numbers = (
        bsdiff4.core.decode_int64(control[at : at + _INT64_BYTES])
        for at in range(0, len(control), _INT64_BYTES)
    )
    triples = zip(*[numbers] * 3, strict=True)
    return Delta(tuple(Stretch(*one) for one in triples), difference, new)


def subtract_by_role(source: bytes, target: bytes) -> Delta:
    """Return the place-by-place difference of files with the same role."""
    had = _places(source)
    roles = {role: had[name] for name, role in _roles(source) if name in had}
    places, pairs = _places(target), dict(_roles(target))
    copies: dict[int, _Copy] = {}
    for name, (start, size) in places.items():
        role = pairs.get(name)
        before = had.get(name) or roles.get(role or "")
        if before is not None and before[1] == size:
            copies[start] = _Copy(before[0], size)
    return _assemble(source, target, copies)


def _assemble(source: bytes, target: bytes, copies: dict[int, _Copy]) -> Delta:
    # An entry's header comes before its content: a target begins with new bytes.
    starts = sorted(copies)
    steps: list[tuple[_Copy, int]] = [(_Copy(0, 0), next(iter(starts), len(target)))]
    differences, news = [], [target[: steps[0][1]]]
    for start, following in itertools.pairwise([*starts, len(target)]):
        copy = copies[start]
        end = start + copy.size
        differences.append(_subtract(source, copy.start, target[start:end]))
        news.append(target[end:following])
        steps.append((copy, following - end))
    stretches = []
    read = 0
    for (copy, new), (then, _) in itertools.pairwise([*steps, steps[-1]]):
        read += copy.size
        stretches.append(Stretch(copy.size, new, then.start - read))
        read = then.start
    return Delta(tuple(stretches), b"".join(differences), b"".join(news))


def _subtract(source: bytes, start: int, target: bytes) -> bytes:
    before = np.frombuffer(source, np.uint8, len(target), start)
    return (np.frombuffer(target, np.uint8) - before).tobytes()


def _places(bundle: bytes) -> dict[str, tuple[int, int]]:
    """Return where the content of each entry begins, and its length."""
    found = {}
    with zipfile.ZipFile(BytesIO(bundle)) as archive:
        for info in archive.infolist():
            at = info.header_offset + _LOCAL_HEADER
            name, extra = _LENGTHS.unpack_from(bundle, at - _LENGTHS.size)
            found[info.filename] = (at + name + extra, info.file_size)
    return found


def _roles(bundle: bytes) -> Iterator[tuple[str, str]]:
    """Yield the name of each file that has a role, and the role."""
    with zipfile.ZipFile(BytesIO(bundle)) as archive:
        manifest = Manifest.decode(archive.read("manifest.json"))
    for one in manifest.variants:
        yield f"files/{one.file}", f"variant {one.id}"
    yield f"files/{manifest.profile_file}", "profile"
    yield f"files/{manifest.golden_file}", "golden"
