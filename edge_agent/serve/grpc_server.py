# SPDX-License-Identifier: Apache-2.0
"""The service over gRPC (extra ``agent-grpc``).

Owns the mapping of gRPC calls to the same rules that answer HTTP. Methods that are not
in ``inference.proto`` are answered by gRPC itself with UNIMPLEMENTED.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import numpy as np

from edge_agent.config import ServiceConfig
from edge_agent.errors import ServeError
from edge_agent.flow import ModelCard
from edge_agent.serve import catalog
from edge_agent.serve.grpc_messages import SERVICE, Method, load_methods
from edge_agent.serve.inference import find_card, find_model
from edge_agent.serve.ledger import Times
from edge_agent.serve.refusals import RefusedError, UnsupportedError, find_status
from edge_agent.serve.reply import Inferred
from edge_agent.serve.request import (
    MAX_ID,
    InferRequest,
    Wanted,
    check_classes,
    check_input,
    check_output,
    check_version,
    find_version,
    refuse_sequences,
    refuse_shared_memory,
)
from edge_agent.serve.routes import Routes
from edge_agent.serve.tensors import (
    DATATYPE,
    decode_binary,
    encode_binary,
    encode_strings,
    find_winners,
)
from edge_contract.errors import EdgeError

WORKERS: Final = 4
MAX_CALLS: Final = 64
STOP_SECONDS: Final = 2.0
_HEAD_BYTES: Final = 64 * 1024  # of a message, around its tensor
_CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


def start_grpc(
    settings: ServiceConfig, routes: Routes
) -> tuple[tuple[str, int], Callable[[], None]]:
    """Serve on ``settings.grpc``.

    Returns:
        The address, and what stops it.

    Raises:
        ServeError: The address is taken.
    """
    address = settings.grpc
    assert address is not None  # noqa: S101 - the caller's condition
    server = grpc.server(
        ThreadPoolExecutor(WORKERS, "edge-serve-grpc"),
        maximum_concurrent_rpcs=MAX_CALLS,
        options=[
            (
                "grpc.max_receive_message_length",
                settings.max_request.bytes + _HEAD_BYTES,
            ),
            ("grpc.so_reuseport", 0),
        ],
    )
    calls = GrpcCalls(routes)
    methods = load_methods()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                SERVICE, {name: calls.handler(one) for name, one in methods.items()}
            ),
        )
    )
    try:
        port = server.add_insecure_port(str(address))
    except RuntimeError as error:
        msg = f"service: gRPC {address}: cannot listen"
        raise ServeError(
            msg, next_step="stop what listens there, or name another port"
        ) from error
    server.start()

    def stop() -> None:
        server.stop(STOP_SECONDS).wait()

    return (address.host, port), stop


class GrpcCalls:
    """Answers gRPC calls by the rules of ``routes``.

    Args:
        routes: Of the same server.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._repository = routes.inference.repository
        self._answers: Mapping[str, Callable[[Any], dict[str, Any]]] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": catalog.is_ready(self._repository)},
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda _: catalog.describe_server(routes.sources.version),
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": lambda call: self._manage(call, "load"),
            "RepositoryModelUnload": lambda call: self._manage(call, "unload"),
            "ModelInfer": self._infer,
        }

    def handler(self, method: Method) -> Any:
        """Return gRPC's handler of a method."""
        make = (
            grpc.stream_stream_rpc_method_handler
            if method.is_stream
            else grpc.unary_unary_rpc_method_handler
        )
        return make(
            self._streaming(method) if method.is_stream else self._unary(method),
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )

    def _unary(self, method: Method) -> Callable[[Any, Any], Any]:
        answer = self._answers[method.name]

        def call(request: Any, context: Any) -> Any:
            try:
                return method.response(**answer(request))
            except EdgeError as error:
                code = _CODES.get(find_status(error), grpc.StatusCode.INTERNAL)
                context.abort(code, str(error))

        return call

    def _streaming(self, method: Method) -> Callable[[Any, Any], Iterator[Any]]:
        def call(requests: Iterator[Any], _: Any) -> Iterator[Any]:
            for request in requests:
                try:
                    yield method.response(infer_response=self._infer(request))
                except EdgeError as error:
                    yield method.response(error_message=str(error))

        return call

    def _card(self, name: str, version: str) -> ModelCard:
        card = find_card(self._repository, name)
        check_version(name, card, version)
        return card

    def _model_ready(self, call: Any) -> dict[str, Any]:
        card = find_model(self._repository, call.name).card
        if card is not None:
            check_version(call.name, card, call.version)
        return {"ready": card is not None}

    def _model_metadata(self, call: Any) -> dict[str, Any]:
        card = self._card(call.name, call.version)
        described = catalog.describe_model(call.name, card)
        del described["parameters"]  # the message has none
        return described

    def _model_config(self, call: Any) -> dict[str, Any]:
        card = self._card(call.name, call.version)
        return {"config": catalog.describe_config(call.name, card)}

    def _statistics(self, call: Any) -> dict[str, Any]:
        names = [call.name] if call.name else list(self._repository.names)
        cards = {name: find_model(self._repository, name).card for name in names}
        entries = []
        for name, card in cards.items():
            if card is not None:
                counts = self._routes.ledger.read(name)
                entry = catalog.describe_statistics(name, card, counts)
                entries.append(
                    {key: entry[key] for key in entry if key not in _JSON_ONLY}
                )
        return {"model_stats": entries}

    def _index(self, call: Any) -> dict[str, Any]:
        index = catalog.describe_repository(self._repository)
        ready = [one for one in index if one["state"] == catalog.READY]
        return {"models": ready if call.ready else index}

    def _manage(self, call: Any, verb: str) -> dict[str, Any]:
        find_model(self._repository, call.model_name)
        if set(call.parameters) - {"unload_dependents"}:
            msg = "repository: a model cannot be sent or configured with a request"
            raise UnsupportedError(msg, next_step="release a bundle to the device")
        act = self._repository.load if verb == "load" else self._repository.unload
        act(call.model_name)
        return {}

    def _infer(self, call: Any) -> dict[str, Any]:
        name, ledger = call.model_name, self._routes.ledger
        card = self._card(name, call.model_version)
        start = time.perf_counter_ns()
        try:
            request = read_request(call, card)
            parsed = time.perf_counter_ns()
            inferred = self._routes.inference.infer(name, request)
        except EdgeError:
            ledger.add_failure(name, time.perf_counter_ns() - start)
            raise
        begun = time.perf_counter_ns()
        answer = write_reply(name, request, inferred)
        spent = time.perf_counter_ns() - begun
        times = Times(parsed - start, inferred.infer_ns, spent)
        now_us = self._routes.sources.clock.wall_us()
        ledger.add_answer(name, len(request.frames), times, now_us)
        return answer


