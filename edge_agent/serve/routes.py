# SPDX-License-Identifier: Apache-2.0
"""What can be asked of the service, path by path.

Owns the table of docs/reference/service.md. It knows no socket: a call goes in, an
answer comes out.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from edge_agent.clock import Clock
from edge_agent.errors import BatchError, FeedbackError
from edge_agent.flow import ModelCard, Predictions
from edge_agent.labelling import parse_labels
from edge_agent.serve import catalog
from edge_agent.serve.inference import Inference, find_card, find_model
from edge_agent.serve.ledger import Ledger, Times
from edge_agent.serve.refusals import (
    AbsentError,
    LabelsError,
    MethodError,
    UnreadyError,
    UnsupportedError,
)
from edge_agent.serve.reply import format_reply
from edge_agent.serve.request import check_version, parse_object, parse_request
from edge_contract.errors import EdgeError

JSON: Final = b"application/json"
BINARY: Final = b"application/octet-stream"
TEXT: Final = b"text/plain; version=0.0.4; charset=utf-8"
_READ: Final = frozenset({"GET", "HEAD"})
_WRITE: Final = frozenset({"POST"})
_ABSENT_PARTS: Final = {
    "trace": "tracing",
    "logging": "changing what is logged",
    "systemsharedmemory": "shared memory",
    "cudasharedmemory": "CUDA shared memory",
}


@dataclass(frozen=True, slots=True)
class Call:
    """The body of a request, and the length of the JSON at its beginning, if told."""

    body: bytes = b""
    json_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    body: bytes = b""
    content_type: bytes = JSON
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def packed(self, body: bytes, coding: str) -> "Answer":
        """Return the same with its body in a coding."""
        header = (b"content-encoding", coding.encode())
        return replace(self, body=body, headers=(*self.headers, header))


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Sources:
    """What the routes read, besides models.

    Attributes:
        metrics: Returns the text of ``/metrics``.
        status: Returns the document of ``/edge/v1/status``.
        predictions: What was computed ahead.
        clock: For the time of the last inference.
        version: The agent's.
    """

    metrics: Callable[[], str]
    status: Callable[[], Mapping[str, Any]]
    predictions: Predictions
    clock: Clock
    version: str


@dataclass(frozen=True, slots=True)
class Routes:
    """The table of paths.

    Args:
        inference: Runs requests.
        executor: Where what may take a while runs.
        sources: See there.
        max_json: Bytes of JSON in an inference request.
        ledger: Counts what is answered.
    """

    inference: Inference
    executor: Executor
    sources: Sources
    max_json: int
    ledger: Ledger = field(default_factory=Ledger)

    def find(self, method: str, path: str) -> Handler:
        """Return what answers a path.

        Raises:
            AbsentError: Nothing does.
            MethodError: Nothing does by this method.
            UnsupportedError: It belongs to a part of the protocol that is not offered.
        """
        methods, handler = self._match(path.removesuffix("/").split("/")[1:], path)
        if method not in methods:
            msg = f"{path[:200]}: expected {' or '.join(sorted(methods))}"
            raise MethodError(msg)
        return handler

    def _match(self, parts: list[str], path: str) -> tuple[frozenset[str], Handler]:
        match parts:
            case ["v2", "models", "stats"]:
                return _READ, self._all_statistics
            case ["v2", "models", name, "versions", version, *verb] if len(verb) < 2:
                return self._find_model_verb(path, name, version, *verb)
            case ["v2", "models", name, *verb] if len(verb) < 2:
                return self._find_model_verb(path, name, "", *verb)
            case _:
                writing = self._find_writing(parts)
                if writing is not None:
                    return _WRITE, writing
                return _READ, self._find_reading(parts, path)

    def _find_writing(self, parts: list[str]) -> Handler | None:
        match parts:
            case ["v2", "repository", "index"]:
                return self._index
            case ["v2", "repository", "models", name, ("load" | "unload") as verb]:
                return partial(self._manage, name, verb)
            case ["edge", "v1", "models", name, "feedback"]:
                return partial(self._take_labels, name)
            case _:
                return None

    def _find_reading(self, parts: list[str], path: str) -> Handler:
        match parts:
            case ["v2"]:
                handler: Handler = self._server
            case ["v2", "health", ("live" | "ready") as health]:
                handler = self._live if health == "live" else self._ready
            case ["metrics"]:
                handler = self._metrics
            case ["edge", "v1", "status"]:
                handler = self._status
            case ["edge", "v1", "predictions", store, *key] if key:
                handler = partial(self._look_up, store, "/".join(key))
            case _:
                raise _refuse_path(parts, path)
        return handler

    def _find_model_verb(
        self, path: str, name: str, version: str, verb: str = ""
    ) -> tuple[frozenset[str], Handler]:
        if verb == "infer":
            return _WRITE, partial(self._infer, name, version)
        describe = {
            "": catalog.describe_model,
            "ready": lambda *_: {},
            "config": catalog.describe_config,
            "stats": self._describe_statistics,
        }.get(verb)
        if describe is None:
            raise _refuse_path([], path)
        return _READ, partial(self._describe, describe, name, version)

    async def _server(self, _: Call) -> Answer:
        return _json(catalog.describe_server(self.sources.version))

    async def _live(self, _: Call) -> Answer:
        return _json({"live": True})

    async def _ready(self, _: Call) -> Answer:
        if not catalog.is_ready(self.inference.repository):
            msg = "service: no model serves"
            raise UnreadyError(msg, next_step="POST /v2/repository/index says why")
        return _json({"ready": True})

    async def _describe(
        self,
        describe: Callable[[str, ModelCard], Mapping[str, Any]],
        name: str,
        version: str,
        _: Call,
    ) -> Answer:
        return _json(describe(name, self._card(name, version)))

    def _describe_statistics(self, name: str, card: ModelCard) -> dict[str, Any]:
        counts = self.ledger.read(name)
        return {"model_stats": [catalog.describe_statistics(name, card, counts)]}

    async def _all_statistics(self, _: Call) -> Answer:
        repository, entries = self.inference.repository, []
        for name in repository.names:
            card = find_model(repository, name).card
            if card is not None:
                counts = self.ledger.read(name)
                entries.append(catalog.describe_statistics(name, card, counts))
        return _json({"model_stats": entries})

    async def _infer(self, name: str, version: str, call: Call) -> Answer:
        card = self._card(name, version)
        start = time.perf_counter_ns()
        try:
            request = parse_request(call.body, call.json_bytes, card, self.max_json)
            parsed = time.perf_counter_ns()
            inferred = await self.inference.run(name, request)
        except EdgeError:
            self.ledger.add_failure(name, time.perf_counter_ns() - start)
            raise
        begun = time.perf_counter_ns()
        body, json_bytes = format_reply(name, request, inferred)
        spent = time.perf_counter_ns() - begun
        times = Times(parsed - start, inferred.infer_ns, spent)
        now_us = self.sources.clock.wall_us()
        self.ledger.add_answer(name, len(request.frames), times, now_us)
        if json_bytes is None:
            return Answer(body)
        header = (b"inference-header-content-length", str(json_bytes).encode())
        return Answer(body, BINARY, headers=(header,))

    async def _index(self, call: Call) -> Answer:
        wanted = parse_object(call.body) if call.body else {}
        index = catalog.describe_repository(self.inference.repository)
        if wanted.get("ready") is True:
            index = [one for one in index if one["state"] == catalog.READY]
        return _json(index)

    async def _manage(self, name: str, verb: str, call: Call) -> Answer:
        find_model(self.inference.repository, name)
        told = (parse_object(call.body) if call.body else {}).get("parameters", {})
        if not isinstance(told, dict) or set(told) - {"unload_dependents"}:
            msg = "repository: a model cannot be sent or configured with a request"
            raise UnsupportedError(msg, next_step="release a bundle to the device")
        repository = self.inference.repository
        act = repository.load if verb == "load" else repository.unload
        await self._aside(partial(act, name))
        return Answer()

    async def _take_labels(self, name: str, call: Call) -> Answer:
        find_model(self.inference.repository, name)
        try:
            labels = parse_labels(call.body)
            take = partial(self.inference.repository.feedback, name, labels)
            found = await self._aside(take)
        except FeedbackError as error:
            raise LabelsError(error.message, next_step=error.next_step) from error
        return _json(found)

    async def _look_up(self, store: str, key: str, _: Call) -> Answer:
        predictions = self.sources.predictions
        if store not in predictions.names:
            known = ", ".join(predictions.names) or "none"
            msg = f"store {store[:80]!r}: expected one of: {known}"
            raise AbsentError(msg, next_step="name it under service.predictions")
        try:
            found = await self._aside(partial(predictions.find, store, key))
        except BatchError as error:
            raise UnreadyError(error.message, next_step=error.next_step) from error
        if found is None:
            msg = f"store {store}: it has no prediction under the key {key[:80]!r}"
            raise AbsentError(msg, next_step="edge-agent batch computes them")
        return _json(found)

    async def _metrics(self, _: Call) -> Answer:
        text: str = await self._aside(self.sources.metrics)
        return Answer(text.encode(), TEXT)

    async def _status(self, _: Call) -> Answer:
        return _json(await self._aside(self.sources.status))

    def _card(self, name: str, version: str) -> ModelCard:
        card = find_card(self.inference.repository, name)
        check_version(name, card, version)
        return card

    async def _aside(self, work: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, work)


def _json(document: Any) -> Answer:
    return Answer(json.dumps(document, separators=(",", ":")).encode())


def _refuse_path(parts: list[str], path: str) -> EdgeError:
    for part in parts:
        if part in _ABSENT_PARTS:
            msg = f"service: {_ABSENT_PARTS[part]} is not supported"
            return UnsupportedError(msg)
    msg = f"{path[:200]}: there is nothing under this path"
    return AbsentError(msg, next_step="see docs/reference/service.md")
