# SPDX-License-Identifier: Apache-2.0
"""The first meeting with an ONNX file of unknown origin; see ``runtimes.probe``."""

from typing import Final

from converter.runtimes.probe import probe_apart

_WORKER: Final = "converter.ort.probe_worker"


def probe(content: bytes, *, source: str) -> None:
    """Parse, check and open an ONNX file apart.

    What is merely refused there is left to ``normalise``, which says more.

    Args:
        content: An ONNX file, or what claims to be one.
        source: What to call the model in messages.

    Raises:
        ConvertModelError: A library crashes on the file, or hangs.
    """
    probe_apart(content, source=source, worker=_WORKER)
