# SPDX-License-Identifier: Apache-2.0
"""The real watch recordings: where they come from and how they are split.

Owns: finding and verifying the data file of the `seglearn` wheel, the parts of
a recording, cutting frames, and the `.npz` files that the programs read.
Does not own: training (`train`), or anything that a product package needs.

Source: Burns et al., "Shoulder physiotherapy exercise recognition" (2018),
arXiv:1802.01489; distributed with seglearn under the BSD licence.
"""

from __future__ import annotations

import hashlib
import io
import typing
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np

if typing.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

__all__ = [
    "EXERCISES",
    "FEATURES",
    "FRAME_LENGTH",
    "HELD_OUT_SUBJECTS",
    "HOP",
    "LIVE_SUBJECTS",
    "PARTS",
    "SAMPLE_RATE_HZ",
    "SPARE_SUBJECTS",
    "Arm",
    "Part",
    "Recording",
    "WatchDataError",
    "cut_frames",
    "load_recordings",
    "read_rows",
    "select",
    "stack_frames",
    "take_part",
    "write_rows",
]

Arm = typing.Literal["left", "right"]

EXERCISES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
FEATURES = ("ax", "ay", "az", "wx", "wy", "wz")
SAMPLE_RATE_HZ = 50
FRAME_LENGTH = 128
HOP = 64

LIVE_SUBJECTS = (3, 4, 5, 6, 7, 8)
SPARE_SUBJECTS = (1, 2)
HELD_OUT_SUBJECTS = (9, 10)

Part = typing.Literal["train", "calibrate", "replay", "labelled", "unlabelled", "whole"]

PARTS: dict[Part, tuple[float, float]] = {
    "train": (0.0, 0.60),
    "calibrate": (0.60, 0.75),
    "replay": (0.75, 1.0),
    "labelled": (0.0, 0.30),
    "unlabelled": (0.30, 1.0),
    "whole": (0.0, 1.0),
}
"""Parts of one recording as fractions of its rows; a frame never crosses one."""

_DISTRIBUTION = "seglearn"
_DATA_FILE = "seglearn/data/watch_dataset.npy"
_DATA_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"


class WatchDataError(Exception):
    """The recordings are absent or are not the pinned ones."""


@dataclass(frozen=True)
class Recording:
    """Consecutive rows of one wearer doing one exercise with one arm.

    Attributes:
        subject: Wearer, 1 to 10.
        arm: The arm that wore the watch.
        exercise: Index into `EXERCISES`: the label of every row.
        rows: float32 [n, 6] in the order of `FEATURES`, 50 Hz.
    """

    subject: int
    arm: Arm
    exercise: int
    rows: npt.NDArray[np.float32]

    @property
    def wearer(self) -> str:
        """Subject and arm: `3L`."""
        return f"{self.subject}{self.arm[0].upper()}"

    @property
    def name(self) -> str:
        """Wearer and exercise, the same for every part: `3L-PEN`."""
        return f"{self.wearer}-{EXERCISES[self.exercise]}"


def load_recordings() -> tuple[Recording, ...]:
    """Load the 140 recordings from the installed `seglearn` distribution.

    Raises:
        WatchDataError: If the file is absent or its digest is not the pinned one.
    """
    data = _read_verified()
    # The only unpickling in this repository: the upstream file is a pickled
    # dict, and the digest above pins every byte of it before it is parsed.
    content = np.load(io.BytesIO(data), allow_pickle=True).item()
    return tuple(
        Recording(
            subject=int(subject),
            arm="right" if int(side) == 1 else "left",
            exercise=int(exercise),
            rows=np.ascontiguousarray(rows, dtype=np.float32),
        )
        for rows, exercise, subject, side in zip(
            content["X"], content["y"], content["subject"], content["side"], strict=True
        )
    )


