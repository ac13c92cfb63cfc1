# SPDX-License-Identifier: Apache-2.0
"""Streams whose concept changes once, and the errors of a model that does not know.

Owns river's synthetic streams as the tornado framework uses them (Pesaranghader, Viktor
and Paquet 2018), the model that stays as it was trained, and what detectors are given.
The same seed gives the same errors.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from river.datasets import synth
from river.naive_bayes import GaussianNB
from river.tree import HoeffdingTreeClassifier

TRAINED, REFERENCE, BEFORE, AFTER = 1000, 1000, 5000, 5000
WIDTHS: Final = {"abrupt": 1, "gradual": 500}
_NOISE: Final = 0.1

Make = Callable[[int, int], Any]  # number of the concept, seed
STREAMS: Final[dict[str, Make]] = {
    "SINE1": synth.Sine,
    "MIXED": synth.Mixed,
    "SEA": lambda concept, seed: synth.SEA(3 * concept, seed=seed),
    "STAGGER": synth.STAGGER,
}


@dataclass(frozen=True, eq=False)
class Errors:
    """What a model did on a stream.

    Attributes:
        wrong: bool [BEFORE + AFTER], whether each label contradicts the model; the
            change begins after ``BEFORE`` of them.
        confidence: float64 of the same length.
        reference_wrong: bool [REFERENCE], of labels before them.
        reference_confidence: float64 [REFERENCE].
    """

    wrong: npt.NDArray[np.bool_]
    confidence: npt.NDArray[np.float64]
    reference_wrong: npt.NDArray[np.bool_]
    reference_confidence: npt.NDArray[np.float64]


def run_stream(name: str, width: int, seed: int) -> Errors:
    """Train a model, freeze it, and let it meet a change of concept.

    Args:
        name: Of ``STREAMS``.
        width: Labels over which the new concept takes the place of the old one.
        seed: Of all that is random.
    """
    random = np.random.default_rng([seed, width])
    rows = _mix(name, width, seed, random)
    model: Any = HoeffdingTreeClassifier() if name == "STAGGER" else GaussianNB()
    for x, y in islice(rows, TRAINED):
        model.learn_one(x, y)
    wrong, confidence = [], []
    for x, y in rows:
        shares = model.predict_proba_one(x)
        winner = max(shares, key=lambda one: float(shares[one]))
        wrong.append(winner != y)
        confidence.append(float(shares[winner]))
    return Errors(
        np.array(wrong[REFERENCE:]),
        np.array(confidence[REFERENCE:]),
        np.array(wrong[:REFERENCE]),
        np.array(confidence[:REFERENCE]),
    )


def _mix(
    name: str, width: int, seed: int, random: np.random.Generator
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield rows of the old concept, then more and more of the new one, with noise."""
    old, new = (iter(STREAMS[name](concept, seed)) for concept in (0, 1))
    begin = TRAINED + REFERENCE + BEFORE
    for number in range(begin + AFTER):
        share = min(max((number - begin + 1) / width, 0.0), 1.0)
        x, y = next(new) if random.random() < share else next(old)
        yield x, bool(y) != (random.random() < _NOISE)
