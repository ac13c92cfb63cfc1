# SPDX-License-Identifier: Apache-2.0
"""The model and the data of a build, loaded and found good.

Owns the first gates: the model's form, float parity, the data's form and amount, and
which metric and names apply. Nothing is quantized yet; see ``assess``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from converter import lint, outputs
from converter.data.dataset import Dataset, FrameRule, frame_rule, load_dataset
from converter.errors import ConvertDataError
from converter.litert.normalise import normalise
from converter.loaders import open_source
from converter.model import FloatModel
from converter.parity import Parity, check_parity
from converter.request import BuildRequest, Metric

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a build works on.

    Attributes:
        model: The normalised float model.
        rule: How data is cut and observed.
        calibration: Ranges and the reference profile come from it.
        validation: Accuracy comes from it; the calibration data itself where no other
            was given.
        metric: What accuracy means.
        features: Names of the observed features.
        labels: Names of the classes.
        parity: How closely the float model follows its source.
        framework: What the source model was made with.
        toolchain: Package to version of what read it.
    """

    model: FloatModel
    rule: FrameRule
    calibration: Dataset
    validation: Dataset
    metric: Metric
    features: tuple[str, ...]
    labels: tuple[str, ...]
    parity: Parity
    framework: str
    toolchain: dict[str, str]


def load_inputs(request: BuildRequest, progress: Progress) -> Inputs:
    """Load model and data.

    Raises:
        ConvertError: What does not fit, and what to do about it.
    """
    progress(f"loading {request.model.name}")
    with open_source(request.model) as source:
        model = normalise(source.export(), source=source.name)
        rule = frame_rule(model.input, request.observe, request.hop)
        classes = outputs.class_count(model.output)
        progress("reading data")
        calibration = _load_data(request.calibration, rule, "calibration")
        validation = calibration
        if request.validation is not None:
            validation = _load_data(request.validation, rule, "validation")
        lint.check_labels(calibration, classes)
        lint.check_labels(validation, classes)
        progress("checking float parity")
        parity = check_parity(source, model, calibration.frames)
        return Inputs(
            model=model,
            rule=rule,
            calibration=calibration,
            validation=validation,
            metric=_metric(request, validation),
            features=outputs.feature_names(request.features, calibration, rule),
            labels=outputs.label_names(request.labels, calibration, classes),
            parity=parity,
            framework=source.framework,
            toolchain=dict(source.toolchain),
        )


def _load_data(path: Path, rule: FrameRule, use: str) -> Dataset:
    data = load_dataset(path, rule)
    lint.check_count(data, use)
    return data


def _metric(request: BuildRequest, validation: Dataset) -> Metric:
    if request.metric == "top1" and validation.labels is None:
        msg = f"{validation.source}: --metric top1 needs labels 'y', found none"
        raise ConvertDataError(msg, next_step="add them, or use --metric agreement")
    return request.metric or ("agreement" if validation.labels is None else "top1")
