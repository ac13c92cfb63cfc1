# SPDX-License-Identifier: Apache-2.0
"""The model and the data of a build, loaded and found good.

Owns the first gates: the model's form, float parity, the data's form and amount, and
which task, metric and names apply. Nothing is quantized yet; see ``assess``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from converter import lint, outputs
from converter.data.dataset import Dataset, open_dataset
from converter.data.rule import FrameRule, frame_rule
from converter.errors import ConvertDataError
from converter.exports import export_models
from converter.loaders import open_source
from converter.metrics import Metric, Truth, open_metric
from converter.model import FloatModel
from converter.parity import Parity, check_parity
from converter.profiles import DEFAULT, DeviceProfile, load_profile
from converter.request import BuildRequest
from converter.runtimes import open_engine
from converter.tensors import Float32, Frames, Int64

Progress = Callable[[str], None]
_TASK_FRAMES = 256


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a build works on.

    Attributes:
        models: The normalised float models, one a runtime; the first is for any device.
        absent: Runtime to the reason why the source does not reach it.
        profiles: Device profiles to choose for; None is any device.
        rule: How data is cut and observed.
        calibration: Ranges and the reference profile come from it.
        validation: Accuracy comes from it; the calibration data itself where no other
            was given.
        meaning: What the outputs are.
        metric: What accuracy means.
        features: Names of the observed features.
        labels: Names of the classes; empty for regression.
        parity: How closely the float model follows its source.
        framework: What the source model was made with.
        toolchain: Package to version of what read it.
        warnings: What is odd but not wrong about the data.
    """

    models: tuple[FloatModel, ...]
    absent: Mapping[str, str]
    profiles: Mapping[str, DeviceProfile | None]
    rule: FrameRule
    calibration: Dataset
    validation: Dataset
    meaning: outputs.Meaning
    metric: Metric
    features: tuple[str, ...]
    labels: tuple[str, ...]
    parity: Parity
    framework: str
    toolchain: dict[str, str]
    warnings: tuple[str, ...]

    @property
    def model(self) -> FloatModel:
        """The first runtime's model."""
        return self.models[0]

    @property
    def truth(self) -> Truth:
        """Labels or targets of the validation frames, where the metric wants them."""
        if self.metric.name == "agreement":
            return None
        return self.validation.labels

    @property
    def clusters(self) -> Int64 | None:
        """Which validation frames are not independent of each other."""
        return self.validation.clusters


def load_inputs(request: BuildRequest, progress: Progress) -> Inputs:
    """Load model and data.

    Raises:
        ConvertError: What does not fit, and what to do about it.
    """
    progress(f"loading {request.model.name}")
    profiles = {DEFAULT: None, **{one: load_profile(one) for one in request.profiles}}
    with open_source(request.model, trust_pickle=request.trust_pickle) as source:
        models, absent = export_models(source, profiles.values())
        model = models[0]
        rule = _frame_rule(request, model)
        progress("reading data")
        calibration = open_dataset(request.calibration, rule, group=request.group or "")
        validation = calibration
        if request.validation is not None:
            validation = open_dataset(request.validation, rule)
        surveys = _checked(request, rule, calibration, validation)
        meaning = _meaning(request, model, validation)
        for data in (calibration, validation):
            lint.check_labels(data, meaning.classes)
        progress("checking float parity")
        parity = min(
            (check_parity(source, one, calibration.frames) for one in models),
            key=lambda one: one.sqnr_db,
        )
        asked = _asked(request.features, calibration.feature_names, source.features)
        features = outputs.feature_names(asked, calibration, rule)
        labels = _asked(request.labels, calibration.label_names, source.labels)
        return Inputs(
            models=models,
            absent=absent,
            profiles=profiles,
            rule=rule,
            calibration=calibration,
            validation=validation,
            meaning=meaning,
            metric=_metric(request, meaning, validation),
            features=features,
            labels=outputs.label_names(labels, calibration, meaning.classes),
            parity=parity,
            framework=source.framework,
            toolchain=dict(source.toolchain),
            warnings=_absences(absent)
            + _warnings(calibration, validation, surveys, rule, meaning)
            + tuple(
                lint.warn_constant(
                    calibration.source, features, calibration.rows().values
                )
            ),
        )


def _asked(
    asked: tuple[str, ...], by_data: tuple[str, ...], by_model: tuple[str, ...]
) -> tuple[str, ...]:
    """Return names that go before the data's: the user's, else the model's own."""
    return asked or (() if by_data else by_model)


def _frame_rule(request: BuildRequest, model: FloatModel) -> FrameRule:
    return frame_rule(
        model.input,
        request.observe,
        request.hop,
        pre=request.pre,
        input_range=request.input_range,
        value_range=request.value_range,
    )


def _checked(
    request: BuildRequest, rule: FrameRule, calibration: Dataset, validation: Dataset
) -> tuple[lint.Survey, lint.Survey]:
    lint.check_count(calibration, "calibration")
    lint.check_count(validation, "validation")
    first = lint.survey(calibration)
    second = first if validation is calibration else lint.survey(validation)
    for data, found in ((calibration, first), (validation, second)):
        lint.check_range(data, found, rule, request.input_range)
    return first, second


def _meaning(
    request: BuildRequest, model: FloatModel, data: Dataset
) -> outputs.Meaning:
    labels = data.labels
    has_classes = labels is not None and labels.dtype.kind == "i"
    has_classes = has_classes or bool(request.labels or data.label_names)
    engine = open_engine(model.runtime, model.content)
    found = outputs.find_meaning(
        model,
        engine.run(_head(data.frames)),
        asked=request.task,
        has_classes=has_classes,
    )
    return replace(found, post=found.post + request.post)


def _head(frames: Frames) -> Float32:
    count = min(len(frames), _TASK_FRAMES)
    return frames.take(np.linspace(0, len(frames) - 1, count).astype(np.int64))


def _metric(
    request: BuildRequest, meaning: outputs.Meaning, validation: Dataset
) -> Metric:
    name = request.metric
    if name is None:
        best = "top1" if meaning.task == "classification" else "rmse"
        name = "agreement" if validation.labels is None else best
    metric = open_metric(name, meaning.task)
    if metric.needs_truth and validation.labels is None:
        msg = f"{validation.source}: --metric {name} needs labels 'y', found none"
        raise ConvertDataError(msg, next_step="add them, or use --metric agreement")
    return metric


def _absences(absent: Mapping[str, str]) -> tuple[str, ...]:
    """Say which runtimes of the devices get nothing, and why.

    The reference runtime is for other models than networks: that it does not run one
    is no news.
    """
    return tuple(
        f"no variant for {name}: {why}"
        for name, why in absent.items()
        if name != "reference"
    )


def _warnings(
    calibration: Dataset,
    validation: Dataset,
    surveys: tuple[lint.Survey, lint.Survey],
    rule: FrameRule,
    meaning: outputs.Meaning,
) -> tuple[str, ...]:
    return lint.warnings_of(calibration, validation, surveys, rule, meaning.classes)
