# SPDX-License-Identifier: Apache-2.0
"""The tree of the configuration: every key, its default and its bounds.

Owns what the agent can be told, except for what sources, sinks and the service are
told, which is beside it. configs/agent.yaml is the commented sample. Addresses and keys
of a fleet are not here: they come with the enrolment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_agent.config.feedback import FeedbackConfig
from edge_agent.config.service import ServiceConfig
from edge_agent.config.sinks import SinkConfig
from edge_agent.config.sources import SourceConfig
from edge_agent.config.units import Duration, Percent, Size, WeekTimes, bounded
from edge_contract.errors import ConfigError

_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class ShadowConfig:
    """A second model that sees what the first sees, and answers nobody.

    Attributes:
        bundle: Its bundle.
        cpu: The share of one processor that it may use.
    """

    bundle: Path
    cpu: Percent = bounded(Percent(10), 0.1, 100)


@dataclass(frozen=True, slots=True)
class SlotConfig:
    """One model: where it comes from, what it sees, what it may use.

    Attributes:
        bundle: Serve this file alone; None: what the fleet rolls out to the slot.
        trust: Public key files, one of which signed ``bundle``; none: the builder's
            keys of the enrolment.
        threads: Threads that one inference may use.
        device_profile: Which variant of a bundle to take; ``auto`` looks at the CPU.
        memory: What a model may take when it is probed before it serves.
        latency: What the p95 of its inferences may be then; None: anything.
        source: Where rows come from; None: only the local service asks.
        rows_per_second: What the source should bring; None: nobody promises.
        sinks: Where results go.
        shadow: A model beside it.
        feedback: Labels for its answers; None: none are taken.
    """

    bundle: Path | None = None
    trust: tuple[Path, ...] = ()
    threads: int = bounded(1, 1, 64)
    device_profile: str = "auto"
    memory: Size = bounded(Size(512 * _MIB), 64 * _MIB, 2**40)
    latency: Duration | None = None
    source: SourceConfig | None = None
    rows_per_second: float | None = bounded(None, 0.0001, 10_000_000)
    sinks: tuple[SinkConfig, ...] = ()
    shadow: ShadowConfig | None = None
    feedback: FeedbackConfig | None = None


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What the agent may use; see docs/reference/agent.md for what it does at each.

    Attributes:
        memory: Resident memory.
        cpu: Processor time; 100% is one processor.
        temperature: Of the hottest sensor, degrees Celsius.
        disk: All files in the state folder.
    """

    memory: Size = bounded(Size(256 * _MIB), 32 * _MIB, 2**40)
    cpu: Percent = bounded(Percent(150), 1, 6400)
    temperature: float = bounded(85.0, 30, 125)
    disk: Size = bounded(Size(512 * _MIB), 16 * _MIB, 2**50)


@dataclass(frozen=True, slots=True)
class WatchdogConfig:
    """How long no inference may end while work waits."""

    stall: Duration = bounded(Duration(30_000_000), 0.1, 3600)


@dataclass(frozen=True, slots=True)
class StatisticsConfig:
    """Length of a window in event time, and how often the open one is made durable."""

    window: Duration = Duration(300_000_000)
    checkpoint: Duration = Duration(10_000_000)


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """What one inference may give away: noise is added to what a window tells.

    Attributes:
        epsilon: Its privacy loss; None: windows tell exact counts.
    """

    epsilon: float | None = bounded(None, 0.001, 1000)

    @property
    def epsilon_millionths(self) -> int:
        """The same in millionths; 0 for None."""
        return 0 if self.epsilon is None else round(self.epsilon * 1_000_000)


@dataclass(frozen=True, slots=True)
class OutboxConfig:
    """How many bytes wait for the server before windows are merged."""

    max: Size = bounded(Size(8 * _MIB), 64 * 1024, 2**40)


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    """When and how updates run, where the fleet's policy leaves it open.

    Attributes:
        poll: How often to look for updates unasked.
        trial_inferences: Finite outputs before a new model is committed.
        trial: After which a trial ends, whatever came.
        max_p95_percent: A release's p95 in its trial, of the one's before it.
        min_confidence_percent: Its mean confidence, of the one's before it.
        max_disagreement_percent: Frames that it answers otherwise; 100: any.
        compare: The share of one processor for asking both releases.
        windows: When updates may run; none: at any time.
        time_zone: In which windows are meant; empty: that of the system.
        metered: Whether the link costs money; ``auto``: where it is a modem.
        on_metered: What such a link allows: all, nothing, or deltas.
        budget: Bytes that updates may fetch a day; None: no limit.
        bandwidth: Bytes a second that a download may take; None: no limit.
    """

    poll: Duration = Duration(21_600_000_000)
    trial_inferences: int = bounded(50, 1, 1_000_000)
    trial: Duration = bounded(Duration(3_600_000_000), 1, 7 * 86_400)
    max_p95_percent: int = bounded(300, 100, 100_000)
    min_confidence_percent: int = bounded(50, 0, 100)
    max_disagreement_percent: int = bounded(100, 0, 100)
    compare: Percent = bounded(Percent(10), 0.1, 100)
    windows: tuple[WeekTimes, ...] = ()
    time_zone: str = ""
    metered: Literal["auto", "always", "never"] = "auto"
    on_metered: Literal["allow", "defer", "deltas"] = "allow"
    budget: Size | None = bounded(None, 1024, 2**50)
    bandwidth: Size | None = bounded(None, 1024, 2**40)


@dataclass(frozen=True, slots=True)
class SamplesConfig:
    """Whether samples may leave the device when asked, and how many bytes a day."""

    consent: bool = False
    budget: Size = Size(_MIB)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """How much is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """All that the agent can be told in its file; a key of ``models`` is a slot."""

    state_dir: Path
    models: Mapping[str, SlotConfig]
    service: ServiceConfig | None = None
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)
    statistics: StatisticsConfig = field(default_factory=StatisticsConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    outbox: OutboxConfig = field(default_factory=OutboxConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def pick(self, slot: str | None = None) -> tuple[str, SlotConfig]:
        """Return a slot's name and what it was told; None: the first slot.

        Raises:
            ConfigError: There is no such slot.
        """
        name = next(iter(self.models)) if slot is None else slot
        if name not in self.models:
            known = ", ".join(self.models)
            msg = f"models: expected one of {known}, found {name!r}"
            raise ConfigError(msg, next_step="name a slot of the configuration")
        return name, self.models[name]
