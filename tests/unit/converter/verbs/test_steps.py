# SPDX-License-Identifier: Apache-2.0
"""Steps on the command line: the syntax, the shorthand, and what is refused."""

import argparse

import pytest

from converter.errors import ConvertUsageError
from converter.verbs.steps import add_pre, read_post, read_pre


def read(*told: str) -> tuple[dict[str, str], ...]:
    parser = argparse.ArgumentParser()
    add_pre(parser)
    return read_pre(parser.parse_args(told))


def test_steps_are_read_in_their_order() -> None:
    found = read(
        "--pre",
        "resize from=480,640,3 to=96,96",
        "--pre",
        "normalise mean=1/2,0.25 sd=1,2",
    )
    assert found == (
        {"step": "resize", "from": "480,640,3", "to": "96,96"},
        {"step": "normalise", "mean": "0.5,0.25", "sd": "1,2"},
    )
    assert read() == ()


def test_scale_is_a_shorthand_and_excludes_pre() -> None:
    assert read("--scale", "1/4,-1") == (
        {"step": "scale", "factor": "0.25", "offset": "-1.0"},
    )
    with pytest.raises(ConvertUsageError, match="--pre and --scale"):
        read("--scale", "1/4", "--pre", "scale factor=1 offset=0")


def test_post_takes_what_comes_after_observation() -> None:
    texts = ("smoothing method=mean results=5", "threshold at=0.6")
    assert [one["step"] for one in read_post(texts)] == ["smoothing", "threshold"]
    with pytest.raises(ConvertUsageError, match="in this order"):
        read_post(tuple(reversed(texts)))
    with pytest.raises(ConvertUsageError, match="softmax"):
        read_post(("softmax",))


@pytest.mark.parametrize(
    "text",
    ["", "scale", "scale factor", "scale factor=1 factor=2 offset=0", "blur by=3"],
)
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(ConvertUsageError, match="--pre: "):
        read("--pre", text)


@pytest.mark.parametrize("text", ["scale factor=1/0 offset=0", "scale factor=a/b"])
def test_what_is_no_fraction_is_refused(text: str) -> None:
    with pytest.raises(ConvertUsageError, match="--pre: "):
        read("--pre", text)
