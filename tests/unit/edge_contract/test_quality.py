# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_contract.errors import StepError
from edge_contract.quality import (
    AUDIO_FEATURES,
    EMBEDDING_FEATURES,
    IMAGE_FEATURES,
    feature_names,
    observe,
    project,
    signs,
)

RANDOM = np.random.default_rng(3)


def image(of: dict[str, float]) -> np.ndarray:
    pixels = RANDOM.normal(0.5, of.get("contrast", 0.1), size=(1, 96, 96, 3))
    return (pixels + of.get("brightness", 0.0)).clip(0, 1).astype(np.float32)


def seen(frames: np.ndarray, kind: str = "image") -> dict[str, float]:
    row = observe(kind, frames)[0]
    return dict(zip(feature_names(kind, 0), row.tolist(), strict=True))


def test_a_dark_a_flat_and_a_blurred_image_differ_where_they_should() -> None:
    plain = seen(image({}))
    assert plain["mean"] == pytest.approx(0.5, abs=0.01)
    assert seen(image({"brightness": -0.6}))["dark"] > 0.9
    assert seen(image({"brightness": 0.6}))["bright"] > 0.9
    assert seen(image({"contrast": 0.01}))["contrast"] < plain["contrast"] / 5
    sharp = image({})
    blurred = (sharp + np.roll(sharp, 2, 1) + np.roll(sharp, 2, 2)) / 3
    assert seen(blurred)["sharpness"] < plain["sharpness"] / 2


def test_the_value_range_says_what_black_and_white_are() -> None:
    frames = image({})
    again = observe("image", frames * 255, (0.0, 255.0))
    assert np.allclose(again, observe("image", frames), atol=1e-5)


def test_a_clipped_and_a_silent_recording_are_told_apart() -> None:
    time = np.arange(16_000, dtype=np.float32) / 16_000
    tone = np.sin(2 * np.pi * 440 * time)[np.newaxis] * np.float32(0.5)
    plain, loud = seen(tone, "audio"), seen((tone * 9).clip(-1, 1), "audio")
    assert plain["rms"] == pytest.approx(0.3535, abs=1e-3)
    assert plain["crossings"] == pytest.approx(880 / 16_000, rel=0.01)
    assert (plain["clipped"], loud["clipped"] > 0.5) == (0.0, True)
    noise = seen(RANDOM.normal(size=(1, 16_000)).astype(np.float32), "audio")
    assert noise["flatness"] > 100 * plain["flatness"]


def test_projections_are_the_same_on_every_machine() -> None:
    assert signs(6).shape == (8, 6)
    bits = "".join("+" if one > 0 else "-" for one in signs(6)[0])
    assert bits == "+-+---"
    found = project(np.arange(6, dtype=np.float32)[np.newaxis])
    assert found[0, -1] == pytest.approx(np.sqrt(55))


@pytest.mark.parametrize("kind", ["image", "audio", "embedding"])
def test_a_frame_that_is_not_finite_gives_nothing_finite(kind: str) -> None:
    frames = np.zeros((2, 8, 8, 1), dtype=np.float32)
    frames[1, 3, 3, 0] = np.inf
    found = observe(kind, frames if kind == "image" else frames.reshape(2, -1))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


@given(
    hnp.arrays(
        np.float32,
        (3, 5),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
    )
)
def test_what_is_finite_stays_finite(values: np.ndarray) -> None:
    assert np.isfinite(project(values)).all()


def test_names_match_what_is_observed() -> None:
    frames = np.zeros((2, 8, 8, 1), dtype=np.float32)
    assert observe("image", frames).shape == (2, len(IMAGE_FEATURES))
    flat = frames.reshape(2, -1)
    assert observe("audio", flat).shape == (2, len(AUDIO_FEATURES))
    assert observe("embedding", flat).shape == (2, len(EMBEDDING_FEATURES))
    assert observe("vector", flat) is not None
    assert feature_names("vector", 2) == ("f0", "f1")
    assert feature_names("vector", 2, ("a", "b")) == ("a", "b")


def test_an_image_needs_its_channels() -> None:
    with pytest.raises(StepError, match=r"\[n, H, W, C\]"):
        observe("image", np.zeros((2, 8, 8), dtype=np.float32))
