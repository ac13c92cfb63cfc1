# SPDX-License-Identifier: Apache-2.0
"""Labels over HTTP, and the marks of answers."""

from typing import Any

import pytest

from tests.support.asgi_client import AsgiClient
from tests.support.served_models import TwinRepository, make_repository

INFER = "/v2/models/main/infer"
FRAME = [[0.5, -1.0, 2.0, 0.25]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TwinRepository:
    return make_repository(tmp_path_factory.mktemp("models"))


@pytest.fixture
def client(models: TwinRepository) -> AsgiClient:
    return AsgiClient(models)


def request(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 4], "data": FRAME}
    return {"inputs": [tensor | changes]}


def test_marks_are_told_and_each_frame_s_answer_has_a_name(
    client: AsgiClient, models: TwinRepository
) -> None:
    slot = models.slot("main")
    assert slot is not None
    slot.asked.clear()
    slot.marks = ("quarantined",)
    try:
        reply = client.post(INFER, {"id": "a", **request()})
    finally:
        slot.marks = ()
    assert reply.document["parameters"] == {"quarantined": True}

    many = request(shape=[2, 4], data=FRAME * 2)
    assert "parameters" not in client.post(INFER, {"id": "b", **many}).document
    assert slot.asked == ["a", "b:0", "b:1"]


FEEDBACK = "/edge/v1/models/main/feedback"


def test_labels_reach_the_slot(client: AsgiClient, models: TwinRepository) -> None:
    reply = client.post(FEEDBACK, [{"id": "a", "label": 1}, {"id": "b", "label": "c"}])

    assert (reply.status, reply.document) == (200, {"taken": 2})
    assert models.labels[-2:] == [("a", 1), ("b", "c")]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (FEEDBACK, {"id": "a"}, 400, "agent.serve.labels"),
        (FEEDBACK, [3], 400, "agent.serve.labels"),
        (
            FEEDBACK.replace("main", "other"),
            {"id": "a", "label": 1},
            404,
            "agent.serve.absent",
        ),
    ],
)
def test_labels_that_are_refused(
    client: AsgiClient, path: str, body: Any, status: int, code: str
) -> None:
    reply = client.post(path, body)

    assert (reply.status, reply.document["code"]) == (status, code)
