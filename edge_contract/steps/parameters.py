# SPDX-License-Identifier: Apache-2.0
"""The parameters of a step: decimal strings, read with suspicion.

Owns their forms: a decimal number, a whole number, and lists of these with commas
between. Which parameters a step has is the step's matter.
"""

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from edge_contract.errors import StepError

StepSpec = Mapping[str, str]
MAX_LENGTH = 2**24


class Parameters:
    """The parameters of one step.

    Args:
        step: The step, its name under ``step``.
        place: ``pre-processing`` or ``post-processing``, for messages.
        needed: Parameters that it must have.
        optional: Parameters that it may have.

    Raises:
        StepError: One is missing, or unknown.
    """

    def __init__(
        self,
        step: StepSpec,
        place: str,
        needed: AbstractSet[str],
        optional: AbstractSet[str] = frozenset(),
    ) -> None:
        self._step = dict(step)
        self._place = place
        found = set(step) - {"step"}
        if not needed <= found <= needed | optional:
            wanted = ", ".join(sorted(needed)) or "no parameter"
            also = f" and perhaps {', '.join(sorted(optional))}" if optional else ""
            raise self.refused(f"{wanted}{also}", "update this program")

    def refused(
        self, expected: str, next_step: str = "build the bundle again"
    ) -> StepError:
        """Return the error that says what was expected of the step."""
        msg = f"{self._place}: expected {self._step.get('step')!r} with {expected}"
        return StepError(f"{msg}, found {self._step!r}", next_step=next_step)

    def number(self, name: str, default: str | None = None) -> float:
        """Return a finite number.

        Raises:
            StepError: It is none.
        """
        return self.numbers(name, default, count=1)[0]

    def numbers(
        self, name: str, default: str | None = None, count: int | None = None
    ) -> tuple[float, ...]:
        """Return finite numbers, ``count`` of them if given.

        Raises:
            StepError: They are none, or another number of them.
        """
        text = self._step[name] if default is None else self._step.get(name, default)
        try:
            found = tuple(float(one) for one in text.split(","))
        except ValueError as error:
            raise self.refused(f"decimal numbers as {name}") from error
        if not all(math.isfinite(one) for one in found):
            raise self.refused(f"finite numbers as {name}")
        if count is not None and len(found) != count:
            raise self.refused(f"{count} numbers as {name}")
        return found

    def whole(self, name: str, default: str | None = None) -> int:
        """Return a whole number from 1 to 2**24.

        Raises:
            StepError: It is none.
        """
        return self.lengths(name, 1, default)[0]

    def lengths(
        self, name: str, count: int, default: str | None = None
    ) -> tuple[int, ...]:
        """Return whole numbers from 1 to 2**24.

        Raises:
            StepError: They are none, or another number of them.
        """
        found = self.numbers(name, default, count)
        if not all(one.is_integer() and 1 <= one <= MAX_LENGTH for one in found):
            raise self.refused(f"whole numbers from 1 to {MAX_LENGTH} as {name}")
        return tuple(int(one) for one in found)
