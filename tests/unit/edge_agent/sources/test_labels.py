# SPDX-License-Identifier: Apache-2.0
"""Inputs of labels: their form, and a file that another program writes."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import FeedbackError
from edge_agent.labelling import parse_labels
from edge_agent.sources.labels import MAX_BYTES, LabelFile


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "3",
        "null",
        "[[]]",
        '{"id": "a"}',
        '{"id": 1, "label": 2}',
        '{"id": "a", "label": 1.5}',
        '{"id": "a", "label": true}',
        '{"id": "a", "label": null}',
        '{"id": "a", "label": 1000000}',
        '{"id": "a", "label": "' + "x" * 65 + '"}',
        '{"id": "' + "x" * 257 + '", "label": 1}',
        '[{"id": "a", "label": 1}, 7]',
        "[" * 100_000,
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(FeedbackError) as caught:
        parse_labels(text.encode())

    assert caught.value.reason == "malformed"


@given(st.binary(max_size=200))
def test_any_bytes_give_labels_or_the_one_refusal(data: bytes) -> None:
    try:
        found = parse_labels(data)
    except FeedbackError:
        return
    assert all(isinstance(name, str) for name, _ in found)


def test_several_labels_come_in_one_message() -> None:
    text = json.dumps([{"id": "a", "label": 1}, {"id": "b", "label": "run"}])

    assert parse_labels(text.encode()) == [("a", 1), ("b", "run")]


def append(path: Path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)


def test_a_file_gives_whole_lines_that_were_appended_since(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    append(path, '{"id": "old", "label": 1}\n')
    labels = LabelFile(path)
    assert labels.read() == []

    append(path, '{"id": "a", "label": 1}\n\n{"id": "b", ')
    assert labels.read() == [("a", 1)]
    append(path, '"label": "run"}\nnonsense\n')
    assert labels.read() == [("b", "run")]
    assert labels.read() == []

    account = labels.account
    assert (account["came"], account["refused"]) == (2, 1)


def test_a_file_that_comes_later_is_replaced_or_cut_is_read_anew(
    tmp_path: Path,
) -> None:
    path, fresh = tmp_path / "labels.jsonl", tmp_path / "fresh.jsonl"
    labels = LabelFile(path)
    assert labels.read() == []

    append(path, '{"id": "a", "label": 1}\n{"id": "b", "label": 1}\n')
    assert len(labels.read()) == 2
    append(fresh, '{"id": "c", "label": 1}\n')
    fresh.replace(path)
    assert labels.read() == [("c", 1)]
    path.write_text("")
    append(path, '{"id":"d","label":1}\n')
    assert labels.read() == [("d", 1)]


def test_a_line_without_an_end_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    labels = LabelFile(path)
    append(path, "x" * (2 * MAX_BYTES + 2))
    for _ in range(3):
        assert labels.read() == []
    append(path, '\n{"id": "a", "label": 1}\n')

    assert labels.read() == [("a", 1)]
    assert labels.account["refused"] == 2
