# SPDX-License-Identifier: Apache-2.0
"""Steps before the model: their values beside other implementations, and refusals."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_contract.errors import StepError
from edge_contract.steps import apply_pre, check_pre, source_shape

RANDOM = np.random.default_rng(7)
SCALE = {"step": "scale", "factor": "0.5", "offset": "-1"}
LOG_MEL = {
    "step": "log_mel",
    "samples": "4000",
    "rate": "16000",
    "frame": "400",
    "hop": "160",
    "mels": "40",
    "low": "20",
    "high": "7600",
}


def resize_step(taken: str, given: str) -> dict[str, str]:
    return {"step": "resize", "from": taken, "to": given}


def onnx_resize(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize by ONNX Runtime's own operator."""
    sizes = [len(frames), frames.shape[3], height, width]
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "Resize",
            ["first", "", "", "sizes"],
            ["second"],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        ),
        helper.make_node("Transpose", ["second"], ["y"], perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, frames.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("sizes", TensorProto.INT64, [4], sizes)],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(None, {"x": frames})[0]
    return found


@pytest.mark.parametrize(
    ("taken", "given"), [((48, 64), (96, 96)), ((97, 31), (24, 40)), ((5, 5), (5, 5))]
)
def test_resize_is_onnx_half_pixel_linear(
    taken: tuple[int, int], given: tuple[int, int]
) -> None:
    frames = RANDOM.random((2, *taken, 3), dtype=np.float32)
    step = resize_step(f"{taken[0]},{taken[1]},3", f"{given[0]},{given[1]}")

    found = apply_pre((step,), frames)

    assert found.dtype == np.float32
    assert found.shape == (2, *given, 3)
    np.testing.assert_allclose(found, onnx_resize(frames, *given), atol=1e-5)


def test_resize_to_the_same_size_changes_nothing() -> None:
    frames = RANDOM.random((1, 7, 9, 1), dtype=np.float32)
    np.testing.assert_array_equal(
        apply_pre((resize_step("7,9,1", "7,9"),), frames), frames
    )


def test_normalise_takes_one_mean_or_one_a_channel() -> None:
    frames = np.array([[[1.0, 10.0], [3.0, 30.0]]], dtype=np.float32)
    one = {"step": "normalise", "mean": "1", "sd": "2"}
    each = {"step": "normalise", "mean": "1,10", "sd": "2,20"}

    assert apply_pre((one,), frames).tolist() == [[[0.0, 4.5], [1.0, 14.5]]]
    assert apply_pre((each,), frames).tolist() == [[[0.0, 0.0], [1.0, 1.0]]]
    assert source_shape((each,), (2, 2)) == (2, 2)
    with pytest.raises(StepError, match=r"expected 2 channels, found a frame \[2, 3\]"):
        source_shape((each,), (2, 3))


def test_steps_are_applied_in_their_order() -> None:
    double = {"step": "scale", "factor": "2", "offset": "0"}
    frames = np.array([[1.0]], dtype=np.float32)

    assert apply_pre((double, SCALE), frames).tolist() == [[0.0]]
    assert apply_pre((SCALE, double), frames).tolist() == [[-1.0]]


def by_definition(sound: np.ndarray) -> np.ndarray:
    """Compute BND-18 by its text: sums over cosines and sines, bin by bin."""
    count, mels = 1 + (4000 - 400) // 160, 40
    window = [0.5 - 0.5 * np.cos(2 * np.pi * n / 400) for n in range(400)]
    ends = [1127 * np.log(1 + hertz / 700) for hertz in (20, 7600)]
    mel = [ends[0] + (ends[1] - ends[0]) * n / 41 for n in range(42)]
    found = np.zeros((count, mels))
    angles = 2 * np.pi * np.outer(np.arange(257), np.arange(400)) / 512
    for one in range(count):
        piece = sound[one * 160 : one * 160 + 400] * window
        magnitudes = np.hypot(np.cos(angles) @ piece, np.sin(angles) @ piece)
        for band in range(mels):
            low, middle, high = mel[band : band + 3]
            total = 0.0
            for number in range(1, 257):
                place = 1127 * np.log(1 + number * 16000 / 512 / 700)
                rising = (place - low) / (middle - low)
                falling = (high - place) / (high - middle)
                total += max(0.0, min(rising, falling)) * magnitudes[number]
            found[one, band] = np.log(total + 1e-6)
    return found


