# SPDX-License-Identifier: Apache-2.0
"""One device profile and how it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import cattrs
import yaml

from converter.errors import ConvertUsageError

DEFAULT: Final = "default"
_SUFFIX: Final = ".yaml"
FORBIDDABLE: Final = frozenset({"onnxruntime-full-range"})


@dataclass(frozen=True)
class DeviceProfile:
    """A class of devices.

    Attributes:
        name: Its id, a key of a manifest's ``selected``.
        title: The boards it stands for.
        machine: What ``uname -m`` says there.
        runtimes: Inference runtime, as a manifest names it, to the oldest version
            that a device of this class has.
        memory_mib: Memory of the smallest of these boards.
        forbids: Kinds of variants that compute wrongly there.
        notes: What a user should know.
    """

    name: str
    title: str
    machine: str
    runtimes: Mapping[str, str]
    memory_mib: int
    forbids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def known_profiles() -> tuple[str, ...]:
    """Return the names of all device profiles, sorted."""
    files = resources.files(__package__).iterdir()
    return tuple(
        sorted(
            one.name.removesuffix(_SUFFIX)
            for one in files
            if one.name.endswith(_SUFFIX)
        )
    )


def load_profile(name: str) -> DeviceProfile:
    """Return the device profile called ``name``.

    Raises:
        ConvertUsageError: There is none.
    """
    known = known_profiles()
    if name not in known:
        msg = f"--profile: expected some of {', '.join(known)}, found {name!r}"
        raise ConvertUsageError(msg, next_step="leave it out for any device")
    text = (resources.files(__package__) / f"{name}{_SUFFIX}").read_text("utf-8")
    return parse_profile(text, name=name)


def parse_profile(text: str, *, name: str) -> DeviceProfile:
    """Parse a device profile.

    Args:
        text: YAML.
        name: What it must be called.

    Raises:
        ConvertUsageError: It does not have exactly the keys of a profile, or forbids
            what nobody knows.
    """
    converter = cattrs.Converter(forbid_extra_keys=True)
    try:
        found: Any = converter.structure(yaml.safe_load(text), DeviceProfile)
    except (cattrs.BaseValidationError, yaml.YAMLError, TypeError, ValueError) as error:
        reason = "; ".join(cattrs.transform_error(error))
        msg = f"device profile {name}: {reason}"
        raise ConvertUsageError(
            msg, next_step="see the profiles that come along"
        ) from (error)
    unknown = set(found.forbids) - FORBIDDABLE
    if unknown or found.name != name or not found.runtimes:
        msg = f"device profile {name}: expected its own name, a runtime, and forbids of"
        msg += f" {sorted(FORBIDDABLE)}, found {found.name!r}, {sorted(found.forbids)}"
        raise ConvertUsageError(msg, next_step="see the profiles that come along")
    profile: DeviceProfile = found
    return profile
