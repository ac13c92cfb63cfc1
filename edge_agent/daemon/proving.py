# SPDX-License-Identifier: Apache-2.0
"""A release beside the one before it: what live traffic says of both.

Owns the measurements of a shadow run and of a trial. In a shadow the new release is
asked about a sample of the frames that the old one answers; in a trial the old one is,
which stays loaded all the while. What follows from it is ``ota.trial``'s matter.
"""

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.clock import Clock
from edge_agent.flow import Int64
from edge_agent.ota.trial import Evidence
from edge_agent.runtime.model import Model
from edge_agent.runtime.session import Session
from edge_agent.runtime.shadow import Shadow, ShadowTally
from edge_contract.operations import Operations, latency_quantile_us

_P95 = 0.95
_SECOND_US = 1e6


@dataclass(frozen=True)
class Instruments:
    """What measures.

    Attributes:
        latency: Returns the latencies of all inferences so far, by bucket.
        rss_bytes: Returns the resident memory of this process; None: nobody can tell.
        share: Of one processor, which comparing may take.
    """

    latency: Callable[[], Int64] = lambda: Operations().latency
    rss_bytes: Callable[[], int | None] = lambda: None
    share: float = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """How things stood before a release was loaded.

    Attributes:
        latency: Of the release that served, by bucket.
        rss_bytes: Of the process.
    """

    latency: Int64
    rss_bytes: int | None


def are_comparable(first: Model | None, second: Model) -> bool:
    """Return whether two releases take the same frames and give the same classes."""
    return (
        first is not None
        and (first.grid, first.input_shape) == (second.grid, second.input_shape)
        and first.labels == second.labels
    )


class Comparison:
    """A second model beside the one that serves, on a sample of live frames.

    Args:
        session: Where the first one serves.
        beside: The second one; nobody else may run it meanwhile.
        share: Of one processor.
    """

    def __init__(self, session: Session, beside: Model, share: float) -> None:
        self._session = session
        self._shadow = Shadow(lambda: beside, share)
        session.watch(self._shadow)
        self._shadow.start()

    @property
    def tally(self) -> ShadowTally:
        """What came of it so far."""
        return self._shadow.tally

    def rest(self, *, is_resting: bool) -> None:
        """Have it rest, or work again."""
        self._shadow.is_resting = is_resting

    def close(self) -> None:
        """End it after the inference in hand."""
        self._session.unwatch(self._shadow)
        self._shadow.stop()


class TrialWatch:
    """What is seen of a release on trial.

    Args:
        session: Where it serves.
        before: The release that served before it; None: there was none.
        model: The release.
        baseline: How things stood before.
        instruments: Measure.
        clock: The time.
    """

    def __init__(
        self,
        session: Session,
        before: Model | None,
        model: Model,
        baseline: Baseline,
        instruments: Instruments,
        clock: Clock,
    ) -> None:
        self._session = session
        self._baseline = baseline
        self._instruments = instruments
        self._clock = clock
        self._began_us = clock.monotonic_us()
        self._latency = instruments.latency()
        self.digest = model.digest
        self.comparison: Comparison | None = None
        if before is not None and are_comparable(before, model):
            self.comparison = Comparison(session, before, instruments.share)

    def look(self) -> Evidence:
        """Return what was seen so far."""
        done = self._session.tally
        latency = self._instruments.latency() - self._latency
        before = self._baseline.latency
        rss = self._instruments.rss_bytes()
        was = self._baseline.rss_bytes
        compared = ShadowTally() if self.comparison is None else self.comparison.tally
        # A machine that has become busy slows both: what the other takes now counts.
        known = [one for one in (_p95_us(before), compared.p95_us) if one is not None]
        return Evidence(
            seconds=(self._clock.monotonic_us() - self._began_us) / _SECOND_US,
            finite=done.finite,
            not_finite=done.not_finite,
            failed=done.faulty - done.not_finite,
            latencies=int(latency.sum()),
            latencies_before=int(before.sum()) + compared.inferences,
            p95_us=_p95_us(latency),
            p95_before_us=max(known, default=None),
            grown_bytes=None if rss is None or was is None else rss - was,
            rss_bytes=rss,
            is_comparable=self.comparison is not None and not compared.failed,
            compared=compared.inferences,
            disagreed=compared.disagreements,
            confidence=compared.live_confidence,
            confidence_before=compared.confidence,
        )

    def close(self) -> None:
        """Ask the release before it no more."""
        if self.comparison is not None:
            self.comparison.close()


class ShadowWatch:
    """What is seen of a release in the shadow of the one that serves.

    Args:
        session: Where the other one serves.
        model: The release.
        instruments: Measure.
        clock: The time.
        earlier: What was seen before the agent was started anew.
    """

    def __init__(
        self,
        session: Session,
        model: Model,
        instruments: Instruments,
        clock: Clock,
        earlier: Evidence,
    ) -> None:
        self._clock = clock
        self._earlier = earlier
        self._began_us = clock.monotonic_us()
        self._instruments = instruments
        self.model = model
        self.comparison = Comparison(session, model, instruments.share)

    def look(self) -> Evidence:
        """Return what was seen so far; counts of earlier starts are in it."""
        now, then = self.comparison.tally, self._earlier
        seconds = (self._clock.monotonic_us() - self._began_us) / _SECOND_US
        compared = then.compared + now.inferences
        return Evidence(
            seconds=then.seconds + seconds,
            finite=compared,
            not_finite=now.not_finite,
            failed=now.failed,
            rss_bytes=self._instruments.rss_bytes(),
            is_comparable=True,
            compared=compared,
            disagreed=then.disagreed + now.disagreements,
            confidence=_mean(then, then.confidence, now, now.confidence),
            confidence_before=_mean(
                then, then.confidence_before, now, now.live_confidence
            ),
        )

    def close(self) -> None:
        """Ask the release no more."""
        self.comparison.close()


def _mean(
    then: Evidence, first: float | None, now: ShadowTally, second: float | None
) -> float | None:
    if first is None or second is None:
        return second if first is None else first
    total = then.compared + now.inferences
    return (first * then.compared + second * now.inferences) / max(total, 1)


def _p95_us(latency: Int64) -> float | None:
    return latency_quantile_us(latency, _P95) if latency.any() else None
