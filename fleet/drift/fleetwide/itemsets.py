# SPDX-License-Identifier: Apache-2.0
"""What many scattered devices have in common: one tag, or two together.

Owns the search over itemsets of tags among devices with a verdict (after Nazar, Wu et
al., ASPLOS 2025): sets are ranked by occurrence times the logarithm of the risk ratio,
which wants a cause to be both common among the flagged and rare among the others. Pure.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

Item = tuple[str, str]
_MOST_ITEMS: Final = 2
_LEAST_FLAGGED, _LEAST_CONFIDENCE, _LEAST_RISK_RATIO = 5, 0.5, 2.0


@dataclass(frozen=True, slots=True)
class CommonTags:
    """Tags that flagged devices share.

    Attributes:
        items: The tags, one or two.
        flagged: Flagged devices that carry them.
        devices: All devices that do.
        risk_ratio: How much likelier such a device is flagged than another.
    """

    items: tuple[Item, ...]
    flagged: int
    devices: int
    risk_ratio: float


def find_common_tags(
    tags: Sequence[Mapping[str, str]], flagged: Iterable[int]
) -> CommonTags | None:
    """Return the set of tags that explains the flagged devices best.

    Args:
        tags: Of all devices.
        flagged: Places of the flagged ones.

    >>> some = [{"hw": "ab"[n % 2], "fw": "xyz"[n % 3]} for n in range(60)]
    >>> bad = [n for n, one in enumerate(some) if one == {"hw": "b", "fw": "x"}]
    >>> find_common_tags(some, bad).items
    (('fw', 'x'), ('hw', 'b'))
    """
    chosen = set(flagged)
    if len(chosen) < _LEAST_FLAGGED:
        return None
    every: Counter[tuple[Item, ...]] = Counter()
    bad: Counter[tuple[Item, ...]] = Counter()
    for place, one in enumerate(tags):
        items = sorted(one.items())
        for size in range(1, _MOST_ITEMS + 1):
            sets = list(combinations(items, size))
            every.update(sets)
            if place in chosen:
                bad.update(sets)
    ranked = [
        (score, CommonTags(items, many, every[items], ratio))
        for items, many in bad.items()
        if (ratio := _risk_ratio(many, every[items], len(chosen), len(tags)))
        >= _LEAST_RISK_RATIO
        and many / every[items] >= _LEAST_CONFIDENCE
        and many >= _LEAST_FLAGGED
        and (score := many / len(chosen) * math.log(ratio)) > 0
    ]
    # Of two that explain the same, the shorter set is the better answer.
    return max(ranked, key=lambda one: (one[0], -len(one[1].items)), default=(0, None))[
        1
    ]


def _risk_ratio(
    flagged: int, devices: int, all_flagged: int, all_devices: int
) -> float:
    others = all_devices - devices
    if not others:
        return 1.0
    # Half a device more, so that none elsewhere is no infinite ratio.
    elsewhere = (all_flagged - flagged + 0.5) / (others + 1)
    return flagged / devices / elsewhere
