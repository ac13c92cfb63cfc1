# SPDX-License-Identifier: Apache-2.0
"""Keras models for tests, made in a process of their own.

Run as a module with a folder: writes ``conv.keras`` (a small 1-D CNN on series of 8
rows of 3 values), ``conv.h5``, ``saved`` (a SavedModel) and ``flex.keras`` (which needs
an operator that LiteRT does not have). TensorFlow never enters the test process.
"""

import subprocess
import sys
from pathlib import Path

from converter.config import worker_environment

SHAPE = (8, 3)


def make_models(folder: Path) -> None:
    """Write the models into ``folder``."""
    subprocess.run(
        [sys.executable, "-m", "tests.support.keras_models", str(folder)],
        capture_output=True,
        check=True,
        env=worker_environment(),
    )


def main(folder: Path) -> None:
    """Build and save the models."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    conv = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv1D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Conv1D(32, 3, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(32, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    conv.save(folder / "conv.keras")
    conv.save(folder / "conv.h5")
    conv.export(folder / "saved", format="tf_saved_model", verbose=False)
    given = keras.Input(SHAPE)
    curved = keras.ops.erfinv(given * 0.1)
    ended = layers.Dense(3, activation="softmax")(layers.Flatten()(curved))
    keras.Model(given, ended).save(folder / "flex.keras")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
