# SPDX-License-Identifier: Apache-2.0
"""Logging: plain lines on a terminal, JSON lines elsewhere, always on stderr.

Owns the format. A record's ``extra={"fields": {...}}`` becomes keys of the JSON line.
What is worth a line is each module's matter; payloads and keys never are.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, fields, error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of ``record``."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if fields:
            line.update(fields)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging(level: str) -> None:
    """Send all records of ``level`` and above to stderr.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        pattern = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
        handler.setFormatter(logging.Formatter(pattern, "%H:%M:%S"))
    else:
        handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def set_level(level: str) -> None:
    """Log of this package what is of ``level`` and above; others' records as before.

    Args:
        level: As in ``set_up_logging``.
    """
    logging.getLogger("edge_agent").setLevel(level.upper())
