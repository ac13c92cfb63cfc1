# SPDX-License-Identifier: Apache-2.0
"""The ``camera`` source: pictures of a camera or a video file, through OpenCV.

Owns the thread that takes pictures. Of a camera only the newest waits for inference:
the others are dropped and counted, so that what is inferred is never old. Of a file
each picture waits its turn. Pictures are delivered as they are, 0 to 255; another size
is a step of the bundle (``resize``).

OpenCV, and not PyAV: its wheels hold FFmpeg under the LGPL, PyAV's hold x264 and x265
under the GPL.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.clock import Clock
from edge_agent.config.sources import CameraSourceConfig
from edge_agent.errors import SourceError
from edge_agent.flow import Chunk, Float32, Grid
from edge_agent.tally import Tally

POLL_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 2.0
JOIN_SECONDS: Final = 5.0
STREAM: Final = "camera"


class CameraSource:
    """Takes pictures in a thread of its own.

    Args:
        config: What it was told.
        clock: Stamps pictures.

    Raises:
        SourceError: OpenCV is not installed.
    """

    def __init__(self, config: CameraSourceConfig, clock: Clock) -> None:
        self._opencv = _import_opencv()
        self._config = config
        self._clock = clock
        self._is_file = Path(config.device).is_file()
        self._tally = Tally(f"source camera {config.device}")
        self._pictures: deque[tuple[Float32, int]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_ended = False
        self._is_first = True
        self._shape: tuple[int, ...] | None = None
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    @property
    def features(self) -> int | None:
        """Values of a picture; None before the first one."""
        return None if self._shape is None else math.prod(self._shape)

    @property
    def is_exhausted(self) -> bool:
        """Whether a file is at its end."""
        return self._is_ended and not self._pictures

    @property
    def account(self) -> Mapping[str, int | str]:
        """Pictures taken, dropped, and what went wrong."""
        return self._tally.account

    def read(self, grid: Grid) -> Chunk | None:
        """Return the next picture as one row; see ``Source.read``.

        Raises:
            SourceError: The model takes pictures of another size.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._pictures or self._is_ended or self._is_closed,
                POLL_SECONDS,
            )
            if not self._pictures:
                return None
            picture, time_us = self._pictures.popleft()
            self._changed.notify_all()
        if picture.size != grid.features:
            size = ",".join(str(one) for one in picture.shape)
            msg = (
                f"source camera: expected pictures of {grid.features} values, found "
                f"{size}"
            )
            next_step = f"build the bundle with --pre 'resize from={size} to=…'"
            raise SourceError(msg, next_step=next_step)
        is_start, self._is_first = self._is_first, False
        times = np.array([time_us], dtype=np.int64)
        return Chunk(STREAM, picture.reshape(1, -1), times, is_start)

    def close(self) -> None:
        """Let go of the camera, and wake up a waiting ``read``."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        while not self._is_closed:
            capture = self._open()
            try:
                if capture.isOpened():
                    self._take_all(capture)
                elif self._is_file:
                    self._tally.complain("lost", "no video that OpenCV can read")
                    break
            finally:
                capture.release()
            if self._is_file:
                if not self._config.repeat:
                    break
                continue
            if not self._is_closed:
                self._tally.complain("lost", "the camera gives no picture")
                self._pause(RETRY_SECONDS)
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def _open(self) -> Any:
        opencv, device = self._opencv, self._config.device
        number = device.removeprefix("/dev/video")
        is_local = number != device and number.isdecimal()
        capture = opencv.VideoCapture(int(number) if is_local else device)
        sizes = {
            opencv.CAP_PROP_FRAME_WIDTH: self._config.width,
            opencv.CAP_PROP_FRAME_HEIGHT: self._config.height,
        }
        for name, value in sizes.items():
            if value is not None:
                capture.set(name, value)
        return capture

    def _take_all(self, capture: Any) -> None:
        period = 1 / self._config.rate if self._config.rate else 0.0
        due = time.monotonic()
        while not self._is_closed:
            is_there, picture = capture.read()
            if not is_there:
                return
            early = due - time.monotonic()
            if early > 0:
                if not self._is_file:
                    continue  # a camera does not wait: pass pictures over
                self._pause(early)
            due = max(due + period, time.monotonic() - period)
            self._keep(self._coloured(picture))

    def _keep(self, picture: Float32) -> None:
        with self._changed:
            if self._is_file:
                self._changed.wait_for(lambda: not self._pictures or self._is_closed)
            elif self._pictures:
                self._pictures.clear()
                self._tally.count("dropped")
            self._shape = picture.shape
            self._pictures.append((picture, self._clock.wall_us()))
            self._tally.count("taken")
            self._changed.notify_all()

    def _coloured(self, picture: Any) -> Float32:
        opencv = self._opencv
        if self._config.colour == "grey":
            picture = opencv.cvtColor(picture, opencv.COLOR_BGR2GRAY)[:, :, np.newaxis]
        else:
            picture = opencv.cvtColor(picture, opencv.COLOR_BGR2RGB)
        return np.asarray(picture, dtype=np.float32)

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, seconds)


def _import_opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        msg = "source camera: OpenCV is not installed"
        raise SourceError(
            msg,
            next_step="pip install 'edgeloop[camera]', or Debian's python3-opencv",
        ) from error
    return cv2
