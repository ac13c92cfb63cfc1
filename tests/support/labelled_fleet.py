# SPDX-License-Identifier: Apache-2.0
"""A fleet whose reference knows accuracy and confusions, and that gets labels."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sqlalchemy import insert, select

from edge_contract.binning import Int64
from edge_contract.evidence import Feedback, encode_feedback
from edge_contract.manifest import Variant
from edge_contract.profile import OutputReference, ReferenceProfile
from edge_contract.window import StatisticsBuilder
from edge_contract.window_report import WindowReport, encode_blocks
from fleet.devices.enrol import insert_devices
from fleet.drift.losses import LossWatch
from fleet.store.engine import reading, writing
from fleet.store.profiles import insert_profile
from fleet.store.tables import models, verdicts
from tests.support.contract_samples import make_profile, make_release, make_statistics
from tests.support.fleet_device import FakeDevice
from tests.support.fleet_world import FleetWorld

SECOND = 1_000_000
RIGHT = np.linspace(60, 98, 16).astype(np.int64)  # of a hundred, by confidence
CONFUSION = np.array([[90, 10, 0, 0], [10, 90, 0, 0], [0, 0, 80, 20], [0, 0, 5, 95]])


def labelled_profile() -> ReferenceProfile:
    """Return a profile that knows its accuracy and its confusions."""
    profile = make_profile()
    outputs = profile.outputs
    assert isinstance(outputs, OutputReference)
    # As confident as the windows of a ``FakeDevice`` are.
    usual = make_statistics(profile, 20_000).counts[profile.layout.confidence]
    known = replace(
        outputs,
        class_counts=CONFUSION.sum(axis=0),
        confidence_counts=usual,
        confidence_correct=usual * RIGHT // 100,
        confusion=CONFUSION,
    )
    return replace(profile, outputs=known)


@dataclass
class LabelledFleet:
    """Twelve devices under such a profile in a world, and who watches it."""

    world: FleetWorld
    profile: ReferenceProfile = field(default_factory=labelled_profile)
    seq: dict[str, int] = field(default_factory=dict)
    random: np.random.Generator = field(
        default_factory=lambda: np.random.default_rng(7)
    )

    def __post_init__(self) -> None:
        names = [f"d{number}" for number in range(12)]
        now_us = self.world.clock.now_us
        with writing(self.world.engine) as connection:
            insert_devices(connection, names, fleet="default", tags={}, now_us=now_us)
            insert_profile(connection, self.profile, digest="00" * 32, now_us=now_us)
        self.restart()

    def restart(self) -> None:
        """Watch with nothing in memory."""
        self.watch = LossWatch(self.world.engine, self.world.clock)

    def device(self, name: str = "d0") -> FakeDevice:
        """Return a device under the profile."""
        return replace(self.world.device(name), profile=self.profile)

    def send(self, name: str = "d0", classes: Int64 | None = None, **more: Any) -> None:
        """Ingest one more window of a device, a minute later."""
        device = self.device(name)
        self.world.clock.now_us += 60 * SECOND
        seq = self.seq[name] = self.seq.get(name, 0) + 1
        report: WindowReport = device.report(
            seq, start_us=self.world.clock.now_us - 60 * SECOND, **more
        )
        if classes is not None:
            report = replace(report, **self.count(classes))
        self.world.ingest(device.seal(report))

    def count(self, classes: Int64) -> dict[str, Any]:
        """Return the blocks of a window with so many predictions a class."""
        builder = StatisticsBuilder(self.profile)
        rows = int(classes.sum())
        builder.add_rows(self.random.normal(size=(rows, 3)).astype(np.float32))
        winners = np.repeat(np.arange(4), classes)
        builder.add_outputs(np.eye(4, dtype=np.float32)[winners] * 0.9 + 0.025)
        counts, moments = encode_blocks(builder.statistics)
        blocks = {"count_block": counts, "moment_block": moments}
        return {**blocks, "rows": rows, "inferences": rows}

    def labels(self, labels: int, lost: float = 0.0) -> bytes:
        """Return labels at the promised error rate of the bins, plus ``lost``."""
        bins = self.random.multinomial(labels, np.full(16, 1 / 16))
        rates = np.clip(1 - RIGHT / 100 + lost, 0, 1)
        return encode_feedback(Feedback(bins, self.random.binomial(bins, rates)))

    def open(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Watch once; return the open verdicts by kind and subject."""
        self.watch.tick()
        with reading(self.world.engine) as connection:
            query = select(verdicts).where(verdicts.c.closed_us.is_(None))
            rows = connection.execute(query).mappings().all()
        return {(one["kind"], one["subject"]): dict(one) for one in rows}

    def publish(self, name: str, dtype: str, model: bytes) -> bytes:
        """Publish a release whose variant has an arithmetic; return its digest."""
        manifest, _ = make_release(model, name)
        one = manifest.variants[0]
        variant = Variant(
            dtype, one.runtime, one.min_runtime, dtype, one.file, one.bytes
        )
        made = replace(manifest, variants=(variant,), selected={"default": dtype})
        document = {
            "name": made.name,
            "selected": dict(made.selected),
            "variants": [{"id": dtype, "dtype": dtype}],
        }
        with writing(self.world.engine) as connection:
            connection.execute(
                insert(models).values(
                    name=name,
                    release_counter=len(model),
                    digest=made.digest,
                    target_path=made.digest,
                    bytes=1,
                    ref_id=self.profile.ref_id,
                    manifest=document,
                    published_us=1,
                )
            )
        return bytes.fromhex(made.digest)
