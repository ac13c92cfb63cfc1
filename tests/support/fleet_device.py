# SPDX-License-Identifier: Apache-2.0
"""A device as the server sees it: it makes sealed messages with the real codec."""

from dataclasses import dataclass, field, replace
from typing import Any

from edge_contract.envelope import seal
from edge_contract.keys import DeviceKeys
from edge_contract.messages import (
    Birth,
    Event,
    Reply,
    State,
    UpMessage,
    encode_message,
    kind_of,
)
from edge_contract.profile import ReferenceProfile
from edge_contract.topics import state_topic, up_topic
from edge_contract.window_report import WindowReport, encode_blocks
from tests.support.contract_samples import BOOT_ID, make_profile, make_statistics

Sealed = tuple[str, bytes]  # topic, envelope


@dataclass
class FakeDevice:
    """Seals messages as ``device`` of ``fleet`` would."""

    device: str
    keys: DeviceKeys
    fleet: str = "default"
    boot_id: bytes = BOOT_ID
    profile: ReferenceProfile = field(default_factory=make_profile)

    def seal(self, message: UpMessage) -> Sealed:
        """Seal an up message for its topic."""
        topic = up_topic(self.fleet, self.device, kind_of(message))
        return topic, self.seal_for(topic, encode_message(message))

    def seal_for(self, path: str, payload: bytes) -> bytes:
        """Seal any payload for a topic or path."""
        return seal(payload, key=self.keys.up, epoch=self.keys.epoch, aad=path)

    def state(self, *, online: bool, time_us: int) -> Sealed:
        """Make a heartbeat or a will."""
        topic = state_topic(self.fleet, self.device)
        body = State(self.boot_id, online, time_us, {"main": bytes(32)})
        return topic, self.seal_for(topic, encode_message(body))

    def birth(self, seq: int, lowest_seq: int, down_floor: int = 0) -> Sealed:
        """Make a birth."""
        body = Birth(
            boot_id=self.boot_id,
            seq=seq,
            agent_version="1",
            hardware={"machine": "x86_64"},
            runtimes={"litert": "2.3.0"},
            serving={"main": bytes(32)},
            ref_ids={"main": self.profile.ref_id},
            generation=0,
            refused=(),
            lowest_seq=lowest_seq,
            down_floor=down_floor,
            time_us=1,
            clock_synced=True,
        )
        return self.seal(body)

    def report(self, seq: int, rows: int = 64, **changes: Any) -> WindowReport:
        """Make a window of random rows."""
        statistics = make_statistics(self.profile, rows, seed=seq)
        counts, moments = encode_blocks(statistics)
        report = WindowReport(
            boot_id=self.boot_id,
            seq=seq,
            ref_id=self.profile.ref_id,
            release=bytes(8),
            start_us=1_700_000_000_000_000 + seq * 1_280_000,
            duration_us=1_280_000,
            monotonic_us=seq,
            clock_synced=True,
            rows=rows,
            inferences=rows,
            failed=0,
            lost=0,
            covers=(),
            count_block=counts,
            moment_block=moments,
        )
        return replace(report, **changes)

    def window(self, seq: int, rows: int = 64, **changes: Any) -> Sealed:
        """Make and seal a window."""
        return self.seal(self.report(seq, rows, **changes))

    def event(self, seq: int) -> Sealed:
        """Make an event."""
        return self.seal(Event(self.boot_id, seq, "sensor.stuck", "warning", 5))

    def reply(self, seq: int, command: str) -> Sealed:
        """Accept a command."""
        return self.seal(Reply(self.boot_id, seq, command, accepted=True))
