# SPDX-License-Identifier: Apache-2.0
"""The pauses that an interpreter makes: for its collector, and for another thread.

Owns the settings of a process that is the agent and nothing else. A program that has
the agent inside keeps its own.
"""

import gc
import sys
from typing import Final

# What loads a model, or counts a block, lets an inference go first after so long, and
# not after Python's own 5 ms: a swap is then hardly felt (bench ``agent_swap``).
SWITCH_SECONDS: Final = 0.001


def shorten_pauses() -> None:
    """Hand over between threads sooner, and collect nothing of what is there for good.

    Modules and what they made are some ten thousand objects; a full collection walks
    over them for milliseconds, while no thread goes on. Called once they are loaded.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
