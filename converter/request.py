# SPDX-License-Identifier: Apache-2.0
"""What a build is asked to do, as values; the command line parses into this."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from converter.choose import Objective

Task = Literal["classification", "regression"]
Observe = Literal["series", "vector", "image", "audio", "embedding"]


@dataclass(frozen=True)
class BuildRequest:
    """The arguments of ``edge-convert build``.

    Attributes:
        model: A model of any kind that ``loaders`` reads.
        calibration: A data file or ``module:function``; ranges and the reference
            profile come from it.
        output: Where the bundle goes.
        validation: As ``calibration``, for accuracy; the same data when None.
        profiles: Device profiles to choose a variant for, besides ``default``.
        max_drop: The largest drop of the metric, as a share.
        metric: Its name; None takes what task and labels allow.
        objective: What the choice makes small.
        budget_seconds: How long the search may take.
        require_quantized: Fail where only float is within ``max_drop``.
        device_check: Run variants on tflite-runtime 2.14 where a profile needs it.
        observe: None infers it from the input's shape.
        task: None infers it from the output and the labels.
        hop: New rows between two frames of a series.
        group: The field that says what one device sees.
        pre: Steps before the model.
        post: Steps after what is observed of its outputs.
        input_range: What the data must lie in after these steps; None for no rule.
        value_range: Black and white of an image as a source delivers it, or the full
            scale of audio; None infers it from the steps.
        labels: Names of the classes.
        features: Names of the observed features.
        categorical: Those of them whose values are names, not quantities.
        name: The model's name; the file's stem when None.
        sign_key: An Ed25519 private key in PEM.
        like: An earlier bundle whose recipes, scales and zero points to keep.
        trust_pickle: Read a model file that can run any code.
    """

    model: Path
    calibration: str
    output: Path
    validation: str | None = None
    profiles: tuple[str, ...] = ()
    max_drop: float = 0.01
    metric: str | None = None
    objective: Objective = "latency"
    budget_seconds: float = 60.0
    require_quantized: bool = False
    device_check: bool = True
    observe: Observe | None = None
    task: Task | None = None
    hop: int | None = None
    group: str | None = None
    pre: tuple[dict[str, str], ...] = ()
    post: tuple[dict[str, str], ...] = ()
    input_range: tuple[float, float] | None = None
    value_range: tuple[float, float] | None = None
    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    name: str | None = None
    sign_key: Path | None = None
    like: Path | None = None
    trust_pickle: bool = False

    @property
    def model_name(self) -> str:
        """The model's name in the bundle."""
        return self.name or self.model.stem.lower()
