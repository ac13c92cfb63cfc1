# SPDX-License-Identifier: Apache-2.0
"""Which device profile this machine is.

Owns the mapping from machine and CPU to the names that the converter builds for. A
bundle falls back to its default variant where it does not know the name.
"""

import platform
import sys
from pathlib import Path
from typing import Final

AUTO: Final = "auto"
DEFAULT: Final = "default"
_ARM_32_BIT: Final = "armv7l-tflite214"
_ARM_PARTS: Final = {
    "0xd03": "aarch64-a53",
    "0xd08": "aarch64-a72",
    "0xd0b": "aarch64-a76",
}


def find_device_profile(asked: str) -> str:
    """Return ``asked``, or for ``auto`` the name of this machine's device profile."""
    if asked != AUTO:
        return asked
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        cpuinfo = ""
    is_64_bit = sys.maxsize > 2**32
    return name_device_profile(platform.machine(), cpuinfo, is_64_bit=is_64_bit)


def name_device_profile(machine: str, cpuinfo: str, *, is_64_bit: bool = True) -> str:
    r"""Return the device profile of a machine.

    Args:
        machine: What the kernel says; 64 bit even below a 32-bit userland.
        cpuinfo: The kernel's description of the processors.
        is_64_bit: Whether this process is.

    >>> name_device_profile("aarch64", "CPU part\t: 0xd08")
    'aarch64-a72'
    >>> name_device_profile("aarch64", "CPU part\t: 0xd08", is_64_bit=False)
    'armv7l-tflite214'
    """
    words = set(cpuinfo.split())
    if machine in {"armv7l", "armv8l"} or (machine == "aarch64" and not is_64_bit):
        return _ARM_32_BIT
    if machine == "x86_64":
        if words & {"avx512_vnni", "avx_vnni"}:
            return "x86-vnni"
        return "x86-avx2" if "avx2" in words else DEFAULT
    if machine == "aarch64":
        parts = [name for part, name in _ARM_PARTS.items() if part in words]
        # A big.LITTLE machine lists several: the fastest core decides.
        return max(parts, default=DEFAULT)
    return DEFAULT