def test_log_mel_follows_its_definition() -> None:
    times = np.arange(4000) / 16000
    sound = np.sin(2 * np.pi * 440 * times) + 0.1 * RANDOM.normal(size=4000)
    found = apply_pre((LOG_MEL,), sound[np.newaxis].astype(np.float32))

    assert found.dtype == np.float32
    assert found.shape == (1, 23, 40)
    np.testing.assert_allclose(found[0], by_definition(sound), atol=1e-4)


@pytest.mark.slow
def test_log_mel_is_tensorflows() -> None:
    tensorflow = pytest.importorskip("tensorflow")
    sound = RANDOM.normal(size=4000).astype(np.float32)
    spectrum = tensorflow.abs(tensorflow.signal.stft(sound, 400, 160, 512))
    bank = tensorflow.signal.linear_to_mel_weight_matrix(40, 257, 16000, 20.0, 7600.0)
    expected = tensorflow.math.log(spectrum @ bank + 1e-6).numpy()

    found = apply_pre((LOG_MEL,), sound[np.newaxis])[0]

    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_log_mel_of_silence_is_the_floor_and_of_a_hole_missing() -> None:
    silence = np.zeros((1, 4000), dtype=np.float32)
    floor = np.float32(np.log(1e-6))
    assert (apply_pre((LOG_MEL,), silence) == floor).all()
    squared = {**LOG_MEL, "power": "2", "floor": "1"}
    assert (apply_pre((squared,), silence) == 0).all()

    silence[0, 3900] = np.nan
    found = apply_pre((LOG_MEL,), silence)[0]
    assert np.isnan(found[-1]).all()
    assert (found[0] == floor).all()


def test_the_shape_of_a_sources_frame_follows_from_the_steps() -> None:
    resize = resize_step("480,640,3", "96,96")

    assert source_shape((), (8, 3)) == (8, 3)
    assert source_shape((SCALE, resize), (96, 96, 3)) == (480, 640, 3)
    assert source_shape((SCALE, LOG_MEL), (23, 40, 1)) == (4000,)
    assert source_shape((LOG_MEL,), (920,)) == (4000,)
    for steps, shape in [
        ((resize,), (64, 96, 3)),
        ((LOG_MEL,), (40, 23)),
        ((resize, LOG_MEL), (23, 40)),
        ((resize, resize), (96, 96, 3)),
    ]:
        with pytest.raises(StepError):
            source_shape(steps, shape)


@pytest.mark.parametrize(
    "step",
    [
        {"step": "quantum"},
        {},
        {"step": "scale", "factor": "1"},
        {"step": "scale", "factor": "1", "offset": "0", "axis": "1"},
        {"step": "scale", "factor": "0", "offset": "0"},
        {"step": "scale", "factor": "1e400", "offset": "0"},
        {"step": "scale", "factor": "one", "offset": "0"},
        {"step": "scale", "factor": "1,2", "offset": "0"},
        {"step": "normalise", "mean": "0", "sd": "0"},
        {"step": "normalise", "mean": "0,1", "sd": "1"},
        {"step": "normalise", "mean": "", "sd": ""},
        resize_step("0,640,3", "96,96"),
        resize_step("480,640", "96,96"),
        resize_step("480,640,3", "96.5,96"),
        resize_step("16384,16384,3", "96,96"),
        {**LOG_MEL, "frame": "4001"},
        {**LOG_MEL, "frame": "1"},
        {**LOG_MEL, "high": "8001"},
        {**LOG_MEL, "low": "7600"},
        {**LOG_MEL, "power": "3"},
        {**LOG_MEL, "floor": "0"},
        {**LOG_MEL, "mels": "513"},
        {**LOG_MEL, "window": "hamming"},
    ],
)
def test_steps_that_are_unknown_or_wrong_are_refused(step: dict[str, str]) -> None:
    with pytest.raises(StepError):
        check_pre((step,))
