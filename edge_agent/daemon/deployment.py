# SPDX-License-Identifier: Apache-2.0
"""Which release serves: at the start, at an update, and after a trial.

Owns the order of things around a swap: load, run in the shadow where that is asked for,
swap between two inferences, watch the trial, then commit or go back. The model before
stays loaded until the trial is over, so that going back loads nothing, and needs no
network. How a release came to the store is ``ota``'s matter, how it becomes a model
``loading``'s, and what is measured of it ``proving``'s.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from edge_agent.clock import Clock
from edge_agent.daemon.proving import (
    Baseline,
    Instruments,
    ShadowWatch,
    TrialWatch,
    are_comparable,
)
from edge_agent.errors import ModelError
from edge_agent.ota.trial import (
    Evidence,
    Invariant,
    TrialLimits,
    TrialVerdict,
    find_breach,
    judge,
    recall,
)
from edge_agent.runtime.model import Model
from edge_agent.runtime.session import Session
from edge_agent.runtime.shadow import ShadowTally
from edge_contract.errors import EdgeError
from edge_contract.update_policy import ShadowPolicy, UpdatePolicy
from edge_contract.wire import Scalar

SWAP_SECONDS: Final = 30.0
QUIET_SECONDS: Final = 30.0
SETTLED_US: Final = 10_000_000
NOTE_US: Final = 10_000_000
SHADOW_SECONDS: Final = 7 * 86_400
REASON_TRIAL: Final = "agent.update.trial"
REASON_SHADOW: Final = "agent.update.shadow"
REASON_SWAP: Final = "agent.update.swap"
_LOG = logging.getLogger(__name__)


class Staged(Protocol):
    """A release that is verified, in the store, and waits to be tried."""

    @property
    def digest(self) -> str:
        """The release digest."""

    @property
    def path(self) -> Path:
        """Its bundle."""

    @property
    def policy(self) -> UpdatePolicy:
        """What the fleet says of how it is tried out."""

    @property
    def is_on_trial(self) -> bool:
        """Whether its trial had begun before the agent was started anew."""

    @property
    def figures(self) -> Mapping[str, Scalar]:
        """What was seen of it before the agent was started anew."""


class Updates(Protocol):
    """The update machine as the daemon sees it."""

    def poll(self) -> Staged | None:
        """Return a release to try, once; else None. Called twice a second."""

    def is_wanted(self, digest: str) -> bool:
        """Return whether a release in the shadow is still what the fleet wants."""

    def begin_shadow(self) -> None:
        """Hear that the release is about to run in the shadow."""

    def note_shadow(self, figures: Mapping[str, Scalar]) -> None:
        """Hear what was seen of it so far."""

    def begin_trial(self) -> None:
        """Hear that the release is about to serve."""

    def committed(self, figures: Mapping[str, Scalar]) -> None:
        """Hear that the release in trial serves for good."""

    def rolled_back(
        self,
        reason: str,
        detail: str = "",
        figures: Mapping[str, Scalar] | None = None,
    ) -> None:
        """Hear that the release does not serve, with an error code."""


class Releases(Protocol):
    """Who makes models of releases; ``loading.Loader``."""

    def load(self, path: Path, digest: str, *, is_last_hope: bool = False) -> Model:
        """Load, prove and warm a release.

        Raises:
            EdgeError: It cannot be served.
            OSError: The bundle cannot be read.
        """

    def settled(self) -> None:
        """Hear that the release has served."""


class Deployment:
    """Brings releases into the session and takes bad ones out again.

    Args:
        session: Where models serve.
        updates: Tells what to try, and hears how it went.
        releases: Makes models of releases.
        clock: The time.
        on_change: Called after another release serves.

    Attributes:
        limits: What a trial asks where the fleet's policy is silent.
        instruments: Measure a release beside the one before it.
        features: Tells how many values a row of the source has; None: not known yet.
        is_asked_only: Whether no source drives the model. A trial then ends after half
            a minute, unless the policy says otherwise.
    """

    def __init__(
        self,
        session: Session,
        updates: Updates,
        releases: Releases,
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        self._session = session
        self._updates = updates
        self._releases = releases
        self._clock = clock
        self._on_change = on_change
        self._before: Model | None = None
        self._policy = UpdatePolicy()
        self._trial: TrialWatch | None = None
        self._shadow: ShadowWatch | None = None
        self._noted_us = 0
        self._baseline = Baseline(Instruments().latency(), None)
        self._loaded_us = 0
        self._is_settled = True
        self._is_resting = False
        self.limits = TrialLimits()
        self.instruments = Instruments()
        self.features: Callable[[], int | None] = lambda: None
        self.is_asked_only = False

    @property
    def trial(self) -> str | None:
        """The digest of the release in trial."""
        return None if self._trial is None else self._trial.digest

    @property
    def shadow(self) -> str | None:
        """The digest of the release in the shadow of the one that serves."""
        return None if self._shadow is None else self._shadow.model.digest

    @property
    def shadow_tally(self) -> ShadowTally | None:
        """What a release in the shadow made of frames since this start."""
        shadow = self._shadow
        return None if shadow is None else shadow.comparison.tally

    def start(self, path: Path, digest: str, *, is_last_hope: bool = False) -> None:
        """Serve a committed release.

        Raises:
            EdgeError: It cannot be served.
            OSError: The bundle cannot be read.
        """
        model = self._releases.load(path, digest, is_last_hope=is_last_hope)
        self._is_settled, self._loaded_us = False, self._clock.monotonic_us()
        self._serve(model, SWAP_SECONDS)
        _LOG.info("serving %s", digest[:12])
        self._on_change()

    def stop(self) -> None:
        """Serve nothing; a trial ends without a verdict, and begins anew at a start."""
        self.close()
        self._session.offer(None, SWAP_SECONDS)
        self._before = None
        self._on_change()

    def close(self) -> None:
        """Compare no more; what a shadow has seen is noted."""
        shadow, trial = self._shadow, self._trial
        self._shadow = self._trial = None
        if trial is not None:
            trial.close()
        if shadow is not None:
            shadow.close()
            if self._updates.is_wanted(shadow.model.digest):
                self._updates.note_shadow(shadow.look().figures())

    def rest(self, *, is_resting: bool) -> None:
        """Have a comparison rest, or work again."""
        self._is_resting = is_resting
        for watch in (self._trial, self._shadow):
            if watch is not None and watch.comparison is not None:
                watch.comparison.rest(is_resting=is_resting)

    def settle(self) -> None:
        """Note that the agent has not died of what serves; also at a clean stop."""
        self._is_settled = True
        self._releases.settled()

    def tick(self) -> None:
        """Take the next step; called a few times a second."""
        is_old = self._clock.monotonic_us() - self._loaded_us > SETTLED_US
        if not self._is_settled and (is_old or self._session.tally.finite):
            self.settle()
        if self._trial is not None:
            self._watch_trial(self._trial)
            return
        if self._shadow is not None:
            self._watch_shadow(self._shadow)
        staged = self._updates.poll()
        if staged is not None:
            self._try(staged)

    def _try(self, staged: Staged) -> None:
        self._policy = staged.policy
        # Of the model that serves, before another one is loaded beside it.
        rss_bytes = self.instruments.rss_bytes()
        try:
            model = self._releases.load(staged.path, staged.digest)
            self._check_input(model)
        except EdgeError as error:
            _LOG.warning("release %s cannot serve: %s", staged.digest[:12], error)
            self._updates.rolled_back(error.code, str(error))
            return
        except OSError as error:
            _LOG.warning("release %s: %s", staged.digest[:12], error)
            self._updates.rolled_back(ModelError.code, str(error))
            return
        self._baseline = replace(self._baseline, rss_bytes=rss_bytes)
        asked = self._policy.shadow
        is_asked = asked is not None and not staged.is_on_trial
        if is_asked and are_comparable(self._session.model, model):
            self._begin_shadow(staged, model)
        else:
            self._begin_trial(model)

    def _begin_shadow(self, staged: Staged, model: Model) -> None:
        self._updates.begin_shadow()
        self._releases.settled()  # it is loaded, and the agent lives
        self._noted_us = self._clock.monotonic_us()
        self._shadow = ShadowWatch(
            self._session,
            model,
            self.instruments,
            self._clock,
            recall(staged.figures),
        )
        self._shadow.comparison.rest(is_resting=self._is_resting)
        _LOG.info("%s runs in the shadow", staged.digest[:12])

    def _watch_shadow(self, shadow: ShadowWatch) -> None:
        if not self._updates.is_wanted(shadow.model.digest):
            _LOG.info("%s is wanted no more", shadow.model.digest[:12])
            self._shadow = None
            shadow.close()
            return
        seen, asked = shadow.look(), self._policy.shadow or ShadowPolicy(0)
        breach = find_breach(self._asked(), seen)
        is_over = seen.seconds >= (asked.seconds or SHADOW_SECONDS)
        if breach is not None:
            self._shadow = None
            shadow.close()
            self._refuse(shadow.model.digest, REASON_SHADOW, seen, breach)
        elif is_over or seen.compared >= asked.inferences:
            self._shadow = None
            shadow.close()
            self._updates.note_shadow(seen.figures())
            self._begin_trial(shadow.model)
        elif self._clock.monotonic_us() - self._noted_us >= NOTE_US:
            self._noted_us = self._clock.monotonic_us()
            self._updates.note_shadow(seen.figures())

    def _begin_trial(self, model: Model) -> None:
        try:
            self._updates.begin_trial()
        except EdgeError as error:
            _LOG.info("no trial of %s: %s", model.digest[:12], error)
            self._releases.settled()
            return
        self._before = self._session.model
        latency = self.instruments.latency() - self._baseline.latency
        before = Baseline(latency, self._baseline.rss_bytes)
        if not self._serve(model, SWAP_SECONDS):
            _LOG.warning("release %s: inference stands still", model.digest[:12])
            self._session.offer(self._before, 0.0)
            self._updates.rolled_back(REASON_SWAP)
            return
        self._is_settled, self._loaded_us = False, self._clock.monotonic_us()
        self._trial = TrialWatch(
            *(self._session, self._before, model),
            *(before, self.instruments, self._clock),
        )
        self.rest(is_resting=self._is_resting)
        _LOG.info("trial of %s", model.digest[:12])
        self._on_change()

    def _watch_trial(self, trial: TrialWatch) -> None:
        if self._session.tally.digest != trial.digest:
            return
        seen = trial.look()
        verdict, breach = judge(self._asked(), seen)
        if verdict is TrialVerdict.GO_ON:
            return
        self._trial = None
        trial.close()
        if breach is not None:
            self._serve(self._before, SWAP_SECONDS)
            self._before = None
            self._refuse(trial.digest, REASON_TRIAL, seen, breach)
        else:
            _LOG.info("committed %s", trial.digest[:12])
            self._before = None
            self._updates.committed(seen.figures())
        self._on_change()

    def _refuse(
        self, digest: str, reason: str, seen: Evidence, breach: Invariant
    ) -> None:
        _LOG.warning("release %s is refused: %s", digest[:12], breach)
        detail = f"{breach}: {seen.describe(breach)}"
        self._updates.rolled_back(reason, detail, seen.figures(breach))

    def _serve(self, model: Model | None, timeout_seconds: float) -> bool:
        is_taken = self._session.offer(model, timeout_seconds)
        self._baseline = Baseline(self.instruments.latency(), None)
        return is_taken

    def _asked(self) -> TrialLimits:
        limits = self.limits
        if self.is_asked_only:
            limits = replace(limits, seconds=min(limits.seconds, QUIET_SECONDS))
        return limits.under(self._policy.trial)

    def _check_input(self, model: Model) -> None:
        features = self.features()
        if features is not None and features != model.grid.features:
            msg = (
                f"model {model.manifest.name}: expected rows of {model.grid.features} "
                f"values, the source gives {features}"
            )
            raise ModelError(msg, next_step="roll out a model for this device")
