# SPDX-License-Identifier: Apache-2.0
"""Any bytes in the place of a model give a model or an error of ours."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from converter.litert.normalise import normalise
from edge_contract.errors import EdgeError
from tests.support.convert_inputs import model_bytes

MODEL = model_bytes()
CHANGES = st.lists(
    st.tuples(st.integers(0, len(MODEL) - 1), st.integers(0, 255)), max_size=6
)


@settings(max_examples=600, deadline=None)
@given(CHANGES, st.integers(8, len(MODEL)))
def test_an_altered_model_is_read_or_refused(
    changes: list[tuple[int, int]], length: int
) -> None:
    content = bytearray(MODEL)
    for position, value in changes:
        content[position] = value
    with contextlib.suppress(EdgeError):
        normalise(bytes(content[:length]), source="altered")
    with contextlib.suppress(EdgeError):
        normalise(bytes(content), source="altered")
