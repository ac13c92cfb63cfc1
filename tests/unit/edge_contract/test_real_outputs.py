# SPDX-License-Identifier: Apache-2.0
"""Statistics of models whose outputs are values, not classes."""

from dataclasses import replace

import numpy as np
import pytest

from edge_contract.errors import ProfileError, WindowError
from edge_contract.profile import ReferenceProfile, ValueReference
from edge_contract.window import StatisticsBuilder, check_statistics, merge
from tests.support.contract_samples import make_profile

RANDOM = np.random.default_rng(4)


def real_profile(width: int) -> ReferenceProfile:
    counted = width if width <= 16 else 9
    values = make_profile(counted, 3).features
    return replace(make_profile(4, 3), outputs=ValueReference(values, width))


@pytest.mark.parametrize("width", [1, 16, 640])
def test_outputs_are_counted_once_a_value(width: int) -> None:
    profile = real_profile(width)
    builder = StatisticsBuilder(profile)
    builder.add_rows(RANDOM.normal(size=(50, 4)).astype(np.float32))
    outputs = RANDOM.normal(size=(50, width)).astype(np.float32)
    outputs[7] = np.nan
    builder.add_outputs(outputs)
    found = builder.statistics
    assert (found.inferences, found.failed) == (49, 1)
    check_statistics(found, profile)
    layout = profile.layout
    assert [int(found.counts[one].sum()) for one in layout.outputs] == [49] * min(
        width, 9 if width > 16 else 16
    )
    assert layout.outputs[-1].stop == layout.size
    check_statistics(merge(found, found, layout), profile)


def test_a_window_with_a_lost_value_is_refused() -> None:
    profile = real_profile(2)
    builder = StatisticsBuilder(profile)
    builder.add_outputs(np.zeros((5, 2), dtype=np.float32))
    counts = builder.statistics.counts.copy()
    counts[counts.argmax()] -= 1
    with pytest.raises(WindowError, match="output counts must sum to 5"):
        check_statistics(replace(builder.statistics, counts=counts), profile)
    with pytest.raises(WindowError, match=r"expected shape \[n, 2\]"):
        builder.add_outputs(np.zeros((5, 3), dtype=np.float32))


def test_the_profile_survives_its_encoding() -> None:
    profile = real_profile(640)
    again = ReferenceProfile.decode(profile.encoded)
    assert again.encoded == profile.encoded
    assert again.layout == profile.layout
    assert isinstance(again.outputs, ValueReference)
    assert again.output_width == 640


def test_a_profile_with_too_few_values_is_refused() -> None:
    profile = real_profile(3)
    short = replace(profile, outputs=ValueReference(make_profile(2, 3).features, 3))
    with pytest.raises(ProfileError, match="counted output values"):
        ReferenceProfile.decode(short.encoded)


def test_classes_and_values_together_are_refused() -> None:
    from edge_contract.canonical import decode_cbor, encode_cbor

    wire = decode_cbor(real_profile(2).encoded, max_bytes=100_000)
    both = wire | {4: decode_cbor(make_profile(4, 3).encoded, max_bytes=100_000)[4]}
    with pytest.raises(ProfileError, match="found both"):
        ReferenceProfile.decode(encode_cbor(both))
