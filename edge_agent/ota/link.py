# SPDX-License-Identifier: Apache-2.0
"""Whether the way to the network costs money, as far as its name says.

Owns the guess behind ``update.metered: auto``: the interface of the default route is a
modem by the names that systemd, udev and pppd give. A device that is told is not asked.
"""

from pathlib import Path
from typing import Final

ROUTES: Final = Path("/proc/net/route")
ROUTES_6: Final = Path("/proc/net/ipv6_route")
_MODEMS: Final = ("ww", "ppp", "rmnet")
_ANYWHERE: Final = "00000000"
_ANYWHERE_6: Final = "0" * 32
_METRIC: Final = 6
_METRIC_6: Final = 5


def is_metered(routes: Path = ROUTES, routes_6: Path = ROUTES_6) -> bool:
    """Return whether the best default route goes through a modem.

    Args:
        routes: The kernel's table of IPv4 routes.
        routes_6: And of IPv6 ones, asked where there is no default in the first.
    """
    found = _find_default(routes) or _find_default_6(routes_6)
    return found.startswith(_MODEMS)


def _find_default(table: Path) -> str:
    rows = [one for one in _read(table)[1:] if len(one) > _METRIC + 1]
    defaults = [
        (int(one[_METRIC]), one[0])
        for one in rows
        if one[1] == _ANYWHERE and one[7] == _ANYWHERE and one[_METRIC].isdigit()
    ]
    return min(defaults, default=(0, ""))[1]


def _find_default_6(table: Path) -> str:
    defaults = [
        (one[_METRIC_6], one[-1])
        for one in _read(table)
        if len(one) > _METRIC_6 and one[0] == _ANYWHERE_6 and one[1] == "00"
        if one[-1] != "lo"
    ]
    return min(defaults, default=("", ""))[1]


def _read(table: Path) -> list[list[str]]:
    try:
        text = table.read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return [line.split() for line in text.splitlines()]
