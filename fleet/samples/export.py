# SPDX-License-Identifier: Apache-2.0
"""Received samples as ``.npz`` files.

Owns putting the chunks of a device together: ``x`` float32 [n, C], ``recording`` text
[n], ``y`` int32 [n] when all chunks are labelled, ``names``. Never pickled, so that
``numpy.load(allow_pickle=False)`` reads them.
"""

from pathlib import Path

import numpy as np
from sqlalchemy import Engine, select

from fleet.errors import NotFoundError
from fleet.samples.chunk import Chunk, parse_chunk
from fleet.samples.storage import chunk_path
from fleet.store.engine import reading
from fleet.store.tables import samples

_MAX_FILE_BYTES = 1 << 26


def export_samples(
    engine: Engine, folder: Path, request: str, output: Path
) -> dict[str, Path]:
    """Write one ``.npz`` a device into ``output``; return the files by device.

    Args:
        engine: The database.
        folder: The folder of received samples.
        request: The request to export.
        output: An existing folder.

    Raises:
        NotFoundError: No chunk came under ``request``.
    """
    query = (
        select(samples.c.device, samples.c.number)
        .where(samples.c.request == request)
        .order_by(samples.c.device, samples.c.number)
    )
    chunks: dict[str, list[Chunk]] = {}
    with reading(engine) as connection:
        for row in connection.execute(query):
            path = chunk_path(folder, request, row.device, row.number)
            chunk = parse_chunk(path.read_bytes(), max_bytes=_MAX_FILE_BYTES)
            chunks.setdefault(row.device, []).append(chunk)
    if not chunks:
        message = f"samples: no chunk came under request {request}"
        raise NotFoundError(message, next_step="see `edge-fleet sample list`")
    written: dict[str, Path] = {}
    for device, parts in chunks.items():
        written[device] = output / f"{device}.npz"
        _save(written[device], parts)
    return written


def _save(path: Path, parts: list[Chunk]) -> None:
    arrays = {
        "x": np.concatenate([part.x for part in parts]),
        "recording": np.array([name for part in parts for name in part.recording]),
        "names": np.array(parts[0].names, dtype=str),
    }
    labels = [part.y for part in parts if part.y is not None]
    if len(labels) == len(parts):
        arrays["y"] = np.concatenate(labels)
    with path.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
