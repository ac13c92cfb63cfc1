# SPDX-License-Identifier: Apache-2.0
"""Queries over tags: what they mean, and what they refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_contract.errors import SelectionError
from edge_contract.selection import parse_query

BERLIN = {"site": "berlin", "hw": "pi4", "name": "hall 3"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("site=berlin", True),
        ("site = paris", False),
        ("site!=paris", True),
        ("beta!=1", True),
        ("beta", False),
        ("not beta", True),
        ("site", True),
        ("site=berlin and not hw=pi3", True),
        ("site=berlin and hw=pi3", False),
        # ``and`` binds before ``or``, ``not`` before both.
        ("site=berlin or site=paris and hw=pi3", True),
        ("(site=berlin or site=paris) and hw=pi3", False),
        ("not site=paris and hw=pi4", True),
        ("not (site=berlin and hw=pi4)", False),
        ("not not site=berlin", True),
        ('name="hall 3"', True),
        ('"name"="hall 3" and site=berlin', True),
        ('"and"=1', False),
    ],
)
def test_meaning(text: str, *, expected: bool) -> None:
    assert parse_query(text).matches(BERLIN) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "and",
        "site=",
        "=berlin",
        "site==berlin",
        "site=berlin and",
        "site=berlin hw=pi3",
        "(site=berlin",
        "site=berlin)",
        "site=and",
        'site="berlin',
        "site=ber\\lin",
        "site=berlín",
        "site;drop",
        "not " * 17 + "a",
        "(" * 17 + "a" + ")" * 17,
        "a" * 501,
        "a\x00b",
    ],
)
def test_what_is_no_query_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SelectionError) as caught:
        parse_query(text)

    assert caught.value.exit_code == 2
    assert caught.value.next_step


@given(st.text(max_size=600))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        query = parse_query(text)
    except SelectionError:
        return
    assert query.matches({}) in {True, False}


WORDS = st.sampled_from(
    ["a", "a=1", "a!=1", "b=2", "not", "and", "or", "(", ")", '"c d"', "="]
)


@given(st.lists(WORDS, max_size=12).map(" ".join))
def test_a_negated_query_is_its_opposite(text: str) -> None:
    try:
        query = parse_query(text)
    except SelectionError:
        return
    for tags in ({}, {"a": "1"}, {"a": "2", "b": "2"}, {"c d": ""}):
        assert parse_query(f"not ({text})").matches(tags) is not query.matches(tags)
