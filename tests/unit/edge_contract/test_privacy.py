# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest

from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.envelope import seal
from edge_contract.errors import WindowError
from edge_contract.evidence import Shadow
from edge_contract.privacy import derive_moments, sensitivity
from edge_contract.window import WindowStatistics
from edge_contract.window_report import WindowReport, encode_blocks
from tests.conformance.samples import window_report
from tests.support.contract_samples import make_profile, make_statistics

PROFILE = make_profile()
LAYOUT = PROFILE.layout
EPSILON = 1_000_000


def noised(statistics: WindowStatistics, spread: int = 30) -> WindowStatistics:
    """Noise of any kind: how it is drawn is the device's matter."""
    random = np.random.default_rng(4)
    counts = statistics.counts + random.integers(-spread, spread, LAYOUT.size)
    counts[LAYOUT.below.start : LAYOUT.repeat.stop] = 0
    return replace(statistics, counts=counts, epsilon_millionths=EPSILON)


def report_of(statistics: WindowStatistics) -> WindowReport:
    count_block, moment_block = encode_blocks(statistics)
    return replace(
        window_report(),
        ref_id=statistics.ref_id,
        rows=statistics.rows,
        inferences=statistics.inferences,
        count_block=count_block,
        moment_block=moment_block,
        epsilon_millionths=statistics.epsilon_millionths,
    )


def test_one_row_touches_each_feature_rows_outputs_and_the_inferences() -> None:
    # three features, rows, three parts of a classifier's outputs, inferences
    assert sensitivity(LAYOUT, 1) == 3 + 1 + 3 + 1
    assert sensitivity(LAYOUT, 100) == 100 * (3 + 1) + 3 + 1


def test_negative_counts_pass_in_a_private_window_only() -> None:
    statistics = noised(make_statistics(PROFILE))
    report = report_of(statistics)

    found = WindowReport.decode(report.encode()).statistics(PROFILE)

    assert int(found.counts.min()) < 0
    assert found.counts.tolist() == statistics.counts.tolist()
    assert found.epsilon_millionths == EPSILON
    open_body = decode_cbor(report.encode(), max_bytes=4096)
    del open_body[24]
    with pytest.raises(WindowError):
        WindowReport.decode(encode_cbor(open_body)).statistics(PROFILE)


def test_moments_come_from_the_bins() -> None:
    exact = make_statistics(PROFILE, 20_000)
    private = report_of(noised(exact)).statistics(PROFILE)

    np.testing.assert_allclose(private.mean, exact.mean, atol=0.1)
    np.testing.assert_allclose(
        private.variance(LAYOUT), exact.variance(LAYOUT), rtol=0.2
    )


def test_the_reference_itself_has_the_references_moments() -> None:
    counts = np.zeros(LAYOUT.size, dtype=np.int64)
    for index, one in enumerate(PROFILE.features):
        counts[LAYOUT.bins(index)] = one.counts

    mean, m2 = derive_moments(800, counts, PROFILE)

    np.testing.assert_allclose(mean, [one.mean for one in PROFILE.features])
    np.testing.assert_allclose(m2 / 800, [one.sd**2 for one in PROFILE.features])


def test_counts_of_noise_alone_give_finite_moments() -> None:
    counts = np.full(LAYOUT.size, -7, dtype=np.int64)

    mean, m2 = derive_moments(0, counts, PROFILE)

    assert np.isfinite(mean).all()
    assert (m2 == 0).all()


@pytest.mark.parametrize("part", ["below", "above", "repeat"])
def test_counters_that_noise_does_not_cover_are_refused(part: str) -> None:
    statistics = noised(make_statistics(PROFILE))
    statistics.counts[getattr(LAYOUT, part)] = 1

    with pytest.raises(WindowError, match="range"):
        report_of(statistics).statistics(PROFILE)


def test_moments_labels_and_shadows_are_refused() -> None:
    report = report_of(noised(make_statistics(PROFILE)))

    for change in (
        {"moment_block": bytes(24)},
        {"feedback_block": bytes(32)},
        {"shadow": Shadow(bytes(8), 1, 1)},
    ):
        with pytest.raises(WindowError):
            replace(report, **change).statistics(PROFILE)


@pytest.mark.parametrize("rows", [300, 60_000])
def test_a_private_window_keeps_the_bounds(rows: int) -> None:
    profile = make_profile(10, 7)
    random = np.random.default_rng(1)
    exact = make_statistics(profile, rows)
    counts = exact.counts + random.laplace(0, 15, profile.layout.size).astype(np.int64)
    counts[profile.layout.below.start : profile.layout.repeat.stop] = 0
    report = report_of(replace(exact, counts=counts, epsilon_millionths=EPSILON))

    data = seal(report.encode(), key=bytes(32), epoch=1, aad="t")

    assert len(data) <= {300: 512, 60_000: 760}[rows]
