# SPDX-License-Identifier: Apache-2.0
"""A host without AMX, as every device is: x86 matrix tiles refused to this process.

LiteRT's kernels for AMX make int8 of small models slower than float, which no device
would show. Linux gives tiles only to a process that asks (arch_prctl, Linux 5.16); a
seccomp filter answers that one question with no. It stays for the process and its
children.
"""

import ctypes
import platform
import struct
from pathlib import Path
from typing import Final

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ARCH_PRCTL: Final = 158
_ASK_FOR_FEATURE: Final = 0x1023
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050001  # as if it were not permitted (EPERM)
_NO_NEW_PRIVILEGES: Final = 38
_SET_SECCOMP: Final = 22
_FILTER_MODE: Final = 2
# struct sock_filter: code, jump if true, jump if false, value.
_PROGRAM: Final = (
    (_LOAD, 0, 0, 0),  # the number of the system call
    (_EQUAL, 0, 3, _ARCH_PRCTL),
    (_LOAD, 0, 0, 16),  # its first argument
    (_EQUAL, 0, 1, _ASK_FOR_FEATURE),
    (_RETURN, 0, 0, _REFUSE),
    (_RETURN, 0, 0, _ALLOW),
)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def has_tiles() -> bool:
    """Whether this processor has AMX."""
    path = Path("/proc/cpuinfo")
    return path.is_file() and " amx_tile" in path.read_text(encoding="utf-8")


def refuse_tiles() -> None:
    """Let no runtime that is loaded from now on use AMX.

    Raises:
        OSError: The kernel takes no filter.
    """
    if platform.machine() != "x86_64" or not has_tiles():
        return
    code = b"".join(struct.pack("HBBI", *one) for one in _PROGRAM)
    held = ctypes.create_string_buffer(code)
    program = _Program(len(_PROGRAM), ctypes.cast(held, ctypes.c_void_p))
    library = ctypes.CDLL(None, use_errno=True)
    for call in (
        (_NO_NEW_PRIVILEGES, 1, 0, 0, 0),
        (_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0),
    ):
        if library.prctl(*call):
            raise OSError(ctypes.get_errno(), "prctl: no filter against AMX")


def are_refused() -> bool:
    """Whether a filter is at work in this process, on a processor with AMX."""
    status = Path("/proc/self/status")
    if not has_tiles() or not status.is_file():
        return False
    return "\nSeccomp:\t2" in status.read_text(encoding="utf-8")
