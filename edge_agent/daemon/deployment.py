# SPDX-License-Identifier: Apache-2.0
"""Which release serves: at the start, at an update, and after a trial.

Owns the order of things around a swap: load, swap between two inferences, watch the
trial, then commit or go back. The model before stays loaded until the trial is over, so
that going back loads nothing. How a release came to the store is ``ota``'s matter, and
how it becomes a model ``loading``'s.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from edge_agent.clock import Clock
from edge_agent.errors import ModelError
from edge_agent.ota.trial import Trial, TrialVerdict
from edge_agent.runtime.model import Model
from edge_agent.runtime.session import Session
from edge_contract.errors import EdgeError

SWAP_SECONDS: Final = 30.0
TRIAL_INFERENCES: Final = 50
QUIET_US: Final = 30_000_000
SETTLED_US: Final = 10_000_000
REASON_TRIAL: Final = "agent.update.trial"
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


class Updates(Protocol):
    """The update machine as the daemon sees it."""

    def poll(self) -> Staged | None:
        """Return a release to try, once; else None. Called twice a second."""

    def begin_trial(self) -> None:
        """Hear that the release is about to serve."""

    def committed(self) -> None:
        """Hear that the release in trial serves for good."""

    def rolled_back(self, reason: str, detail: str = "") -> None:
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
        trial_inferences: Finite outputs before a release is committed.
        features: Tells how many values a row of the source has; None: not known yet.
        is_asked_only: Whether no source drives the model. A release is then committed
            after half a minute without a fault, too.
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
        self._trial: str | None = None
        self._trial_us = 0
        self._loaded_us = 0
        self._is_settled = True
        self.trial_inferences = TRIAL_INFERENCES
        self.features: Callable[[], int | None] = lambda: None
        self.is_asked_only = False

    @property
    def trial(self) -> str | None:
        """The digest of the release in trial."""
        return self._trial

    def start(self, path: Path, digest: str, *, is_last_hope: bool = False) -> None:
        """Serve a committed release.

        Raises:
            EdgeError: It cannot be served.
            OSError: The bundle cannot be read.
        """
        model = self._releases.load(path, digest, is_last_hope=is_last_hope)
        self._is_settled, self._loaded_us = False, self._clock.monotonic_us()
        self._session.offer(model, SWAP_SECONDS)
        _LOG.info("serving %s", digest[:12])
        self._on_change()

    def stop(self) -> None:
        """Serve nothing; a trial ends without a verdict, and begins anew at a start."""
        self._session.offer(None, SWAP_SECONDS)
        self._trial, self._before = None, None
        self._on_change()

    def settle(self) -> None:
        """Note that the agent has not died of what serves; also at a clean stop."""
        self._is_settled = True
        self._releases.settled()

    def tick(self) -> None:
        """Take the next step; called twice a second."""
        is_old = self._clock.monotonic_us() - self._loaded_us > SETTLED_US
        if not self._is_settled and (is_old or self._session.tally.finite):
            self.settle()
        if self._trial is not None:
            self._watch_trial()
            return
        staged = self._updates.poll()
        if staged is not None:
            self._try(staged)

    def _try(self, staged: Staged) -> None:
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
        self._updates.begin_trial()
        self._before = self._session.model
        if not self._session.offer(model, SWAP_SECONDS):
            _LOG.warning("release %s: inference stands still", staged.digest[:12])
            self._session.offer(self._before, 0.0)
            self._updates.rolled_back(REASON_SWAP)
            return
        self._trial, self._is_settled = staged.digest, False
        self._trial_us = self._loaded_us = self._clock.monotonic_us()
        _LOG.info("trial of %s", staged.digest[:12])
        self._on_change()

    def _watch_trial(self) -> None:
        tally = self._session.tally
        if tally.digest != self._trial:
            return
        reason = REASON_TRIAL if tally.faulty else ""
        trial = Trial(self._needed(), tally.finite, reason)
        if trial.verdict is TrialVerdict.ROLL_BACK:
            self._go_back(reason)
        elif trial.verdict is TrialVerdict.COMMIT:
            _LOG.info("committed %s", tally.digest[:12])
            self._trial, self._before = None, None
            self._updates.committed()
            self._on_change()

    def _needed(self) -> int:
        age_us = self._clock.monotonic_us() - self._trial_us
        return 0 if self.is_asked_only and age_us > QUIET_US else self.trial_inferences

    def _go_back(self, reason: str) -> None:
        _LOG.warning("release %s is rolled back: %s", (self._trial or "")[:12], reason)
        self._session.offer(self._before, SWAP_SECONDS)
        self._trial, self._before = None, None
        self._updates.rolled_back(reason)
        self._on_change()

    def _check_input(self, model: Model) -> None:
        features = self.features()
        if features is not None and features != model.grid.features:
            msg = (
                f"model {model.manifest.name}: expected rows of {model.grid.features} "
                f"values, the source gives {features}"
            )
            raise ModelError(msg, next_step="roll out a model for this device")