_JSON_ONLY: Final = frozenset({"memory_usage", "response_stats"})


def read_request(call: Any, card: ModelCard) -> InferRequest:
    """Check a ``ModelInferRequest`` against the model that serves.

    Raises:
        RefusedError: Malformed, or not what the model takes.
    """
    if len(call.inputs) != 1 or len(call.outputs) > 1:
        msg = f"request: expected one input, {card.input_name!r}, and one output"
        raise RefusedError(msg)
    if len(call.id) > MAX_ID:
        msg = f"request: expected id as a text of at most {MAX_ID} characters"
        raise RefusedError(msg)
    refuse_sequences(_values(call.parameters))
    one = call.inputs[0]
    refuse_shared_memory(one.parameters)
    shape = check_input(one.name, one.datatype, list(one.shape) or [0], card)
    return InferRequest(
        call.id, _read_tensor(call, one, shape), _read_wanted(call, card)
    )


def write_reply(name: str, request: InferRequest, inferred: Inferred) -> dict[str, Any]:
    """Return the fields of a ``ModelInferResponse``; tensors are raw."""
    card, outputs, wanted = inferred.card, inferred.outputs, request.wanted
    if wanted.classes:
        winners = find_winners(outputs, card.labels, wanted.classes)
        raw = encode_strings([one for row in winners for one in row])
        datatype, shape = "BYTES", [len(winners), wanted.classes]
    else:
        raw = encode_binary(outputs)
        datatype, shape = DATATYPE, [len(outputs), *card.output_shape[1:]]
    tensor = {"name": card.output_name, "datatype": datatype, "shape": shape}
    return {
        "model_name": name,
        "model_version": find_version(card),
        "id": request.id,
        "parameters": {mark: {"bool_param": True} for mark in inferred.marks},
        "outputs": [tensor],
        "raw_output_contents": [raw],
    }


def _read_tensor(call: Any, one: Any, shape: tuple[int, ...]) -> Any:
    raw, typed = call.raw_input_contents, one.contents.fp32_contents
    if (len(raw) == 1) == bool(len(typed)) or len(raw) > 1:
        msg = f"input {one.name}: expected either raw_input_contents or fp32_contents"
        raise RefusedError(msg)
    if raw:
        return decode_binary(one.name, memoryview(raw[0]), shape)
    if len(typed) != math.prod(shape):
        msg = (
            f"input {one.name}: expected {math.prod(shape)} numbers for shape "
            f"{list(shape)}, found {len(typed)}"
        )
        raise RefusedError(msg)
    return np.array(typed, np.float32).reshape(shape)


def _read_wanted(call: Any, card: ModelCard) -> Wanted:
    if not call.outputs:
        return Wanted(is_binary=True)
    one = call.outputs[0]
    check_output(one.name, card)
    refuse_shared_memory(one.parameters)
    count = _values(one.parameters).get("classification", 0)
    if type(count) is not int:
        msg = f"output {one.name}: expected classification as a whole number"
        raise RefusedError(msg)
    return Wanted(is_binary=True, classes=check_classes(count, card))


def _values(parameters: Any) -> dict[str, Any]:
    """Return the values of a map of ``InferParameter``."""
    found = {key: one.WhichOneof("parameter_choice") for key, one in parameters.items()}
    return {
        key: getattr(parameters[key], kind) if kind else None
        for key, kind in found.items()
    }
