# SPDX-License-Identifier: Apache-2.0
"""``edge-agent infer``: a model on the frames of an array file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.flow import Float32
from edge_agent.runtime.model import Model
from edge_agent.verbs.answer import Answer


def infer(model: Model, path: Path) -> Answer:
    """Run a model on one frame or several.

    Raises:
        SourceError: The file cannot be read, or holds no frames of the model's.
        BackendError: The runtime failed.
    """
    frames = load_frames(path, model.manifest.frame_shape)
    results = [_describe(model.labels, model.infer(one)) for one in frames]
    lines = [
        f"{number}: {one['label']} {max(one['output']):.3f}"
        if "label" in one
        else f"{number}: {' '.join(f'{value:.6g}' for value in one['output'])}"
        for number, one in enumerate(results)
    ]
    document = {
        "model": model.manifest.name,
        "digest": model.digest,
        "variant": model.variant.id,
        "results": results,
    }
    return Answer(document, "\n".join(lines))


def load_frames(path: Path, shape: tuple[int, ...]) -> Float32:
    """Read one frame, or several, from an ``.npz`` or ``.npy`` file.

    Raises:
        SourceError: It cannot be read, or holds other frames than [n, *shape].
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            found = found["x"]
        frames = np.asarray(found, dtype=np.float32)
    except (OSError, ValueError, KeyError, EOFError) as error:
        msg = f"{path}: expected an array x in an .npz or .npy file: {error}"
        raise SourceError(
            msg, next_step="np.savez(path, x=frames) writes one"
        ) from error
    if frames.shape == shape:
        frames = frames[np.newaxis]
    if frames.shape[1:] != shape:
        msg = (
            f"{path}: expected frames of shape {list(shape)}, "
            f"found {list(frames.shape)}"
        )
        raise SourceError(msg, next_step="save frames [n, ...] under the name x")
    return frames


def _describe(labels: Sequence[str], output: Float32) -> dict[str, Any]:
    described: dict[str, Any] = {"output": [round(float(one), 6) for one in output]}
    if labels:
        described["label_index"] = int(output.argmax())
        described["label"] = labels[int(output.argmax())]
    return described
