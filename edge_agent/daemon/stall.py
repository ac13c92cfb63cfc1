# SPDX-License-Identifier: Apache-2.0
"""Whether inference makes progress: rules for the watchdog and for stalls.

Pure: fed with pulses and the time. A loop must come round even where nothing is to be
done (a source is asked and says so within a moment), and an inference that has begun
must end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Pulse:
    """What one slot did so far.

    Attributes:
        turns: Times that its loop came round.
        is_looping: Whether its loop runs at all.
        done: Inferences that ended.
        is_busy: Whether an inference is under way.
    """

    turns: int
    is_looping: bool
    done: int
    is_busy: bool

    def has_moved(self, before: "Pulse") -> bool:
        """Return whether nothing hangs, as far as can be seen since ``before``."""
        loop_moved = not self.is_looping or self.turns != before.turns
        model_moved = not self.is_busy or self.done != before.done
        return loop_moved and model_moved


@dataclass
class StallWatch:
    """Tells when a slot stands still, and when the watchdog may be fed.

    Args:
        stall_us: How long a slot may stand still.
    """

    stall_us: int
    stalled: set[str] = field(default_factory=set)
    _moved: dict[str, tuple[Pulse, int]] = field(default_factory=dict)
    _fed: dict[str, Pulse] = field(default_factory=dict)

    def look(self, pulses: Mapping[str, Pulse], now_us: int) -> list[str]:
        """Take the pulses of all slots.

        Returns:
            The slots that have just been found to stand still.
        """
        found = []
        for name, pulse in pulses.items():
            before, since_us = self._moved.get(name, (pulse, now_us))
            if name not in self._moved or pulse.has_moved(before):
                self._moved[name] = (pulse, now_us)
                self.stalled.discard(name)
            elif now_us - since_us >= self.stall_us and name not in self.stalled:
                self.stalled.add(name)
                found.append(name)
        return found

    def may_feed(self, pulses: Mapping[str, Pulse]) -> bool:
        """Return whether every slot has moved since this last said yes.

        >>> watch, still = StallWatch(1), {"main": Pulse(5, True, 3, True)}
        >>> watch.may_feed(still), watch.may_feed(still)
        (True, False)
        """
        if self.stalled:
            return False
        for name, pulse in pulses.items():
            before = self._fed.get(name)
            if before is not None and not pulse.has_moved(before):
                return False
        self._fed = dict(pulses)
        return True
