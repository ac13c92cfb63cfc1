# SPDX-License-Identifier: Apache-2.0
"""One device profile and how it is read."""

from dataclasses import dataclass
from importlib import resources
from typing import Final

import yaml

from converter.errors import ConvertUsageError

DEFAULT: Final = "default"
_SUFFIX = ".yaml"


@dataclass(frozen=True)
class DeviceProfile:
    """A class of devices.

    Attributes:
        name: Its id, a key of a manifest's ``selected``.
        title: The boards it stands for.
        machine: What ``uname -m`` says there.
        runtime: The inference runtime.
        min_runtime: The oldest version of it that variants are verified on.
    """

    name: str
    title: str
    machine: str
    runtime: str
    min_runtime: str


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
    text = (resources.files(__package__) / f"{name}{_SUFFIX}").read_text()
    return DeviceProfile(**yaml.safe_load(text))
