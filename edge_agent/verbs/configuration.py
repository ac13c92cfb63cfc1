# SPDX-License-Identifier: Apache-2.0
"""The configuration as a verb sees it: effective, explained, checked.

Owns how the fleet's desired, which is in the state folder, joins the other layers.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from edge_agent.config import Layers, load_layers
from edge_agent.daemon.wanted import load_wanted
from edge_agent.verbs.answer import Answer


def read_layers(path: Path, flags: Sequence[str]) -> Layers:
    """Return all that was said, the fleet's desired included.

    Raises:
        ConfigError: The file, a flag or a variable is wrong.
        StateError: The fleet's desired is damaged.
    """
    layers = load_layers(path, flags)
    wanted = load_wanted(layers.resolve().config.state_dir)
    return replace(layers, desired=wanted.config, generation=wanted.generation)


def explain(layers: Layers) -> Answer:
    """Show every effective value, where it came from, and its variable.

    Raises:
        ConfigError: The configuration is wrong.
    """
    entries = layers.explain()
    width = max(len(one.key) for one in entries)
    values = max(len(one.value) for one in entries)
    lines = [
        f"{one.key:{width}}  {one.value:{values}}  {one.origin}"
        + (f"  ({one.variable})" if one.variable else "")
        for one in entries
    ]
    refused = dict(layers.resolve().refused)
    lines += [f"refused of the fleet: {key}: {why}" for key, why in refused.items()]
    document = {"values": [asdict(one) for one in entries], "refused": refused}
    return Answer(document, "\n".join(lines))


def check(layers: Layers) -> Answer:
    """Say that the configuration can be read.

    Raises:
        ConfigError: It cannot.
    """
    config = layers.resolve().config
    models = ", ".join(config.models)
    text = f"{layers.name}: ok, models {models}"
    return Answer({"file": layers.name, "models": list(config.models)}, text)
