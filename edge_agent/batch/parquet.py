# SPDX-License-Identifier: Apache-2.0
"""A finished store as a Parquet file (extra ``parquet``).

Owns the columns. The file appears whole or not at all.
"""

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.batch.store import BatchStore
from edge_agent.errors import BatchError
from edge_agent.store import sync_folder

GROUP: Final = 8192


def check_installed() -> None:
    """Refuse before hours of work rather than after.

    Raises:
        BatchError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        msg = "a Parquet file needs pyarrow, which is not installed"
        raise BatchError(
            msg,
            next_step="pip install 'edgeloop[parquet]' (it has no wheel for armv7l), "
            "or write .sqlite",
        ) from error


def write_parquet(store: BatchStore, path: Path) -> None:
    """Write all rows of a store, in the order of its input.

    Raises:
        BatchError: The disk refused.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        _write(store, partial)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        msg = f"{path}: cannot be written: {error}"
        raise BatchError(msg, next_step="check the folder and the disk") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _write(store: BatchStore, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema(
        [
            ("key", pa.string()),
            ("output", pa.list_(pa.float32())),
            ("label", pa.string()),
            ("score", pa.float32()),
            ("error", pa.string()),
        ],
        metadata=dict(store.meta),
    )
    with (
        parquet.ParquetWriter(path, schema) as writer,
        contextlib.closing(store.read()) as cursor,
    ):
        while rows := cursor.fetchmany(GROUP):
            writer.write_table(pa.table(_columns(rows), schema=schema))


def _columns(rows: Sequence[tuple[Any, ...]]) -> Mapping[str, Sequence[Any]]:
    keys, outputs, labels, scores, errors = zip(*rows, strict=True)
    return {
        "key": keys,
        "output": [
            None if one is None else np.frombuffer(one, "<f4") for one in outputs
        ],
        "label": labels,
        "score": scores,
        "error": errors,
    }
