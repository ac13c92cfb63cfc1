# SPDX-License-Identifier: Apache-2.0
"""The camera source on a real video file, and on what is none."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent.config.sources import CameraSourceConfig
from edge_agent.errors import SourceError
from edge_agent.flow import Chunk, Grid
from edge_agent.sources.camera import CameraSource
from tests.support.agent_doubles import ManualClock
from tests.support.sinks import await_true

HEIGHT, WIDTH = 48, 64
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))  # red, green, blue
RGB = Grid(1, 1, HEIGHT * WIDTH * 3)
GREY = Grid(1, 1, HEIGHT * WIDTH)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "three.avi"
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), codec, 10, (WIDTH, HEIGHT))
    for colour in COLOURS:
        picture = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        picture[:] = colour[::-1]  # OpenCV writes blue first
        writer.write(picture)
    writer.release()
    return path


@pytest.fixture
def opened() -> Iterator[list[CameraSource]]:
    made: list[CameraSource] = []
    yield made
    for one in made:
        one.close()


def make(opened: list[CameraSource], device: str, **more: Any) -> CameraSource:
    opened.append(CameraSource(CameraSourceConfig(device, **more), ManualClock()))
    return opened[-1]


def take(source: CameraSource, grid: Grid, count: int) -> list[Chunk]:
    found: list[Chunk] = []

    def is_enough() -> bool:
        chunk = source.read(grid)
        found.extend([] if chunk is None else [chunk])
        return len(found) == count

    await_true(is_enough)
    return found


def test_every_picture_of_a_file_comes_in_order_and_in_rgb(
    video: Path, opened: list[CameraSource]
) -> None:
    source = make(opened, str(video))
    chunks = take(source, RGB, 3)

    for chunk, colour in zip(chunks, COLOURS, strict=True):
        picture = chunk.rows.reshape(HEIGHT, WIDTH, 3)
        assert chunk.rows.dtype == np.float32
        np.testing.assert_allclose(picture[HEIGHT // 2, WIDTH // 2], colour, atol=12)
    assert [one.is_start for one in chunks] == [True, False, False]
    await_true(lambda: source.is_exhausted)
    assert source.features == HEIGHT * WIDTH * 3
    assert source.account["taken"] == 3


def test_grey_is_one_channel_and_a_file_may_be_repeated(
    video: Path, opened: list[CameraSource]
) -> None:
    source = make(opened, str(video), colour="grey", repeat=True)
    chunks = take(source, GREY, 7)
    means = [float(one.rows.mean()) for one in chunks]
    assert means[:3] == pytest.approx(means[3:6], abs=1)
    assert not source.is_exhausted


def test_pictures_of_another_size_say_what_to_build(
    video: Path, opened: list[CameraSource]
) -> None:
    source = make(opened, str(video))
    with pytest.raises(SourceError, match="found 48,64,3") as caught:
        take(source, Grid(1, 1, 96 * 96 * 3), 1)
    assert "resize from=48,64,3" in (caught.value.next_step or "")


def test_what_is_no_video_is_named(tmp_path: Path, opened: list[CameraSource]) -> None:
    path = tmp_path / "notes.avi"
    path.write_bytes(b"no video")
    source = make(opened, str(path))
    await_true(lambda: source.is_exhausted)
    assert source.account == {"lost": 1, "problem": "no video that OpenCV can read"}


def test_a_camera_that_is_not_there_is_tried_again(
    opened: list[CameraSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.camera.RETRY_SECONDS", 0.01)
    source = make(opened, "/dev/video97")
    await_true(lambda: int(source.account.get("lost", 0)) >= 2)
    assert source.read(RGB) is None
    assert not source.is_exhausted


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SourceError, match="OpenCV is not installed"):
        CameraSource(CameraSourceConfig("/dev/video0"), ManualClock())
