# SPDX-License-Identifier: Apache-2.0
"""Running requests: row by row, on the event loop or beside it.

Owns that choice. A hand-over to another thread and back costs more than a small model
(bench ``agent_service`` prints both), and a long one on the loop would keep every other
client, health checks included, waiting. So a request runs on the loop only where what
the model took before says that it ends within ``INLINE_NS``; the first request to a
release never does.
"""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

import numpy as np

from edge_agent.flow import Float32, ModelCard, Repository, Result, ServedModel
from edge_agent.serve.refusals import (
    AbsentError,
    FailedError,
    RefusedError,
    UnreadyError,
)
from edge_agent.serve.reply import Inferred
from edge_agent.serve.request import InferRequest

INLINE_NS: Final = 1_000_000
_DECAY: Final = 0.9
_ATTEMPTS: Final = 3


def find_model(repository: Repository, name: str) -> ServedModel:
    """Return a slot by its name.

    Raises:
        AbsentError: There is none.
    """
    slot = repository.slot(name)
    if slot is None:
        msg = f"model {name[:80]!r}: expected one of {', '.join(repository.names)}"
        raise AbsentError(msg, next_step="POST /v2/repository/index lists them")
    return slot


def find_card(repository: Repository, name: str) -> ModelCard:
    """Return what serves in a slot.

    Raises:
        AbsentError: There is no such slot.
        UnreadyError: Nothing serves in it.
    """
    card = find_model(repository, name).card
    if card is None:
        msg = f"model {name}: it does not serve now"
        raise UnreadyError(msg, next_step="wait for its first release, or load it")
    return card


class Inference:
    """Runs requests on the models of a repository.

    Args:
        repository: Whose slots serve.
        executor: Where what is long runs.
        inline_ns: What may run on the event loop; 0 nothing.
        clock_ns: A clock that never goes back.
    """

    def __init__(
        self,
        repository: Repository,
        executor: Executor,
        *,
        inline_ns: int = INLINE_NS,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.repository = repository
        self._executor = executor
        self._inline_ns = inline_ns
        self._clock_ns = clock_ns
        self._row_ns: dict[str, tuple[str, float]] = {}

    async def run(self, name: str, request: InferRequest) -> Inferred:
        """Infer a request where it is cheapest; see ``infer``."""
        digest, row_ns = self._row_ns.get(name, ("", math.inf))
        card = find_card(self.repository, name)
        if digest == card.digest and row_ns * len(request.frames) < self._inline_ns:
            return self.infer(name, request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self.infer, name, request)

    def infer(self, name: str, request: InferRequest) -> Inferred:
        """Infer every frame of a request, all by the same release.

        Raises:
            RefusedError: A frame gave no finite output.
            AbsentError: There is no such slot.
            ModelError: Nothing serves in it.
        """
        slot = find_model(self.repository, name)
        for _ in range(_ATTEMPTS):
            card = find_card(self.repository, name)
            start = self._clock_ns()
            results = [
                slot.infer(request.frames[row : row + 1], _answer_id(request, row))
                for row in range(len(request.frames))
            ]
            spent = self._clock_ns() - start
            if {one.digest for one in results} == {card.digest}:
                self._learn(name, card.digest, spent / len(results))
                marks = sorted({mark for one in results for mark in one.marks})
                outputs = _stack(name, request, results)
                return Inferred(card, outputs, spent, tuple(marks))
        msg = f"model {name}: it was replaced during the request"
        raise UnreadyError(msg, next_step="send it again")

    def _learn(self, name: str, digest: str, row_ns: float) -> None:
        """Believe a slow row at once, a fast one by and by: the loop is shared."""
        known, old_ns = self._row_ns.get(name, ("", 0.0))
        kept_ns = old_ns * _DECAY if known == digest else 0.0
        self._row_ns[name] = (digest, max(row_ns, kept_ns))


def _answer_id(request: InferRequest, row: int) -> str:
    """Return what one frame's answer is called: labels may come for it."""
    is_one_of_many = request.id and len(request.frames) > 1
    return f"{request.id}:{row}" if is_one_of_many else request.id


def _stack(name: str, request: InferRequest, results: list[Result]) -> Float32:
    outputs = []
    for row, (frame, result) in enumerate(zip(request.frames, results, strict=True)):
        if result.output is None:
            is_bad_input = not np.isfinite(frame).all()
            kind: type[RefusedError] = RefusedError if is_bad_input else FailedError
            cause = "the frame holds NaN or infinity" if is_bad_input else "it failed"
            msg = f"model {name}: frame {row}: {cause}: {result.error}"
            raise kind(msg)
        outputs.append(result.output)
    return outputs[0][np.newaxis] if len(outputs) == 1 else np.stack(outputs)
