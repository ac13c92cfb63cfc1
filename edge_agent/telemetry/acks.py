# SPDX-License-Identifier: Apache-2.0
"""What an ack covers: a mark, and a bitmap of seqs above it.

Owns the reading of docs/spec/messages.md's marks on the device. Pure.
"""


def is_marked(seq: int, mark: int, bitmap: bytes) -> bool:
    r"""Return whether an ack covers ``seq``.

    >>> [seq for seq in range(1, 9) if is_marked(seq, 2, b"\x05")]
    [1, 2, 3, 5]
    """
    if seq <= mark:
        return True
    byte, bit = divmod(seq - mark - 1, 8)
    return byte < len(bitmap) and bool(bitmap[byte] >> bit & 1)
