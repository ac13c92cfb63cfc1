# SPDX-License-Identifier: Apache-2.0
"""A fleet of devices in a database, whose windows are stored as ingest stores them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, insert

from edge_contract.binning import BinTable, equal_mass_edges
from edge_contract.profile import FeatureReference, OutputReference, ReferenceProfile
from edge_contract.window import StatisticsBuilder, WindowStatistics
from fleet.devices.enrol import insert_devices
from fleet.drift.engine import DriftEngine
from fleet.drift.fleetwide.feed import SLOT_US
from fleet.store.engine import database_url, open_engine, writing
from fleet.store.migrate import migrate
from fleet.store.profiles import insert_profile
from fleet.store.statistics import statistics_to_columns
from fleet.store.tables import rollups, windows
from tests.support.fleet_world import HeldClock

FIRST_SLOT = 288 * 20_000
BOOT = bytes(8)


def normal_profile(
    features: int = 2, level: tuple[float, ...] = (), sd: float = 1.0
) -> ReferenceProfile:
    """Return the profile of standard normal rows, or of others around ``level``."""
    rows = np.random.default_rng(0).normal(size=(6000, features)).astype(np.float32)
    rows = rows * np.float32(sd) + np.array(level or [0.0] * features, np.float32)
    references = []
    for index in range(features):
        column = rows[:, [index]]
        edges = equal_mass_edges(column[:, 0])
        references.append(
            FeatureReference(
                f"f{index}",
                edges,
                BinTable([edges]).count(column),
                0,
                float(column.mean()),
                float(column.std()),
                -4.5,
                4.5,
                0.01,
                0.01,
                0.01,
                0.01,
            )
        )
    outputs = OutputReference(
        ("a",),
        np.zeros(1, np.int64),
        np.zeros(15, np.float32),
        np.zeros(16, np.int64),
        np.zeros(16, np.int64),
        np.zeros(7, np.float32),
        np.zeros(8, np.int64),
    )
    return ReferenceProfile("vector", tuple(references), outputs, 100, 0, ())


@dataclass
class DriftFleet:
    """A database in ``folder`` with a fleet of ``devices``."""

    folder: Path
    devices: int = 10
    clock: HeldClock = field(default_factory=HeldClock)
    profile: ReferenceProfile = field(default_factory=normal_profile)
    engine: Engine = field(init=False)
    slot: int = FIRST_SLOT

    def __post_init__(self) -> None:
        """Make the database."""
        self.engine = open_engine(database_url(self.folder / "fleet.sqlite"))
        migrate(self.engine)
        self.names = [f"d{number}" for number in range(self.devices)]
        now_us = self.clock.wall_us()
        with writing(self.engine) as connection:
            for number, name in enumerate(self.names):
                tags = {"hw": "a" if number % 2 else "b"}
                insert_devices(
                    connection, [name], fleet="default", tags=tags, now_us=now_us
                )
            insert_profile(connection, self.profile, digest="00" * 32, now_us=now_us)
        self._random = np.random.default_rng(7)
        self._seq = 0

    def swap_profile(self, profile: ReferenceProfile) -> None:
        """Let all devices serve another model from now on."""
        self.profile = profile
        with writing(self.engine) as connection:
            insert_profile(
                connection, profile, digest="11" * 32, now_us=self.clock.wall_us()
            )

    def drift(self) -> DriftEngine:
        """Return an engine that remembers nothing but what is stored."""
        return DriftEngine(self.engine, self.clock)

    def statistics(self, shift: float = 0.0, rows: int = 40) -> WindowStatistics:
        """Count a window of random rows; the first feature is shifted."""
        features = len(self.profile.features)
        values = self._random.normal(size=(rows, features)).astype(np.float32)
        values[:, 0] += shift
        builder = StatisticsBuilder(self.profile)
        builder.add_rows(values)
        return builder.statistics

    def store(self, slots: int, shifts: dict[str, float] | None = None) -> None:
        """Store windows of all devices for some slots, five minutes each."""
        rows = []
        for _ in range(slots):
            for name in self.names:
                shift = (shifts or {}).get(name, 0.0)
                rows.append(self.row(name, self.slot, self.statistics(shift)))
            self.slot += 1
        self.insert(rows)

    def row(
        self, device: str, slot: int, statistics: WindowStatistics, **changes: object
    ) -> dict[str, object]:
        """Return the columns of one window."""
        self._seq += 1
        start_us = slot * SLOT_US
        return {
            "device": device,
            "boot_id": BOOT,
            "seq": self._seq,
            "fleet": "default",
            "digest8": bytes(8),
            "start_us": start_us,
            "duration_us": SLOT_US,
            "monotonic_us": start_us,
            "clock_synced": True,
            "retimed": False,
            "lost": 0,
            "covers": [],
            "received_us": start_us,
            **statistics_to_columns(statistics),
            **changes,
        }

    def insert(self, rows: list[dict[str, object]]) -> None:
        """Store windows, and the roll-up that says which devices have sent any."""
        with writing(self.engine) as connection:
            connection.execute(insert(windows), rows)
            known = {
                row.device
                for row in connection.execute(rollups.select()).all()
                if row.ref_id == self.profile.ref_id
            }
            for name in sorted({str(one["device"]) for one in rows} - known):
                connection.execute(
                    insert(rollups).values(
                        device=name,
                        level="all",
                        bucket_us=0,
                        windows=1,
                        lost=0,
                        **statistics_to_columns(self.statistics()),
                    )
                )
