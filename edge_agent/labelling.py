# SPDX-License-Identifier: Apache-2.0
"""The form of labels from outside: a file, a broker, or a request.

Owns what a well-formed label is. Which answer it is for is ``stats.feedback``'s matter.
"""

import json
from typing import Any, Final

from edge_agent.errors import FeedbackError

MAX_ID: Final = 256
MAX_AT_ONCE: Final = 10_000
MALFORMED: Final = "malformed"
_MAX_LABEL: Final = 64
_MAX_NUMBER: Final = 1_000_000
_FORM: Final = 'expected {"id": "…", "label": "…"} or an array of such'
Label = tuple[str, str | int]


def parse_labels(data: bytes) -> list[Label]:
    """Parse a JSON message of labels: an object with ``id`` and ``label``, or several.

    >>> parse_labels(b'{"id": "a:1", "label": "walk"}')
    [('a:1', 'walk')]

    Raises:
        FeedbackError: It has another form.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FeedbackError(MALFORMED, f"{_FORM}, found no JSON") from error
    several = found if isinstance(found, list) else [found]
    if len(several) > MAX_AT_ONCE:
        raise FeedbackError(MALFORMED, f"expected at most {MAX_AT_ONCE} at once")
    return [_label(one) for one in several]


def _label(found: Any) -> Label:
    if isinstance(found, dict):
        name, label = found.get("id"), found.get("label")
        if type(name) is str and len(name) <= MAX_ID:
            if isinstance(label, str) and len(label) <= _MAX_LABEL:
                return name, label
            if type(label) is int and abs(label) < _MAX_NUMBER:
                return name, label
    raise FeedbackError(MALFORMED, f"{_FORM}, found {str(found)[:80]!r}")
