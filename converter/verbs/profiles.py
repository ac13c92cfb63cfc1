# SPDX-License-Identifier: Apache-2.0
"""``edge-convert profiles``: the device profiles."""

import argparse
from dataclasses import asdict

from converter.profiles import known_profiles, load_profile
from converter.verbs.printing import Verbs, add_verb, print_json, print_text


def add(verbs: Verbs) -> None:
    """Add the verb."""
    add_verb(
        verbs,
        "profiles",
        _run,
        title="list the device profiles",
        example="edge-convert profiles --json",
    )


def _run(arguments: argparse.Namespace) -> int:
    found = [asdict(load_profile(name)) for name in known_profiles()]
    if arguments.json:
        print_json({"profiles": found})
    else:
        rows = [f"{one['name']:18} {one['machine']:8} {one['title']}" for one in found]
        print_text("\n".join(rows))
    return 0
