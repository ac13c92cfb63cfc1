# SPDX-License-Identifier: Apache-2.0
"""The in-memory twin of the daemon's ``Repository``: real models, no daemon."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_agent import load
from edge_agent.errors import BackendError, ModelError
from edge_agent.flow import Float32, ModelCard, Result
from edge_agent.runtime.model import Model
from tests.support.bundles import ModelRecipe, make_bundle

VECTOR = ModelRecipe(observe="vector", features=4)


class TwinSlot:
    """A slot around one loaded model; a lock stands for the session's."""

    def __init__(self, model: Model, pause_seconds: float = 0.0) -> None:
        self._loaded = model
        self._lock = threading.Lock()
        self._pause_seconds = pause_seconds
        self.model: Model | None = model
        self.fails = False
        self.marks: tuple[str, ...] = ()
        self.asked: list[str] = []

    @property
    def card(self) -> ModelCard | None:
        model = self.model
        if model is None:
            return None
        return ModelCard(
            name=model.manifest.name,
            digest=model.digest,
            variant=model.variant.id,
            runtime=model.variant.runtime,
            runtime_version="2.3.0",
            kernels="XNNPACK",
            input_name=model.manifest.input.name,
            input_shape=model.manifest.input.shape,
            output_name=model.manifest.output.name,
            output_shape=model.manifest.output.shape,
            labels=model.labels,
        )

    def infer(self, frame: Float32, request_id: str) -> Result:
        model = self.model
        if model is None:
            msg = "slot: no model serves"
            raise ModelError(msg)
        time.sleep(self._pause_seconds)
        output: Float32 | None
        with self._lock:
            try:
                output, error = model.infer(frame), None
            except BackendError as caught:
                output, error = None, str(caught)
        if self.fails or (output is not None and not np.isfinite(output).all()):
            output, error = None, "the output is not finite"
        self.asked.append(request_id)
        return Result(request_id, 0, model.digest, output, error, marks=self.marks)

    def load(self) -> None:
        self.model = self._loaded

    def unload(self) -> None:
        self.model = None


class TwinRepository:
    """Slots by name."""

    def __init__(self, slots: Mapping[str, TwinSlot]) -> None:
        self._slots = dict(slots)
        self.labels: list[tuple[str, str | int]] = []

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._slots)

    def slot(self, name: str) -> TwinSlot | None:
        return self._slots.get(name)

    def load(self, name: str) -> None:
        self._find(name).load()

    def unload(self, name: str) -> None:
        self._find(name).unload()

    def feedback(
        self, name: str, labels: Sequence[tuple[str, str | int]]
    ) -> Mapping[str, int]:
        self._find(name)
        self.labels.extend(labels)
        return {"taken": len(labels)}

    def _find(self, name: str) -> TwinSlot:
        if name not in self._slots:
            msg = f"slot {name}: there is none"
            raise ModelError(msg)
        return self._slots[name]


def load_model(folder: Path, recipe: ModelRecipe = VECTOR) -> Model:
    """Build a bundle and load it, as a program of a user's would."""
    path = folder / f"{recipe.name}-{recipe.seed}.bundle"
    make_bundle(path, recipe)
    return load(path, allow_unsigned=True)


def make_repository(
    folder: Path, recipe: ModelRecipe = VECTOR, *, pause_seconds: float = 0.0
) -> TwinRepository:
    """Return a repository with one slot, ``main``."""
    return TwinRepository({"main": TwinSlot(load_model(folder, recipe), pause_seconds)})


def renamed(recipe: ModelRecipe, name: str) -> ModelRecipe:
    """Return a recipe of another model."""
    return replace(recipe, name=name)
