# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

from bench.harness.tiles import are_refused, has_tiles

CODE = """
import ctypes
from bench.harness.tiles import are_refused, refuse_tiles
refuse_tiles()
library = ctypes.CDLL(None, use_errno=True)
print(are_refused(), library.syscall(158, 0x1023, 18), ctypes.get_errno())
"""


def test_tiles_are_refused_to_the_process_that_asks_and_no_other() -> None:
    before = are_refused()
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, check=True, text=True
    )
    refused, answer, error = done.stdout.split()
    assert refused == str(has_tiles())
    if has_tiles():
        assert (answer, error) == ("-1", "1")
    assert are_refused() == before
