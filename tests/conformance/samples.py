# SPDX-License-Identifier: Apache-2.0
"""The values behind the golden bytes; ``python -m tests.conformance.samples`` writes.

Bytes under ``vectors/`` are never regenerated for a released format: a change here that
changes them is a new format.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_contract.canonical import encode_cbor, encode_json
from edge_contract.envelope import seal
from edge_contract.evidence import Feedback, Shadow, encode_feedback
from edge_contract.golden import GoldenVectors, Tolerance
from edge_contract.keys import DeviceKeys, derive_device_key
from edge_contract.messages import (
    Ack,
    Announce,
    Birth,
    Command,
    DownMessage,
    Event,
    Reply,
    State,
    UpdateReport,
    UpMessage,
    Want,
    encode_message,
)
from edge_contract.operations import Operations, count_latencies, encode_operations
from edge_contract.profile import (
    FeatureReference,
    OutputReference,
    ReferenceProfile,
    ValueReference,
)
from edge_contract.reference_model import Linear, ReferenceModel, Trees
from edge_contract.topics import up_topic
from edge_contract.window import StatisticsBuilder, WindowStatistics
from edge_contract.window_report import WindowReport, encode_blocks

FOLDER = Path(__file__).parent / "vectors"
BOOT_ID = bytes.fromhex("0102030405060708")
DIGEST = bytes(range(32))
MASTER_KEY = bytes(range(100, 132))
TOPIC = up_topic("default", "watch-3", "window")
TIME_US = 1_790_000_000_000_000


def profile() -> ReferenceProfile:
    """Two features of four and one bins, two labels."""
    return ReferenceProfile(
        kind="series",
        features=(
            FeatureReference(
                "ax",
                np.array([-1, 0, 1], np.float32),
                np.array([5, 5, 5, 5], np.int64),
                1,
                *(0.0, 1.0, -3.0, 3.0, 0.25, 0.125, 0.5, 0.0625),
            ),
            FeatureReference(
                "constant",
                np.array([], np.float32),
                np.array([21], np.int64),
                0,
                *(2.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0),
            ),
        ),
        outputs=OutputReference(
            labels=("rest", "é"),
            class_counts=np.array([3, 4], np.int64),
            confidence_edges=(np.arange(1, 16) / 16).astype(np.float32),
            confidence_counts=np.arange(16, dtype=np.int64),
            confidence_correct=np.zeros(16, dtype=np.int64),
            margin_edges=(np.arange(1, 8) / 8).astype(np.float32),
            margin_counts=np.arange(8, dtype=np.int64),
        ),
        unit_rows=8,
        groups=2,
        triads=(),
    )


def real_profile() -> ReferenceProfile:
    """Images, and two real values out."""
    reference = profile()
    values = ValueReference(reference.features, 2)
    return replace(reference, kind="image", outputs=values)


def full_profile() -> ReferenceProfile:
    """A category, repeats, and a confusion matrix."""
    reference = profile()
    first, second = reference.features
    category = replace(
        second,
        name="mode",
        categories=np.array([1, 2, 7], np.float32),
        counts=np.array([9, 8, 3, 1], np.int64),
        repeat_ppm=250_000,
        longest_run=6,
    )
    outputs = reference.outputs
    assert isinstance(outputs, OutputReference)
    outputs = replace(outputs, confusion=np.array([[3, 1], [0, 300]]))
    return replace(reference, features=(first, category), outputs=outputs)


def window_report() -> WindowReport:
    """Three rows with a missing value, and one inference."""
    reference = profile()
    builder = StatisticsBuilder(reference)
    builder.add_rows(np.array([[-5, 2], [0.5, 2], [np.nan, 3]], np.float32))
    builder.add_outputs(np.array([[0.25, 0.75]], np.float32))
    count_block, moment_block = encode_blocks(builder.statistics)
    return WindowReport(
        BOOT_ID,
        300,
        reference.ref_id,
        DIGEST[:8],
        TIME_US,
        300_000_000,
        12_345_678,
        clock_synced=True,
        rows=3,
        inferences=1,
        failed=0,
        lost=2,
        covers=(298, 299),
        count_block=count_block,
        moment_block=moment_block,
    )


def evidence_report() -> WindowReport:
    """Five labels of which two contradict the model, and a shadow."""
    labels, errors = np.zeros(16, np.int64), np.zeros(16, np.int64)
    labels[[3, 15]], errors[3] = (2, 3), 2
    block = encode_feedback(Feedback(labels, errors))
    shadow = Shadow(DIGEST[8:16], 300, 7)
    return replace(window_report(), feedback_block=block, shadow=shadow)


def private_report() -> WindowReport:
    """As many counts as the profile has, each its place less 4, epsilon 0.5."""
    statistics = WindowStatistics.empty(profile())
    size, first = len(statistics.counts), profile().layout.below.start
    counts = np.arange(size) - 4
    counts[first : first + 6] = 0  # below, above and repeat of two features
    noised = replace(statistics, counts=counts, epsilon_millionths=500_000)
    count_block, moment_block = encode_blocks(noised)
    return replace(
        window_report(),
        rows=25,
        inferences=23,
        count_block=count_block,
        moment_block=moment_block,
        epsilon_millionths=500_000,
    )


def reference_linear() -> ReferenceModel:
    """Two inputs, scaled; two classes."""
    body = Linear(
        np.array([[1, 2], [-0.5, 0.25]], np.float32), np.array([0, 1], np.float32)
    )
    affine = np.array([1, 2], np.float32), np.array([0.5, 4], np.float32)
    return ReferenceModel(2, body, "softmax", affine)


def reference_trees() -> ReferenceModel:
    """A split of the second of two inputs where a NaN goes below, and a leaf."""
    body = Trees(
        roots=np.array([0, 3], np.int32),
        features=np.array([1, -1, -1, -1], np.int32),
        thresholds=np.array([0.5, 0, 0, 0], np.float32),
        below=np.array([1, 0, 1, 2], np.int32),
        above=np.array([2, 0, 0, 0], np.int32),
        missing_below=np.array([1, 0, 0, 0], np.uint8),
        values=np.array([[-1], [1], [0.25]], np.float32),
        base=np.array([0.5], np.float32),
    )
    return ReferenceModel(2, body, "pair")


def operations() -> Operations:
    """Three latencies, and all that a device can tell."""
    return Operations(
        latency=count_latencies(np.array([900, 5_000, 10**12], np.int64)),
        elapsed_ms=300_000,
        queue=0,
        rss_kib=41_000,
        cpu_permille=130,
        temperature=-5,
        is_throttled=True,
        disk_free_mib=12_000,
    )


def update_report() -> UpdateReport:
    """A trial that a release did not pass."""
    return UpdateReport(
        boot_id=BOOT_ID,
        seq=3,
        slot="main",
        state="failed",
        digest=DIGEST,
        serving=b"",
        desired_version=4,
        attempt=1,
        downloaded_bytes=77,
        time_us=TIME_US,
        reason="ota.x",
        detail="y",
        fields={"compared": 200, "invariant": "latency"},
    )


def all_vectors() -> dict[str, bytes]:
    """Return every golden byte string by name."""
    keys = DeviceKeys.from_device_key(derive_device_key(MASTER_KEY, "watch-3", 2), 2)
    messages: dict[str, UpMessage | DownMessage | State | Announce] = {
        "birth": Birth(
            BOOT_ID,
            1,
            "0.1.0",
            {"arch": "armv7l", "cores": 4},
            {"litert": "2.3.0"},
            {"main": DIGEST},
            {"main": BOOT_ID},
            3,
            (("a.b", "not here"),),
            1,
            9,
            TIME_US,
            clock_synced=False,
        ),
        "event": Event(BOOT_ID, 2, "sensor.stuck", "error", TIME_US, "ax", {"n": -1}),
        "update": update_report(),
        "reply": Reply(BOOT_ID, 4, "c1", accepted=True),
        "window": window_report(),
        "state": State(BOOT_ID, online=False, time_us=TIME_US, serving={}),
        "ack": Ack(1, 2, ((BOOT_ID, 7, b"\x05"),)),
        "want": Want(2, 3, 4, {"statistics.window": "5m"}, {"site": "lyon"}),
        "command": Command(3, 4, "c1", "sample", {"head": "0.3"}),
        "announce": Announce(7, 30),
    }
    golden = GoldenVectors(
        inputs=np.array([[1.5]], np.float32),
        outputs={"int8": np.array([[0.25, 0.75]], np.float32)},
        tolerances={"int8": Tolerance("lsb", 0.0078125, 0.05)},
    )
    body = window_report().encode()
    block = encode_operations(operations())
    return {
        **{f"message-{name}": encode_message(one) for name, one in messages.items()},
        "message-window-operations": replace(
            window_report(), operation_block=block
        ).encode(),
        "message-window-evidence": evidence_report().encode(),
        "message-window-private": private_report().encode(),
        "cbor": encode_cbor({1: [True, None, -(2**63)], 24: b"\0", "k": "é"}),
        "json": encode_json({"b": ["0.5"], "a": {"é": None}}),
        "profile": profile().encoded,
        "profile-values": real_profile().encoded,
        "profile-full": full_profile().encoded,
        "golden": golden.encode(),
        "reference-linear": reference_linear().encode(),
        "reference-trees": reference_trees().encode(),
        "key-up": keys.up,
        "key-down": keys.down,
        "key-broker": keys.broker_password.encode(),
        "envelope": seal(body, key=keys.up, epoch=keys.epoch, aad=TOPIC),
    }


def main() -> None:
    """Write the vectors that do not exist yet."""
    FOLDER.mkdir(exist_ok=True)
    for name, data in all_vectors().items():
        path = FOLDER / f"{name}.hex"
        if not path.exists():
            path.write_text(data.hex() + "\n")


if __name__ == "__main__":
    main()
