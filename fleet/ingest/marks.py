# SPDX-License-Identifier: Apache-2.0
"""Which messages of a device are committed: a contiguous mark and a gap bitmap.

Owns the arithmetic of contract "Windows": every seq up to ``mark`` is committed, and
``mark + 1 + i`` is too where bit i of the bitmap is set (least significant first). The
mark is kept for ever, apart from the windows, so that a message that is sent again a
year later is still known. Pure.
"""

from dataclasses import dataclass

MAX_AHEAD = 8192  # bits; what fits the bitmap of an ack


@dataclass(frozen=True, slots=True)
class Marks:
    """A set of positive integers that is dense at its lower end.

    Args:
        mark: All up to and including it are in the set.
        ahead: Bit i stands for ``mark + 1 + i``; bit 0 is never set.
    """

    mark: int = 0
    ahead: int = 0

    def __contains__(self, seq: int) -> bool:
        return seq <= self.mark or bool(self.ahead >> (seq - self.mark - 1) & 1)

    def reaches(self, seq: int) -> bool:
        """Tell whether ``seq`` is near enough to be added."""
        return seq <= self.mark + MAX_AHEAD

    def add(self, seq: int) -> "Marks":
        """Return the set with ``seq``, which must be within reach.

        >>> Marks().add(1).add(3)
        Marks(mark=1, ahead=2)
        >>> Marks().add(1).add(3).add(2)
        Marks(mark=3, ahead=0)
        """
        if seq <= self.mark:
            return self
        return _normal(self.mark, self.ahead | 1 << (seq - self.mark - 1))

    def raise_to(self, mark: int) -> "Marks":
        """Return the set with all up to ``mark``.

        >>> Marks(1, 0b10).raise_to(2)
        Marks(mark=3, ahead=0)
        """
        if mark <= self.mark:
            return self
        return _normal(mark, self.ahead >> (mark - self.mark))

    def bitmap(self) -> bytes:
        """Return the bitmap's bytes, without zero bytes at the end."""
        return self.ahead.to_bytes((self.ahead.bit_length() + 7) // 8, "little")

    @classmethod
    def from_bitmap(cls, mark: int, bitmap: bytes) -> "Marks":
        """Read what ``mark`` and ``bitmap()`` gave."""
        return cls(mark, int.from_bytes(bitmap, "little"))


def _normal(mark: int, ahead: int) -> Marks:
    trailing_ones = (~ahead & (ahead + 1)).bit_length() - 1
    return Marks(mark + trailing_ones, ahead >> trailing_ones)
