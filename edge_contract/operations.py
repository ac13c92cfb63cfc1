# SPDX-License-Identifier: Apache-2.0
"""How a device fared in a window: latencies, load, temperature, room on the disk.

Owns docs/spec/windows.md, section "Operations": the buckets, how two windows' merge,
and the block that travels in a window report. Latencies are counted in buckets of equal
ratio (four an octave, as histograms of Prometheus and HDR have it), so that they add up
exactly and a percentile is known to within a tenth of itself.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from edge_contract.binning import Int64
from edge_contract.errors import WindowError
from edge_contract.varint import decode_few, encode_few

BUCKETS: Final = 98
MAX_BLOCK_BYTES: Final = 1024
_OCTAVE: Final = 4
_SCALARS: Final = 7
_MAX_SCALARS: Final = 64
_KELVIN: Final = 273
_HOTTEST: Final = 2000
# Bucket i holds what is below edge i (and not below the one before): 1 us to 16.8 s.
LATENCY_EDGES_NS: Final[Int64] = np.array(
    [round(1000 * 2 ** (index / _OCTAVE)) for index in range(BUCKETS - 1)],
    dtype=np.int64,
)


def _no_latency() -> Int64:
    return np.zeros(BUCKETS, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Operations:
    """How a device fared; None where it could not tell.

    Attributes:
        latency: int64 [98], inferences by latency; see ``LATENCY_EDGES_NS``.
        elapsed_ms: How long the window was open by the monotonic clock; inferences
            over it are the rate.
        queue: Most messages that waited for the server.
        rss_kib: Largest resident memory of the agent.
        cpu_permille: Largest processor time of the agent, in thousandths of one core.
        temperature: Highest temperature of the processor, in whole °C.
        is_throttled: Whether the processor ever ran slower than it could.
        disk_free_mib: Least room on the disk.
    """

    latency: Int64 = field(default_factory=_no_latency)
    elapsed_ms: int = 0
    queue: int | None = None
    rss_kib: int | None = None
    cpu_permille: int | None = None
    temperature: int | None = None
    is_throttled: bool | None = None
    disk_free_mib: int | None = None


def count_latencies(latencies_ns: Int64) -> Int64:
    """Count latencies (int64 [n], nanoseconds) into buckets, int64 [98].

    >>> int(count_latencies(np.array([5_000, 5_100], np.int64)).max())
    2
    """
    found = LATENCY_EDGES_NS.searchsorted(latencies_ns, side="right")
    return np.bincount(found, minlength=BUCKETS).astype(np.int64, copy=False)


def latency_quantile_us(latency: Int64, share: float) -> float:
    """Return the latency that a share of the inferences stays below, microseconds.

    Args:
        latency: int64 [98], see ``Operations``; not all zero.
        share: 0.5 for the median.

    >>> latency = count_latencies(np.full(4, 5_000, dtype=np.int64))
    >>> 4.7 < latency_quantile_us(latency, 0.5) < 5.7
    True
    """
    wanted = share * int(latency.sum())
    before = np.concatenate(([0], np.cumsum(latency)))
    bucket = min(int(np.searchsorted(before[1:], wanted)), BUCKETS - 1)
    low = LATENCY_EDGES_NS[max(bucket - 1, 0)] / 1000
    high = LATENCY_EDGES_NS[min(bucket, BUCKETS - 2)] / 1000
    inside = (wanted - before[bucket]) / max(int(latency[bucket]), 1)
    return float(low * (high / low) ** inside)


def merge_operations(first: Operations, second: Operations) -> Operations:
    """Return how a device fared in both windows taken together, in any order."""
    return Operations(
        latency=first.latency + second.latency,
        elapsed_ms=first.elapsed_ms + second.elapsed_ms,
        queue=_most(first.queue, second.queue),
        rss_kib=_most(first.rss_kib, second.rss_kib),
        cpu_permille=_most(first.cpu_permille, second.cpu_permille),
        temperature=_most(first.temperature, second.temperature),
        is_throttled=_most(first.is_throttled, second.is_throttled),
        disk_free_mib=_least(first.disk_free_mib, second.disk_free_mib),
    )


def encode_operations(operations: Operations) -> bytes:
    """Return the operations block.

    Raises:
        WindowError: A number is negative or too large.
    """
    one = operations
    kelvin = None if one.temperature is None else one.temperature + _KELVIN - 1
    throttled = None if one.is_throttled is None else int(one.is_throttled)
    known = (one.queue, one.rss_kib, one.cpu_permille, kelvin, throttled)
    numbers = [
        _SCALARS,
        one.elapsed_ms,
        *(0 if number is None else number + 1 for number in known),
        0 if one.disk_free_mib is None else one.disk_free_mib + 1,
    ]
    gap = 0
    for count in one.latency.tolist():
        if count:
            numbers += (gap, count)
        gap = 0 if count else gap + 1
    return encode_few(numbers)


def decode_operations(data: bytes) -> Operations:
    """Read an operations block.

    Raises:
        WindowError: Malformed, or a number out of its range.
    """
    if len(data) > MAX_BLOCK_BYTES:
        msg = f"operations: expected at most {MAX_BLOCK_BYTES} bytes, found {len(data)}"
        raise WindowError(msg)
    numbers = decode_few(data)
    if not numbers or not 1 <= numbers[0] <= min(_MAX_SCALARS, len(numbers) - 1):
        msg = f"operations: expected its numbers, found {len(numbers)}"
        raise WindowError(msg)
    end = 1 + numbers[0]
    scalars = (numbers[1:end] + [0] * _SCALARS)[:_SCALARS]
    elapsed_ms, *rest = scalars
    queue, rss_kib, cpu, kelvin, throttled, disk = (one - 1 for one in rest)
    if throttled > 1 or kelvin > _HOTTEST:
        msg = f"operations: expected a flag and a temperature, found {throttled + 1}"
        raise WindowError(f"{msg} and {kelvin + 1}")
    return Operations(
        latency=_latency_from(numbers[end:]),
        elapsed_ms=elapsed_ms,
        queue=_known(queue),
        rss_kib=_known(rss_kib),
        cpu_permille=_known(cpu),
        temperature=None if kelvin < 0 else kelvin - _KELVIN + 1,
        is_throttled=None if throttled < 0 else bool(throttled),
        disk_free_mib=_known(disk),
    )


def _latency_from(pairs: list[int]) -> Int64:
    counts = [0] * BUCKETS
    place = -1
    for gap, count in zip(pairs[::2], pairs[1::2], strict=False):
        place += gap + 1
        if place >= BUCKETS or not count:
            msg = f"operations: expected counts within {BUCKETS} buckets"
            raise WindowError(msg)
        counts[place] = count
    if len(pairs) % 2:
        msg = "operations: expected a count after the last gap"
        raise WindowError(msg)
    return np.array(counts, dtype=np.int64)


def _known(number: int) -> int | None:
    return None if number < 0 else number


def _most(first: Any, second: Any) -> Any:
    known = [one for one in (first, second) if one is not None]
    return max(known, default=None)


def _least(first: int | None, second: int | None) -> int | None:
    known = [one for one in (first, second) if one is not None]
    return min(known, default=None)
