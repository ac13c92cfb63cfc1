# SPDX-License-Identifier: Apache-2.0
"""Which variant of a bundle this device serves.

Owns the order of preference (the one chosen for the device profile, the default one,
then any) and the rule that a variant needs its runtime, no older than it asks.
"""

import re
from typing import Final

from edge_agent.errors import BackendError, ModelError
from edge_agent.runtime.backend import find_backend
from edge_contract.manifest import Manifest, Variant

_NUMBERS: Final = re.compile(r"\d+")
_PARTS: Final = 3


def choose_variant(manifest: Manifest, device_profile: str) -> Variant:
    """Return the variant that this device serves.

    Raises:
        ModelError: No variant can run here; the message says what each needs.
    """
    wanted = [manifest.select(device_profile), manifest.select(), *manifest.variants]
    reasons: dict[str, str] = {}
    for one in wanted:
        reason = why_not(one)
        if not reason:
            return one
        reasons[one.id] = reason
    found = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    msg = f"model {manifest.name}: no variant can run here: {found}"
    raise ModelError(msg, next_step="install one of these runtimes")


def why_not(variant: Variant) -> str:
    """Return why a variant cannot run here; empty where it can."""
    try:
        version = find_backend(variant.runtime).runtime_version()
    except BackendError as error:
        return error.message
    if parse_version(version) < parse_version(variant.min_runtime):
        return f"needs {variant.runtime} {variant.min_runtime}, found {version}"
    return ""


def parse_version(text: str) -> tuple[int, ...]:
    """Return the first three numbers of a version.

    >>> parse_version("2.14") < parse_version("2.17.0rc1")
    True
    """
    numbers = [int(one) for one in _NUMBERS.findall(text)[:_PARTS]]
    return tuple(numbers + [0] * (_PARTS - len(numbers)))
