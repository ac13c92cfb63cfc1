# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from pycddl import Schema, ValidationError

from tests.conformance import samples

CDDL = Path(__file__).parents[2] / "docs" / "spec" / "edgeloop.cddl"
RULES = {
    "envelope": "envelope",
    "profile": "profile",
    "profile-values": "profile",
    "profile-full": "profile",
    "golden": "golden",
    "reference-linear": "reference-model",
    "reference-trees": "reference-model",
    "message-window-operations": "window",
    "message-window-evidence": "window",
    "message-window-private": "window",
    **{
        f"message-{rule}": rule
        for rule in (
            *("birth", "window", "event", "update", "reply", "state"),
            *("ack", "want", "command", "announce"),
        )
    },
}


def schema(rule: str) -> Schema:
    return Schema(f"start = {rule}\n{CDDL.read_text()}")


@pytest.mark.parametrize("name", RULES)
def test_golden_bytes_follow_the_published_grammar(name: str) -> None:
    schema(RULES[name]).validate_cbor(samples.all_vectors()[name])


@pytest.mark.parametrize("name", sorted(set(RULES) - {"envelope"}))
def test_the_grammar_refuses_another_kind_of_message(name: str) -> None:
    with pytest.raises(ValidationError):
        schema(RULES[name]).validate_cbor(samples.all_vectors()["envelope"])
