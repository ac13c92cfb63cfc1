# SPDX-License-Identifier: Apache-2.0
"""Any bytes in the place of a model give a model or an error of ours.

The runtime is C++ and may crash on them. Altered files are read by a process of their
own; where it dies, the probe that every source goes through must have refused the file.
"""

import random
import subprocess
import sys

import pytest

from converter.errors import ConvertModelError
from converter.litert.probe import probe
from tests.support.convert_inputs import model_bytes

EXAMPLES = 1500
_READER = """
import sys
from converter.errors import ConvertError
from converter.litert.normalise import normalise
from tests.fuzz.test_model_files import altered
for number in range(int(sys.argv[1]), int(sys.argv[2])):
    print(number, flush=True)
    try:
        normalise(altered(number), source="altered")
    except ConvertError:
        pass
"""


def altered(number: int) -> bytes:
    """Return a model with some bytes changed, or cut short."""
    chance = random.Random(number)  # noqa: S311 - examples, not secrets
    content = bytearray(model_bytes())
    for _ in range(chance.randint(0, 6)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    if chance.random() < 0.3:
        del content[chance.randrange(8, len(content)) :]
    return bytes(content)


@pytest.mark.slow
def test_an_altered_model_is_read_or_refused() -> None:
    start, crashes = 0, 0
    while start < EXAMPLES:
        done = subprocess.run(
            [sys.executable, "-c", _READER, str(start), str(EXAMPLES)],
            capture_output=True,
            check=False,
            text=True,
        )
        if done.returncode == 0:
            break
        assert done.returncode < 0, done.stderr
        crashed = int(done.stdout.split()[-1])
        with pytest.raises(ConvertModelError, match="crashes on this file"):
            probe(altered(crashed), source="altered")
        start, crashes = crashed + 1, crashes + 1
    assert crashes < EXAMPLES / 10
