# SPDX-License-Identifier: Apache-2.0
"""The first meeting with a LiteRT file of unknown origin; see ``runtimes.probe``."""

from typing import Final

from converter.errors import ConvertModelError
from converter.runtimes.probe import probe_apart

_WORKER: Final = "converter.litert.probe_worker"


def probe(content: bytes, *, source: str) -> None:
    """Open, allocate and run a LiteRT file once on every kernel set, apart.

    Args:
        content: A LiteRT flatbuffer, or what claims to be one.
        source: What to call the model in messages.

    Raises:
        ConvertModelError: The runtime refuses the file, crashes on it, or hangs.
    """
    reason = probe_apart(content, source=source, worker=_WORKER)
    if "custom op" in reason or "Select TensorFlow op" in reason:
        return  # it was read without harm; `normalise` names all of them
    if reason:
        msg = f"{source}: the runtime refuses this file: {reason}"
        step = "export the model again"
        if "quantiz" in reason:
            step = "its quantization is of an older form: quantize the float model anew"
        raise ConvertModelError(msg, next_step=step)
