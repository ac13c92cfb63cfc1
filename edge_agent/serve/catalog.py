# SPDX-License-Identifier: Apache-2.0
"""What the service says of itself and its models, as JSON documents.

Owns the forms of kserve/open-inference-protocol (metadata) and of Triton's
extensions (model configuration, statistics, repository). It infers nothing.
"""

from collections.abc import Mapping
from typing import Any, Final

from edge_agent.flow import ModelCard, Repository
from edge_agent.serve.ledger import Counts, Times
from edge_agent.serve.request import MAX_ROWS, find_version
from edge_agent.serve.tensors import DATATYPE

SERVER_NAME: Final = "edge-agent"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
)
READY: Final = "READY"
UNAVAILABLE: Final = "UNAVAILABLE"
NOT_SERVING: Final = "no release serves"


def describe_server(version: str) -> dict[str, Any]:
    """Return the server's metadata."""
    return {"name": SERVER_NAME, "version": version, "extensions": list(EXTENSIONS)}


def describe_model(name: str, card: ModelCard) -> dict[str, Any]:
    """Return a model's metadata; -1 is the batch."""
    return {
        "name": name,
        "versions": [find_version(card)],
        "platform": find_platform(card),
        "inputs": [_tensor(card.input_name, card.input_shape)],
        "outputs": [_tensor(card.output_name, card.output_shape)],
        "parameters": dict(find_parameters(card)),
    }


def describe_config(name: str, card: ModelCard) -> dict[str, Any]:
    """Return a model's configuration, in Triton's form."""
    parameters = find_parameters(card)
    return {
        "name": name,
        "platform": find_platform(card),
        "backend": card.runtime,
        "max_batch_size": MAX_ROWS,
        "input": [_configured(card.input_name, card.input_shape)],
        "output": [_configured(card.output_name, card.output_shape)],
        "parameters": {
            key: {"string_value": value} for key, value in parameters.items()
        },
    }


def find_platform(card: ModelCard) -> str:
    """Return the runtime as the protocol names platforms.

    It is ``<project>_<format>``, for example ``litert_tflite``.
    """
    kinds = {"onnxruntime": "onnxruntime_onnx", "reference": "edgeloop_reference"}
    return kinds.get(card.runtime, f"{card.runtime}_tflite")


def find_parameters(card: ModelCard) -> Mapping[str, str]:
    """Return what else a client may want to know of a model."""
    return {
        "model": card.name,
        "digest": card.digest,
        "variant": card.variant,
        "runtime_version": card.runtime_version,
        "kernels": card.kernels,
        "labels": ",".join(card.labels),
    }


def describe_statistics(name: str, card: ModelCard, counts: Counts) -> dict[str, Any]:
    """Return one model's entry of ``…/stats``.

    There is no queue and no cache: those counters stay at zero.
    """
    answered, times = counts.requests, counts.times
    return {
        "name": name,
        "version": find_version(card),
        "last_inference": counts.last_us // 1000,
        "inference_count": counts.rows,
        "execution_count": counts.rows,
        "inference_stats": {
            "success": _duration(answered, times.total_ns),
            "fail": _duration(counts.failed, counts.failed_ns),
            "queue": _duration(answered, 0),
            **_parts(answered, times),
            "cache_hit": _duration(0, 0),
            "cache_miss": _duration(0, 0),
        },
        "batch_stats": [
            {"batch_size": rows, **_parts(count, sums)}
            for rows, (count, sums) in sorted(counts.by_rows.items())
        ],
        "memory_usage": [],
        "response_stats": {},
    }


def describe_repository(repository: Repository) -> list[dict[str, Any]]:
    """Return the repository's index."""
    index = []
    for name in repository.names:
        slot = repository.slot(name)
        card = None if slot is None else slot.card
        entry = {"name": name, "state": READY if card else UNAVAILABLE}
        if card is None:
            index.append({**entry, "version": "", "reason": NOT_SERVING})
        else:
            index.append({**entry, "version": find_version(card), "reason": ""})
    return index


def is_ready(repository: Repository) -> bool:
    """Return whether at least one model serves."""
    slots = [repository.slot(name) for name in repository.names]
    return any(slot is not None and slot.card is not None for slot in slots)


def _tensor(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "datatype": DATATYPE, "shape": [-1, *shape[1:]]}


def _configured(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "data_type": f"TYPE_{DATATYPE}", "dims": list(shape[1:])}


def _parts(count: int, times: Times) -> dict[str, Any]:
    return {
        "compute_input": _duration(count, times.input_ns),
        "compute_infer": _duration(count, times.infer_ns),
        "compute_output": _duration(count, times.output_ns),
    }


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
