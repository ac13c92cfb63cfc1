# SPDX-License-Identifier: Apache-2.0
"""Messages as plain JSON values for the database.

Owns the one rule: bytes become hex, everything else stays. It knows no message.
"""

from dataclasses import fields, is_dataclass
from typing import Any


def to_plain(value: Any) -> Any:
    r"""Return ``value`` with dataclasses as dicts and bytes as hex.

    >>> to_plain({"digest": b"\x01\x02", "n": (1, True)})
    {'digest': '0102', 'n': [1, True]}
    """
    if isinstance(value, bytes):
        return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: to_plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(part) for part in value]
    return value
