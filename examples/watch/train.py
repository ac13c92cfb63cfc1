# SPDX-License-Identifier: Apache-2.0
"""Train the exercise classifier: a 1-D CNN of about 13,000 parameters, in seconds.

Owns: the model, and the files that a training leaves for the converter
(`model.keras`, `calibration.npz`, `validation.npz`, `evaluation.json`).
Does not own: which recordings are trained on (`material`).

Run: `python -m examples.watch.train --output FOLDER`
"""

from __future__ import annotations

import argparse
import json
import typing
from pathlib import Path

import keras
import tensorflow as tf

from examples.watch import data
from examples.watch.augment import augment
from examples.watch.material import Material, right_arm_material

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.watch.augment import Float32, Int32

_TRAINING_HOP = 16
_EPOCHS = 12
_BATCH = 64
_LEARNING_RATE = 2e-3
_SEED = 0


def train(material: Material, folder: Path, *, seed: int = _SEED) -> dict[str, object]:
    """Train, and leave model, data for the converter and evaluation in `folder`.

    Returns:
        The evaluation that was also written.
    """
    frames, labels = data.stack_frames(material.training, hop=_TRAINING_HOP)
    model = fit(frames, labels, seed=seed)
    model.save(folder / "model.keras")
    data.write_rows(folder / "calibration.npz", material.calibration)
    data.write_rows(folder / "validation.npz", material.validation)
    evaluation: dict[str, object] = {
        "metric": "top1",
        "validation": evaluate(model, material.validation),
        "training_frames": len(frames),
        "training_recordings": len(material.training),
        "parameters": int(model.count_params()),
        "seed": seed,
    }
    text = json.dumps(evaluation, indent=2, sort_keys=True) + "\n"
    (folder / "evaluation.json").write_text(text, encoding="utf-8")
    return evaluation


def fit(frames: Float32, labels: Int32, *, seed: int = _SEED) -> keras.Model:
    """Train a model on frames [n, 128, 6] of raw rows and labels [n]."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    x, y = augment(frames, labels, seed=seed)
    model = build_model(frames)
    steps = _EPOCHS * -(-len(x) // _BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=_EPOCHS, batch_size=_BATCH, verbose=0)
    return model


def build_model(frames: Float32) -> keras.Model:
    """A CNN that takes raw rows: its first layer standardises as `frames` ask."""
    layers = keras.layers
    standardise = layers.Normalization(name="standardise")
    standardise.adapt(frames.reshape(-1, frames.shape[-1]))
    return keras.Sequential(
        [
            keras.Input((data.FRAME_LENGTH, len(data.FEATURES)), name="rows"),
            standardise,
            layers.Conv1D(32, 5, activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(32, 5, activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(40, 5, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dropout(0.3),
            layers.Dense(len(data.EXERCISES), activation="softmax", name="exercise"),
        ],
        name="watch",
    )


def evaluate(
    model: keras.Model, recordings: Sequence[data.Recording]
) -> dict[str, object]:
    """Accuracy over all frames of `recordings`, and by arm."""
    arms = sorted({r.arm for r in recordings})
    by_arm = {arm: [r for r in recordings if r.arm == arm] for arm in arms}
    return {
        "accuracy": measure_accuracy(model, recordings),
        "by_arm": {arm: measure_accuracy(model, rs) for arm, rs in by_arm.items()},
        "frames": len(data.stack_frames(recordings)[1]),
    }


def measure_accuracy(model: keras.Model, recordings: Sequence[data.Recording]) -> float:
    """Share of frames whose most probable class is the label."""
    frames, labels = data.stack_frames(recordings)
    probabilities = model.predict(frames, batch_size=512, verbose=0)
    return round(float((probabilities.argmax(axis=1) == labels).mean()), 4)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train on the right arm; print the evaluation as JSON."""
    parser = argparse.ArgumentParser(prog="examples.watch.train", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=_SEED)
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    material = right_arm_material(data.load_recordings())
    evaluation = train(material, options.output, seed=options.seed)
    print(json.dumps(evaluation))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
