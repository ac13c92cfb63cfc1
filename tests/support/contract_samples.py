# SPDX-License-Identifier: Apache-2.0
"""Small, complete contract objects that tests build on."""

import numpy as np

from edge_contract.binning import BinTable, equal_mass_edges
from edge_contract.canonical import sha256_hex
from edge_contract.golden import GoldenVectors, Tolerance
from edge_contract.manifest import InputSpec, Manifest, OutputSpec, Variant
from edge_contract.profile import FeatureReference, OutputReference, ReferenceProfile
from edge_contract.window import StatisticsBuilder, WindowStatistics

BOOT_ID = bytes(range(8))


def make_profile(features: int = 3, labels: int = 4, seed: int = 1) -> ReferenceProfile:
    """Build a profile over standard normal features."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(800, features)).astype(np.float32)
    references = []
    for index in range(features):
        edges = equal_mass_edges(rows[:, index])
        references.append(
            FeatureReference(
                name=f"f{index}",
                edges=edges,
                counts=BinTable([edges]).count(rows[:, index : index + 1]),
                missing=0,
                mean=float(rows[:, index].mean()),
                sd=float(rows[:, index].std()),
                low=-4.0,
                high=4.0,
                location_within=0.25,
                location_between=0.125,
                scale_within=0.5,
                scale_between=0.0625,
            )
        )
    outputs = OutputReference(
        labels=tuple(f"class-{index}" for index in range(labels)),
        class_counts=np.full(labels, 5, dtype=np.int64),
        confidence_edges=np.linspace(0.3, 0.98, 15).astype(np.float32),
        confidence_counts=np.full(16, 2, dtype=np.int64),
        confidence_correct=np.ones(16, dtype=np.int64),
        margin_edges=np.linspace(0.1, 0.9, 7).astype(np.float32),
        margin_counts=np.full(8, 4, dtype=np.int64),
    )
    triads = ((0, 1, 2),) if features >= 3 else ()
    return ReferenceProfile("vector", tuple(references), outputs, 100, 6, triads)


def make_statistics(
    profile: ReferenceProfile, rows: int = 300, seed: int = 2
) -> WindowStatistics:
    """Count random rows and outputs under ``profile``."""
    rng = np.random.default_rng(seed)
    features, labels = len(profile.features), profile.output_width
    builder = StatisticsBuilder(profile)
    builder.add_rows(rng.normal(size=(rows, features)).astype(np.float32))
    builder.add_outputs(rng.dirichlet(np.ones(labels), size=rows).astype(np.float32))
    return builder.statistics


def make_release(
    model: bytes = b"not a real model", name: str = "sample"
) -> tuple[Manifest, dict[str, bytes]]:
    """Build a manifest with its files; the model is opaque to the contract."""
    profile = make_profile(2, 2)
    golden = GoldenVectors(
        inputs=np.ones((4, 2), dtype=np.float32),
        outputs={"float32": np.full((4, 2), 0.5, dtype=np.float32)},
        tolerances={"float32": Tolerance("sqnr", 60.0, 0.01)},
    )
    files = {sha256_hex(one): one for one in (model, profile.encoded, golden.encode())}
    manifest = Manifest(
        name=name,
        task="classification",
        observe="vector",
        input=InputSpec("x", (1, 2), "float32", None, ("f0", "f1")),
        output=OutputSpec("y", (1, 2), "float32", labels_of(profile)),
        post=({"step": "softmax"},),
        variants=(
            Variant(
                "float32", "litert", "2.0", "float32", sha256_hex(model), len(model)
            ),
        ),
        selected={"default": "float32"},
        profile_file=sha256_hex(profile.encoded),
        ref_id=profile.ref_id.hex(),
        golden_file=sha256_hex(golden.encode()),
        files={digest: len(one) for digest, one in files.items()},
    )
    return manifest, files


def labels_of(profile: ReferenceProfile) -> tuple[str, ...]:
    """Return the class names of a classifier's profile, none of another's."""
    outputs = profile.outputs
    return outputs.labels if isinstance(outputs, OutputReference) else ()
