# SPDX-License-Identifier: Apache-2.0
"""What a build is asked to do, as values; the command line parses into this."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from converter.choose import Objective
from converter.data.dataset import Observe

Metric = Literal["top1", "agreement"]


@dataclass(frozen=True)
class BuildRequest:
    """The arguments of ``edge-convert build``.

    Attributes:
        model: A Keras file, SavedModel folder or ``.tflite``.
        calibration: An ``.npz`` file; ranges and the reference profile come from it.
        validation: An ``.npz`` file for accuracy; the calibration file when None.
        output: Where the bundle goes.
        profiles: Device profiles to choose a variant for, besides ``default``.
        max_drop: The largest drop of the metric, as a share.
        metric: ``top1`` needs labels; None takes it where there are labels.
        objective: What the choice makes small.
        observe: None infers it from the input's shape.
        hop: New rows between two frames of a series.
        labels: Names of the classes.
        features: Names of the observed features.
        name: The model's name; the file's stem when None.
        sign_key: An Ed25519 private key in PEM.
    """

    model: Path
    calibration: Path
    output: Path
    validation: Path | None = None
    profiles: tuple[str, ...] = ()
    max_drop: float = 0.01
    metric: Metric | None = None
    objective: Objective = "latency"
    observe: Observe | None = None
    hop: int | None = None
    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    name: str | None = None
    sign_key: Path | None = None

    @property
    def model_name(self) -> str:
        """The model's name in the bundle."""
        return self.name or self.model.stem.lower()
