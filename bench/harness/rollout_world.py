# SPDX-License-Identifier: Apache-2.0
"""A million devices that never were, and how they take an update.

Owns the truth of the rollout simulator, deterministic by its seed: who is online, how
long an update takes, what fails and how it shows, what each device measures, and the
requests that all of it makes. It knows nothing of gates.

A device hears of a wish within the announced spread, or when it is back online: nine
in ten are, the others return exponentially, half a day on the average. An update takes
a lognormal time around four minutes, then ten minutes of trial. Half of what a bad
release breaks shows in the self-test, half on live traffic; one device in two thousand
goes silent midway; one in five hundred fails at anything, for reasons of its own.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from fleet.rollout.gate import Tally
from fleet.rollout.planner import find_place

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

HOUR: Final = 3600.0
NEVER: Final = np.float32(np.inf)
_ONLINE = 0.9
_RETURN_SECONDS = 12 * HOUR
_MEDIAN_SECONDS, _SIGMA = 240.0, 0.5
_TRIAL_SECONDS = 600.0
_OWN_FAILURES, _SILENT = 0.002, 0.0005
_POLL_SECONDS = 6 * HOUR
_GETS_TO_LOOK, _GETS_TO_POLL, _GETS_TO_FETCH = 4, 2, 3
_BIN_SECONDS = 10
_CONFIDENCE_SD, _LATENCY_SD = 3.0, 0.15
_DRIFT_A_DAY = 0.005
_DRIFT_SECONDS = 6 * HOUR
_EVENTS = ("start", "success", "failure", "breach", "late")


@dataclass(frozen=True, slots=True)
class Release:
    """What a release does to devices.

    Attributes:
        bad: The share of devices on which it fails.
        confidence: By how many points it changes mean confidence.
        drift: The share of devices that drift on it within six hours.
    """

    name: str
    bad: float = 0.0
    confidence: float = 0.0
    drift: float = 0.0


class World:
    """The devices; see the module.

    Args:
        devices: How many.
        seed: Makes it another world.
    """

    def __init__(self, devices: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.size = devices
        self.salt = f"world-{seed}"
        self.names = [f"d{number}" for number in range(devices)]
        places = [find_place(self.salt, name) for name in self.names]
        self.place = np.array(places, dtype=np.uint64)
        self.order = np.argsort(self.place)
        self.is_online = rng.random(devices) < _ONLINE
        self.returns = rng.exponential(_RETURN_SECONDS, devices).astype(np.float32)
        self.luck = rng.random(devices).astype(np.float32)
        self.within = rng.random(devices).astype(np.float32)
        self.duration = rng.lognormal(np.log(_MEDIAN_SECONDS), _SIGMA, devices).astype(
            np.float32
        )
        self.confidence = rng.normal(0, _CONFIDENCE_SD, devices).astype(np.float32)
        self.latency = rng.normal(0, _LATENCY_SD, devices).astype(np.float32)
        self.drift_luck = rng.random(devices).astype(np.float32)


@dataclass
class Update:
    """One release on its way through a world; times in seconds, infinite for never.

    Attributes:
        told: Whom the wish concerns so far.
        start: When a device begins.
        success: When it has committed.
        failure: When it reports a failure.
        breach: When an invariant breaks, which is a failure too.
        requests: In each stretch of ten seconds.
        deadline: After which a device that began is late, seconds.
    """

    world: World
    release: Release
    told: Bools = field(init=False)
    start: Floats = field(init=False)
    success: Floats = field(init=False)
    failure: Floats = field(init=False)
    breach: Floats = field(init=False)
    requests: npt.NDArray[np.int64] = field(init=False)
    deadline: float = 8 * HOUR
    _concerned: int = field(default=0, init=False)
    _events: dict[str, list[Floats]] = field(
        default_factory=lambda: {name: [] for name in _EVENTS}, init=False
    )

    def __post_init__(self) -> None:
        size = self.world.size
        self.told = np.zeros(size, dtype=np.bool_)
        self.requests = np.zeros(1, dtype=np.int64)
        for name in ("start", "success", "failure", "breach"):
            setattr(self, name, np.full(size, NEVER, dtype=np.float32))

    def tell(self, chosen: Bools, now: float, spread: float, *, named: bool) -> None:
        """Let the wish reach more devices; all of the fleet look for it.

        Args:
            chosen: Whom it concerns from now on.
            now: The time.
            spread: Within which devices look.
            named: The new ones were told at once.
        """
        world = self.world
        hears = now + world.within * np.float32(max(spread, 1.0))
        self._count(hears[world.is_online], _GETS_TO_LOOK)
        new = chosen & ~self.told
        self.told |= new
        begins = hears[new] if not named else now + 5 * world.within[new]
        returned = now + world.returns[new] + 600 * world.within[new]
        start = np.where(world.is_online[new], begins, returned).astype(np.float32)
        self.start[new] = start
        self._count(start, _GETS_TO_FETCH)
        done = start + world.duration[new] + np.float32(_TRIAL_SECONDS)
        tested = start + world.duration[new]
        luck, bad = world.luck[new], self.release.bad
        own = luck < _OWN_FAILURES
        in_test = (luck >= 0.1) & (luck < 0.1 + bad / 2)
        on_live = (luck >= 0.5) & (luck < 0.5 + bad / 2)
        silent = luck >= 1 - _SILENT
        never = np.full(start.shape, NEVER, dtype=np.float32)
        self.failure[new] = np.select([own | in_test, on_live], [tested, done], never)
        self.breach[new] = np.where(on_live, done, never)
        good = ~(own | in_test | on_live | silent)
        self.success[new] = np.where(good, done, never)
        # An update takes minutes: only who goes silent is ever late.
        late = np.where(silent & ~own, start + np.float32(self.deadline), never)
        for name, times in (
            ("start", start),
            ("success", self.success[new]),
            ("failure", self.failure[new]),
            ("breach", self.breach[new]),
            ("late", late),
        ):
            self._events[name].append(np.sort(times[np.isfinite(times)]))
        self._concerned += int(new.sum())

    def tally(self, now: float) -> Tally:
        """Count what became of the devices that the wish concerns."""
        counts = {
            name: sum(int(times.searchsorted(now, "right")) for times in batches)
            for name, batches in self._events.items()
        }
        good, failed, late = (counts[name] for name in ("success", "failure", "late"))
        last = max(
            (
                float(times[times.searchsorted(now, "right") - 1])
                for times in self._events["success"]
                if len(times) and times[0] <= now
            ),
            default=0.0,
        )
        return Tally(
            succeeded=good,
            failed=failed,
            late=late,
            in_progress=counts["start"] - good - failed - late,
            unknown=int(self._concerned) - counts["start"],
            last_success_us=int(last * 1e6),
            breach="one device: invariant" if counts["breach"] else "",
        )

    def count_exposed(self, now: float) -> int:
        """Return how many devices have begun with the release."""
        return int((self.start <= now).sum())

    def pick(self, chosen: Bools, most: int) -> npt.NDArray[np.int64]:
        """Return devices in salted order."""
        found: npt.NDArray[np.int64] = self.world.order[chosen[self.world.order]][:most]
        return found

    def drifts_at(self, devices: npt.NDArray[np.int64], now: float) -> int:
        """Return how many of ``devices`` have a drift verdict by now."""
        world, release = self.world, self.release
        luck = world.drift_luck[devices]
        by_chance = luck < _DRIFT_A_DAY * now / (24 * HOUR)
        since = np.maximum(now - self.success[devices], 0.0)  # inf - now: not yet
        reached = np.minimum(np.where(np.isfinite(since), since, 0) / _DRIFT_SECONDS, 1)
        return int((by_chance | (1 - luck < release.drift * reached)).sum())

    def peak_a_second(self) -> float:
        """Return the most requests a second, polls included."""
        poll = self.world.size * _GETS_TO_POLL / _POLL_SECONDS
        return float(self.requests.max()) / _BIN_SECONDS + poll

    def _count(self, times: Floats, gets: int) -> None:
        bins = (times / _BIN_SECONDS).astype(np.int64)
        found = np.bincount(bins, minlength=len(self.requests)) * gets
        found[: len(self.requests)] += self.requests
        self.requests = found
