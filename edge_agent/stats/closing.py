# SPDX-License-Identifier: Apache-2.0
"""A closed window on its way to the ledger: what is told of it, decided once.

Owns the report of a window, and that the noise of a private one is drawn once however
often the ledger refuses. It stores nothing; see ``keeper``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_agent.clock import Clock
from edge_agent.stats.accumulator import Window
from edge_agent.stats.noise import LEAST_INFERENCES, Noise
from edge_contract.evidence import Shadow, encode_feedback
from edge_contract.messages import UpMessage
from edge_contract.operations import Operations, encode_operations
from edge_contract.window import WindowStatistics
from edge_contract.window_report import WindowReport, encode_blocks


@dataclass(slots=True, eq=False)
class ClosedWindow:
    """A window that the ledger has not taken yet.

    Attributes:
        window: As it was counted.
        closed_total: Inferences of all closed windows up to this one.
        noise: What is added to its counts; None: nothing.
        shadow: What a second release made of its inputs.
    """

    window: Window
    closed_total: int
    noise: Noise | None = None
    shadow: Shadow | None = None
    _told: WindowStatistics | None = None

    def report_builder(self, clock: Clock) -> Callable[[bytes, int], UpMessage]:
        """Return what makes the report, given its identity."""
        window, operations = self.window, self.window.operations
        feedback_block, shadow = encode_feedback(window.feedback), self.shadow
        if self.noise is not None:
            operations = replace(operations, latency=Operations().latency)
            feedback_block, shadow = b"", None
        sums = self._tell()
        counts, moments = encode_blocks(sums)
        operation_block = encode_operations(operations)
        monotonic_us, clock_synced = clock.monotonic_us(), clock.is_synced()

        def build(boot_id: bytes, seq: int) -> UpMessage:
            return WindowReport(
                boot_id=boot_id,
                seq=seq,
                ref_id=sums.ref_id,
                release=window.release,
                start_us=window.start_us,
                duration_us=window.duration_us,
                monotonic_us=monotonic_us,
                clock_synced=clock_synced,
                rows=sums.rows,
                inferences=sums.inferences,
                failed=sums.failed,
                lost=window.lost,
                covers=(),
                count_block=counts,
                moment_block=moments,
                operation_block=operation_block,
                epsilon_millionths=sums.epsilon_millionths,
                feedback_block=feedback_block,
                shadow=shadow,
            )

        return build

    def _tell(self) -> WindowStatistics:
        if self._told is None:
            exact = self.window.statistics
            self._told = exact if self.noise is None else self.noise.add(exact)
        return self._told


def is_tellable(window: Window, noise: Noise | None) -> bool:
    """Return whether a window that must be private may leave the device.

    Not one that holds too little, nor one whose release is not known any more: nobody
    knows how much noise would hide its inferences.
    """
    return noise is not None and window.held >= LEAST_INFERENCES
