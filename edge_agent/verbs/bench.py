# SPDX-License-Identifier: Apache-2.0
"""``edge-agent bench``: how fast the serving model is on this device.

Owns the measurement: the model as it serves, on noise of its input's shape, one frame
after another, in a process of its own beside whatever else runs.
"""

import time
from typing import Final

import numpy as np

from edge_agent.config import AgentConfig
from edge_agent.errors import ModelError
from edge_agent.ota.slots import FOLDER, Slots
from edge_agent.runtime.model import load_bundle
from edge_agent.verbs.answer import Answer
from edge_contract.bundle import Bundle

WARM_UP: Final = 20
MAX_CALLS: Final = 1_000_000
_PERCENTILES: Final = (50, 95, 99)


def bench(config: AgentConfig, slot: str | None, seconds: float) -> Answer:
    """Measure the committed release of a slot.

    Raises:
        ModelError: There is none.
        EdgeError: It cannot be loaded.
    """
    name, told = config.pick(slot)
    folder = config.state_dir / FOLDER / name
    slots = Slots(folder) if folder.is_dir() else None
    if slots is None or slots.active is None:
        msg = f"models.{name}: expected a committed release, found none"
        raise ModelError(msg, next_step="run the agent once, or import a bundle")
    with Bundle.open(slots.path(slots.active)) as bundle:
        model = load_bundle(
            bundle, threads=told.threads, device_profile=told.device_profile
        )
    noise = np.random.default_rng(0).normal(size=model.manifest.input.shape)
    frame = noise.astype(np.float32)
    for _ in range(WARM_UP):
        model.infer(frame)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < MAX_CALLS:
        start = time.perf_counter()
        model.infer(frame)
        stop = time.perf_counter()
        taken.append(stop - start)
        if stop >= end:
            break
    micros = np.array(taken) * 1e6
    percentiles = {
        f"p{one}_us": round(float(np.percentile(micros, one)), 2)
        for one in _PERCENTILES
    }
    card = model.card
    document = {
        "slot": name,
        "model": card.name,
        "digest": card.digest,
        "variant": card.variant,
        "runtime": f"{card.runtime} {card.runtime_version}",
        "kernels": card.kernels,
        "threads": told.threads,
        "n": len(micros),
        **percentiles,
        "sd_us": round(float(micros.std()), 2),
        "per_second": round(1e6 / float(micros.mean()), 1),
    }
    lines = [f"{key}: {value}" for key, value in document.items()]
    return Answer(document, "\n".join(lines))