def _read_verified() -> bytes:
    """Read the pinned data file without importing seglearn (it wants pandas)."""
    try:
        distribution = metadata.distribution(_DISTRIBUTION)
        data = Path(str(distribution.locate_file(_DATA_FILE))).read_bytes()
    except (metadata.PackageNotFoundError, OSError) as exc:
        message = (
            f"watch recordings: expected {_DATA_FILE} of the {_DISTRIBUTION} "
            f"distribution, found none ({exc}). Next: run `make setup`"
        )
        raise WatchDataError(message) from exc
    found = hashlib.sha256(data).hexdigest()
    if found != _DATA_SHA256:
        message = (
            f"watch recordings: expected sha256 {_DATA_SHA256}, found {found}. "
            "Next: install the pinned seglearn with `make setup`"
        )
        raise WatchDataError(message)
    return data


def select(
    recordings: Iterable[Recording], subjects: Sequence[int], arm: Arm
) -> tuple[Recording, ...]:
    """Keep the recordings of some wearers and one arm, in their given order."""
    return tuple(r for r in recordings if r.subject in subjects and r.arm == arm)


def take_part(recordings: Iterable[Recording], part: Part) -> tuple[Recording, ...]:
    """Cut the named part out of each recording.

    Example:
        >>> whole = Recording(3, "left", 0, np.zeros((100, 6), np.float32))
        >>> [len(take_part([whole], p)[0].rows) for p in PARTS]
        [60, 15, 25, 30, 70, 100]
    """
    start, stop = PARTS[part]
    return tuple(
        replace(r, rows=r.rows[int(len(r.rows) * start) : int(len(r.rows) * stop)])
        for r in recordings
    )


def cut_frames(
    rows: npt.NDArray[np.float32], hop: int = HOP
) -> npt.NDArray[np.float32]:
    """Cut rows [n, C] into frames [k, 128, C], `hop` rows apart; a rest is dropped."""
    if len(rows) < FRAME_LENGTH:
        return np.empty((0, FRAME_LENGTH, rows.shape[1]), np.float32)
    view = np.lib.stride_tricks.sliding_window_view(rows, FRAME_LENGTH, axis=0)
    return np.ascontiguousarray(view[::hop].transpose(0, 2, 1))


def stack_frames(
    recordings: Iterable[Recording], hop: int = HOP
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Frames float32 [n, 128, 6] of all recordings, and their labels int32 [n]."""
    cut = [(cut_frames(r.rows, hop), r.exercise) for r in recordings]
    frames = np.concatenate([frames for frames, _ in cut])
    labels = np.concatenate([np.full(len(f), e, np.int32) for f, e in cut])
    return frames, labels


def write_rows(path: Path, recordings: Sequence[Recording]) -> None:
    """Write recordings as the `.npz` that agent and converter read.

    Arrays: `x` float32 [n, 6], `recording` str [n], `group` str [n] (wearer and
    arm), `y` int32 [n], and the names `features` and `labels`. The file appears
    at once, so that an agent which watches `path` never reads half of it.
    """
    lengths = [len(r.rows) for r in recordings]
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        np.savez(
            stream,
            x=np.concatenate([r.rows for r in recordings]),
            recording=np.repeat([r.name for r in recordings], lengths),
            group=np.repeat([r.wearer for r in recordings], lengths),
            y=np.repeat(np.array([r.exercise for r in recordings], np.int32), lengths),
            features=np.array(FEATURES),
            labels=np.array(EXERCISES),
        )
    partial.replace(path)


def read_rows(path: Path) -> tuple[Recording, ...]:
    """Read recordings back from an `.npz` of rows (an exported sample, for one).

    The name of each recording must be one that `Recording.name` gives.
    """
    with np.load(path, allow_pickle=False) as content:
        x, names, y = content["x"], content["recording"], content["y"]
    found = []
    for name in dict.fromkeys(str(n) for n in names):
        chosen = names == name
        wearer = name.split("-", maxsplit=1)[0]
        found.append(
            Recording(
                subject=int(wearer[:-1]),
                arm="left" if wearer.endswith("L") else "right",
                exercise=int(y[chosen][0]),
                rows=np.ascontiguousarray(x[chosen], np.float32),
            )
        )
    return tuple(found)
