# SPDX-License-Identifier: Apache-2.0
"""Device profiles: what a class of devices can run, as data files beside this one.

Owns reading and naming them. ``default`` stands for any device with the runtime that a
variant names and needs no file. What is measured for a profile is in ``pipeline``.
"""

from converter.profiles.device_profile import (
    DEFAULT,
    DeviceProfile,
    known_profiles,
    load_profile,
)

__all__ = ["DEFAULT", "DeviceProfile", "known_profiles", "load_profile"]
