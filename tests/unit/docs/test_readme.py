# SPDX-License-Identifier: Apache-2.0
"""What README and how-to tell a reader to type is what the programs take."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from converter import cli as convert_cli
from edge_agent import cli as agent_cli
from fleet import cli as fleet_cli

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
HOW_TO = ROOT / "docs" / "how-to" / "operate-a-fleet.md"
FLEET = [
    ROOT / "docs" / "how-to" / f"{name}.md"
    for name in ("keep-keys", "roll-out", "update-without-a-network")
]
SERVE = ROOT / "docs" / "how-to" / "serve-over-http.md"
CONVERT = [
    ROOT / "docs" / "how-to" / f"convert-{name}.md"
    for name in ("a-model", "pytorch", "scikit-learn")
]
PARSERS = {
    "edge-agent": agent_cli.make_parser,
    "edge-convert": convert_cli.make_parser,
    "edge-fleet": fleet_cli.make_parser,
}


def find_commands(path: Path) -> list[str]:
    text = path.read_text().replace("\\\n", " ")
    lines = re.findall(r"^(edge-\w+ .*)$", text, re.MULTILINE)
    inline = re.findall(r"`(edge-\w+ [^`]*)`", text)
    return [line.split("#")[0].strip() for line in [*lines, *inline]]


COMMANDS = [
    *find_commands(README),
    *find_commands(HOW_TO),
    *find_commands(SERVE),
    *(one for page in [*CONVERT, *FLEET] for one in find_commands(page)),
]


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_is_one_that_the_program_takes(command: str) -> None:
    program, *words = shlex.split(command)

    parsed = PARSERS[program]().parse_args(words)

    assert isinstance(parsed, argparse.Namespace)


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_targets_exist(target: str) -> None:
    assert f"make {target}" in README.read_text()
    assert re.search(rf"^{target}: ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_readme_stays_short_and_its_links_lead_somewhere() -> None:
    text = README.read_text()

    assert len(text.splitlines()) <= 150
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / link).exists(), link
