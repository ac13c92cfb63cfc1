# SPDX-License-Identifier: Apache-2.0
"""The step ``log_mel``: sound to the logarithm of its mel spectrogram.

Owns one fixed definition (docs/spec/bundle.md, BND-18), which is that of ``tf.signal``
for frames of even length: no padding, a periodic Hann window, an FFT of the next power
of two, magnitudes or their squares, triangles that are linear in mel, and the natural
logarithm of the sum and a floor. Mel is HTK's, 1127 ln(1 + f / 700) (Davis and
Mermelstein, IEEE TASSP 28, 1980; The HTK Book, 5.6). All in float64 until the end.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edge_contract.errors import StepError
from edge_contract.steps.parameters import Parameters, StepSpec

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
_NEEDED = frozenset({"samples", "rate", "frame", "hop", "mels", "low", "high"})
_OPTIONAL = frozenset({"power", "floor"})


@dataclass(frozen=True)
class LogMel:
    """From ``samples`` values of sound to [frames, ``mels``].

    Attributes:
        samples: Values of one model input.
        rate: Samples a second.
        frame: Samples of a spectrum.
        hop: Samples between two spectra.
        mels: Bands of the filter bank.
        low: Where the first band begins, in Hz.
        high: Where the last band ends, in Hz.
        power: 1 for magnitudes, 2 for their squares.
        floor: Added before the logarithm.
    """

    samples: int
    rate: float
    frame: int
    hop: int
    mels: int
    low: float
    high: float
    power: int
    floor: float

    @classmethod
    def parse(cls, step: StepSpec, place: str) -> Self:
        """Read the parameters; ``power`` is 1 and ``floor`` 1e-6 where left out.

        Raises:
            StepError: A parameter is no number, or they do not fit each other.
        """
        parameters = Parameters(step, place, _NEEDED, _OPTIONAL)
        made = cls(
            samples=parameters.whole("samples"),
            rate=parameters.number("rate"),
            frame=parameters.whole("frame"),
            hop=parameters.whole("hop"),
            mels=parameters.whole("mels"),
            low=parameters.number("low"),
            high=parameters.number("high"),
            power=parameters.whole("power", "1"),
            floor=parameters.number("floor", "1e-6"),
        )
        rules = [
            (
                2 <= made.frame <= made.samples,
                "a frame of 2 samples or more, that fits",
            ),
            (made.mels <= 512 and made.power in {1, 2}, "mels to 512, power 1 or 2"),
            (0 <= made.low < made.high <= made.rate / 2, "0 <= low < high <= rate / 2"),
            (made.floor > 0, "a floor above 0"),
        ]
        for holds, wanted in rules:
            if not holds:
                raise parameters.refused(wanted)
        return made

    @property
    def takes(self) -> tuple[int, ...] | None:
        """The shape of a model input before this step."""
        return (self.samples,)

    @property
    def frames(self) -> int:
        """How many spectra come of the samples."""
        return 1 + (self.samples - self.frame) // self.hop

    def gives(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what comes of sound of ``shape``.

        Raises:
            StepError: Another number of samples.
        """
        if math.prod(shape) != self.samples:
            msg = f"log_mel: expected {self.samples} samples, found {list(shape)}"
            raise StepError(msg, next_step="give their number as samples")
        return (self.frames, self.mels)

    def apply(self, frames: Float32) -> Float32:
        """Return log-mel spectrograms.

        Args:
            frames: float32 [n, ...] of ``samples`` values each.

        Returns:
            float32 [n, frames, mels].
        """
        sound = frames.reshape(len(frames), self.samples).astype(np.float64)
        starts = np.arange(self.frames) * self.hop
        places = starts[:, np.newaxis] + np.arange(self.frame)
        window, bank = _tables(self)
        size = 1 << (self.frame - 1).bit_length()
        spectrum = np.abs(np.fft.rfft(sound[:, places] * window, size))
        with np.errstate(invalid="ignore"):
            mel = (spectrum**self.power) @ bank
            found: Float32 = np.log(mel + self.floor).astype(np.float32)
        return found


@lru_cache(maxsize=4)
def _tables(step: LogMel) -> tuple[Float64, Float64]:
    """Return the window [frame] and the filter bank [bins, mels]."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(step.frame) / step.frame)
    size = 1 << (step.frame - 1).bit_length()
    bins = _mel(np.arange(1, size // 2 + 1) * (step.rate / size))  # DC is left out
    low, high = _mel(np.array([step.low, step.high])).tolist()
    edges = np.linspace(low, high, step.mels + 2)
    below, middle, above = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, np.newaxis] - below) / (middle - below)
    falling = (above - bins[:, np.newaxis]) / (above - middle)
    bank = np.minimum(rising, falling).clip(0.0)
    return window, np.concatenate((np.zeros((1, step.mels)), bank))


def _mel(hertz: NDArray[np.floating[Any]]) -> Float64:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0), dtype=np.float64)
