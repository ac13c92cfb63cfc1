# SPDX-License-Identifier: Apache-2.0
"""Pairs of a model before and after more training, for the size of an update.

Owns three trainings, each left in a folder as ``old.keras``, ``new.keras``,
``calibration.npz`` and ``validation.npz``. It needs TensorFlow, so it runs in a process
of its own: ``python -m bench.harness.training NAME FOLDER``.
"""

import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bench.harness import models
from examples.watch import data, train
from examples.watch.material import right_arm_material

_LIGHT: Final = 1e-4  # a learning rate that moves weights a little
_CALIBRATION: Final = 500
_VALIDATION: Final = 2000
Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]


def train_watch(folder: Path) -> None:
    """The demo's model, then an epoch on two wearers' other arm at a low rate."""
    recordings = data.load_recordings()
    material = right_arm_material(recordings)
    data.write_rows(folder / "calibration.npz", material.calibration)
    data.write_rows(folder / "validation.npz", material.validation)
    model = train.fit(*data.stack_frames(material.training, hop=16))
    model.save(folder / "old.keras")
    left = data.select(recordings, data.SPARE_SUBJECTS, "left")
    frames, labels = data.stack_frames([*material.training, *left], hop=32)
    _train(model, frames, labels.astype(np.int64), _LIGHT)
    model.save(folder / "new.keras")


def train_digits(folder: Path) -> None:
    """A small network for MNIST, then an epoch on digits that it has not seen."""
    images, labels = models.digit_images()
    frames = (images / np.float32(255)).astype(np.float32)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    _save_data(folder, (frames[8000:], labels[8000:]))
    _train(model, frames[:6000], labels[:6000], 1e-3, epochs=4)
    model.save(folder / "old.keras")
    _train(model, frames[6000:8000], labels[6000:8000], _LIGHT)
    model.save(folder / "new.keras")


def train_head(folder: Path) -> None:
    """MLPerf's ResNet8 with a last layer for clothes, then that layer anew.

    CIFAR-10 is not at hand: Fashion-MNIST in the size of its pictures stands for the
    task that somebody puts a trained backbone to.
    """
    backbone: Any = keras.models.load_model(
        models.TINY / "ic" / "pretrainedResnet.h5", compile=False
    )
    frames, labels = _clothes()
    _save_data(folder, (frames[8000:], labels[8000:]))
    inner = keras.Model(backbone.inputs, backbone.layers[-2].output)
    features = inner.predict(frames[:8000], batch_size=256, verbose=0)
    for name, count, seed in (("old", 4000, 1), ("new", 8000, 2)):
        keras.utils.set_random_seed(seed)
        head = keras.layers.Dense(10, activation="softmax")
        shallow = keras.Sequential([keras.Input(features.shape[1:]), head])
        _train(shallow, features[:count], labels[:count], 1e-3, epochs=8, logits=False)
        whole = keras.Model(inner.inputs, head(inner.output))
        whole.save(folder / f"{name}.keras")


TRAININGS: Final[dict[str, Callable[[Path], None]]] = {
    "watch": train_watch,
    "digits": train_digits,
    "head": train_head,
}


def _train(
    model: Any,
    frames: NDArray[np.float32],
    labels: NDArray[np.int64],
    rate: float,
    *,
    epochs: int = 1,
    logits: bool = True,
) -> None:
    from_logits = logits and model.layers[-1].activation.__name__ != "softmax"
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(frames, labels, epochs=epochs, batch_size=64, verbose=0)


def _save_data(folder: Path, arrays: Arrays) -> None:
    frames, labels = arrays
    cut = _CALIBRATION
    models.save(folder, "calibration", x=frames[:cut], y=labels[:cut])
    models.save(folder, "validation", x=frames[cut:], y=labels[cut:])


def _clothes() -> Arrays:
    """Return float32 [10000, 32, 32, 3] of 0 to 255, and int64 [10000]."""
    folder = models.BENCHDATA / "fashion_mnist_t10k"
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as stream:
        images = np.frombuffer(stream.read()[16:], np.uint8).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as stream:
        labels = np.frombuffer(stream.read()[8:], np.uint8).astype(np.int64)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return np.repeat(padded, 3, axis=3).astype(np.float32), labels


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    TRAININGS[sys.argv[1]](Path(sys.argv[2]))
