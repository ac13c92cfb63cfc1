# SPDX-License-Identifier: Apache-2.0
"""What flows from a source through the model to statistics and a sink.

Owns the values and the seams (Protocols) between ``sources``, ``runtime``, ``stats``,
``sinks`` and ``serve``, which are strangers to each other. It does nothing itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edge_contract.profile import ReferenceProfile

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grid:
    """How a model cuts frames: ``length`` rows of ``features``, every ``hop`` rows."""

    length: int
    hop: int
    features: int


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive rows of one stream.

    Attributes:
        stream: Names the stream; stable over its life.
        rows: float32 [n, C].
        times_us: int64 [n], event time of each row, microseconds since the epoch.
        is_start: Whether the stream begins here: frames never reach back over it.
        tag: Goes into the ids of the frames that end here, after the row number.
        id: What the source calls the last frame that ends here, instead.
    """

    stream: str
    rows: Float32
    times_us: Int64
    is_start: bool
    tag: str = ""
    id: str = ""


@dataclass(slots=True, eq=False)
class Result:
    """One inference as a sink sees it; ``error`` is None where it succeeded.

    Made at every inference: frozen, it would cost a microsecond more.

    Attributes:
        id: Of the frame, or what who asked calls it.
        time_us: Event time of its last row, microseconds since the epoch.
        digest: The release digest.
        output: float32 [K]; None where it failed.
        error: What went wrong.
        stream: As in ``Chunk``; empty for a frame that came by itself.
        ranked: Names and scores of what was decided on, the highest first.
        marks: ``quarantined``, ``label-wanted``, or none.
    """

    id: str
    time_us: int
    digest: str
    output: Float32 | None
    error: str | None
    stream: str = ""
    ranked: tuple[tuple[str, float], ...] = ()
    marks: tuple[str, ...] = ()


class Source(Protocol):
    """Where rows come from."""

    def read(self, grid: Grid) -> Chunk | None:
        """Return the next rows, at most those of one frame.

        Returns:
            None when nothing came within a moment; ask again unless ``is_exhausted``.

        Raises:
            SourceError: What is there cannot be read, or does not fit ``grid``.
        """

    @property
    def features(self) -> int | None:
        """Values of a row; None while that is not known."""

    @property
    def is_exhausted(self) -> bool:
        """Whether no row will ever come again."""

    def close(self) -> None:
        """Let go of what the source holds, and wake up a waiting ``read``."""


class Sink(Protocol):
    """Where results go. A failing sink never stops inference."""

    def write(self, result: Result) -> None:
        """Take one result; may buffer.

        Raises:
            SinkError: It cannot be written.
        """

    def flush(self) -> None:
        """Write what is buffered; called about once a second.

        Raises:
            SinkError: It cannot be written.
        """

    def close(self) -> None:
        """Write what is buffered, and let go of what the sink holds."""


@runtime_checkable
class Accountable(Protocol):
    """A source or sink that says in the status how it fares. Any thread may call it."""

    @property
    def account(self) -> Mapping[str, int | str]:
        """Counters by name, and under ``problem`` the last thing that went wrong."""


class Observer(Protocol):
    """Who counts what the model saw and said."""

    def record(
        self,
        stream: str,
        is_start: bool,  # noqa: FBT001 - ditto, for a name
        rows: Float32,
        times_us: Int64 | int,
        output: Float32 | None,
        latency_ns: int,
    ) -> None:
        """Take one inference; called once for each, failed or not, by one at a time.

        Args:
            stream: As in ``Chunk``.
            is_start: Whether the first of ``rows`` is the first of its stream.
            rows: float32 [n, C], the rows that no earlier inference held. Large frames
                may be kept instead of copied: nobody writes to them any more.
            times_us: int64 [n], their event times, never decreasing; one number where
                all are alike.
            output: float32 [K], or None where the inference failed; nobody writes to
                it any more.
            latency_ns: What the inference took.
        """

    def prepare(
        self,
        profile: ReferenceProfile,
        release: bytes,
        grid: Grid,
        reduce: Callable[[Float32], Float32] | None,
    ) -> Callable[[], None]:
        """Get ready to count for another release; slow, and on any thread.

        Args:
            profile: Its reference profile.
            release: Its digest.
            grid: Its frames.
            reduce: Turns frames (float32 [n, C]) into what is counted of them (float32
                [n, F]); None where these are the rows themselves.

        Returns:
            What makes the switch from the next ``record`` on; at once, and called
            where no ``record`` is under way.
        """


