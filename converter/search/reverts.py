# SPDX-License-Identifier: Apache-2.0
"""Which operators go back to float, and how many: pure rules over a judge's answers.

Owns the ranking by measured sensitivity and the bisection over its prefixes. Usually a
few operators make most of the error (arXiv 2012.08420), so a short prefix of the
ranking buys most of the quality back.
"""

from collections.abc import Callable, Mapping


def rank(all_but_db: Mapping[str, float]) -> tuple[str, ...]:
    """Return operators, the one whose revert helps most first.

    Args:
        all_but_db: Operator to the SQNR with it float and the others quantized.

    >>> rank({"a": 30.0, "b": 40.0})
    ('b', 'a')
    """
    return tuple(sorted(all_but_db, key=lambda name: (-all_but_db[name], name)))


def smallest_prefix(length: int, holds: Callable[[int], bool]) -> int | None:
    """Return the smallest number of reverts for which ``holds`` is true, by bisection.

    Args:
        length: The largest number of reverts.
        holds: Assumed to stay true once it is.

    Returns:
        1 to ``length``, or None where even ``length`` does not hold.

    >>> smallest_prefix(31, lambda count: count >= 5)
    5
    """
    if length < 1 or not holds(length):
        return None
    low, high = 0, length
    while low + 1 < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def largest_prefix(length: int, holds: Callable[[int], bool]) -> int:
    """Return the largest number of reverts for which ``holds`` is true, by bisection.

    Returns:
        0 to ``length``; 0 where not even one holds.

    >>> largest_prefix(31, lambda count: count <= 4)
    4
    """
    low, high = 0, length + 1
    while low + 1 < high:
        middle = min((low + high) // 2, 2 * low + 1)
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
