# SPDX-License-Identifier: Apache-2.0
"""What a process that is the agent asks of its interpreter."""

import json
import subprocess
import sys

from tests.support.agent_home import ROOT

_PROGRAM = """\
import gc, json, sys
from edge_agent.daemon.agent import Agent
from edge_agent.daemon.pauses import shorten_pauses
before = len(gc.get_objects())
shorten_pauses()
print(json.dumps([sys.getswitchinterval(), before, len(gc.get_objects())]))
"""


def test_what_is_loaded_is_walked_over_no_more() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
        timeout=60,
    )
    interval, before, after = json.loads(done.stdout)

    assert interval == 0.001
    assert before > 10_000
    assert after < 100