@dataclass(frozen=True, slots=True)
class Readings:
    """How the process and its machine fare; None where that cannot be told.

    Attributes:
        queue: Messages that the server has not acknowledged.
        rss_bytes: Resident memory of the process.
        cpu_permille: Processor time of the process, in thousandths of one core.
        temperature: Of the processor, in °C.
        is_throttled: Whether the processor runs slower than it could.
        disk_free_bytes: Left where the state folder is.
    """

    queue: int | None = None
    rss_bytes: int | None = None
    cpu_permille: int | None = None
    temperature: float | None = None
    is_throttled: bool | None = None
    disk_free_bytes: int | None = None


class Gauges(Protocol):
    """Who reads how the process and its machine fare. Any thread may call it."""

    def read(self) -> Readings:
        """Return the readings of now, or of a few seconds ago; never raises."""


class Watcher(Protocol):
    """Who looks on: a shadow model, a sampler."""

    def saw(self, data: Float32, result: Result) -> None:
        """Hear of one inference, on the thread that made it; returns at once.

        Args:
            data: float32, the frame as it was given; copy what is to be kept.
            result: What came of it.
        """


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a client may know of the model that serves in a slot.

    Attributes:
        name: The model's name, from its manifest.
        digest: The release digest, 64 hex digits.
        variant: The id of the variant that serves.
        runtime: ``litert``, ``onnxruntime`` and the like.
        runtime_version: Of the installed runtime.
        kernels: What really computes, in words: ``XNNPACK``, ``CPUExecutionProvider``.
        input_name: Name of the one input.
        input_shape: Its shape, batch (1) first; float32.
        output_name: Name of the one output.
        output_shape: Its shape after post-processing, batch (1) first; float32.
        labels: Names of the classes; empty where an output is real values.
    """

    name: str
    digest: str
    variant: str
    runtime: str
    runtime_version: str
    kernels: str
    input_name: str
    input_shape: tuple[int, ...]
    output_name: str
    output_shape: tuple[int, ...]
    labels: tuple[str, ...]


class ServedModel(Protocol):
    """A slot whose model answers requests. Any thread may call it."""

    @property
    def card(self) -> ModelCard | None:
        """The model that serves now; None while none does."""

    def infer(self, frame: Float32, request_id: str) -> Result:
        """Run and observe one frame; never raises for what the model does.

        Args:
            frame: float32 of the card's ``input_shape``, batch of 1 included.
            request_id: Becomes the result's id.

        Raises:
            ModelError: No model serves.
        """


class Repository(Protocol):
    """The slots of this device, as a server sees them. Any thread may call it."""

    @property
    def names(self) -> Sequence[str]:
        """The slots, in the order of the configuration."""

    def slot(self, name: str) -> ServedModel | None:
        """Return a slot by its name; None where there is none."""

    def load(self, name: str) -> None:
        """Serve the slot's committed release again.

        Raises:
            ModelError: There is none, or it cannot serve.
        """

    def unload(self, name: str) -> None:
        """Serve nothing in the slot until ``load``.

        Raises:
            ModelError: There is no such slot.
        """

    def feedback(
        self, name: str, labels: Sequence[tuple[str, str | int]]
    ) -> Mapping[str, int]:
        """Take labels for earlier answers of a slot.

        Args:
            name: The slot.
            labels: The id of an answer and its class, by name or number, each.

        Returns:
            How many were ``taken``, and how many refused for which reason.

        Raises:
            FeedbackError: The slot takes none.
            ModelError: There is no such slot.
        """


class Predictions(Protocol):
    """Stores of predictions computed ahead, to look up by key. Any thread may call."""

    @property
    def names(self) -> Sequence[str]:
        """The stores, in the order of the configuration."""

    def find(self, store: str, key: str) -> Mapping[str, object] | None:
        """Return the prediction under ``key``, ready for JSON; None without one.

        Raises:
            BatchError: There is no such store, or it cannot be read.
        """
