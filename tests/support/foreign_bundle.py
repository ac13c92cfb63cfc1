# SPDX-License-Identifier: Apache-2.0
"""A bundle around a published ``.tflite`` file that is quantized already.

``edge-convert`` refuses such files; a device takes them all the same. Golden outputs
are those of LiteRT on this machine.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.runtime.backend import find_backend
from edge_contract.bundle import write_bundle
from edge_contract.canonical import sha256_hex
from edge_contract.golden import GoldenVectors, Tolerance
from edge_contract.manifest import InputSpec, Manifest, OutputSpec, Runtime, Variant
from edge_contract.quality import EMBEDDING_FEATURES
from tests.support.bundles import ModelRecipe, make_profile

Float32 = NDArray[np.float32]
RUNTIMES: tuple[Runtime, ...] = ("litert", "tflite-runtime")


def wrap_file(path: Path, content: bytes, frames: Float32) -> str:
    """Write a bundle whose variants are ``content`` on each runtime of its format.

    Args:
        path: Where to.
        content: A ``.tflite`` classifier.
        frames: float32 [n, ...], the golden inputs.

    Returns:
        The release digest.
    """
    backend = find_backend("litert").load_model(content, threads=1)
    outputs = np.concatenate([backend.infer(one[np.newaxis]) for one in frames])
    labels = tuple(f"c{one}" for one in range(outputs.shape[1]))
    golden = GoldenVectors(
        frames,
        dict.fromkeys(RUNTIMES, outputs),
        dict.fromkeys(RUNTIMES, Tolerance("sqnr", 20.0, 0.05)),
    ).encode()
    width = len(EMBEDDING_FEATURES)
    profile = make_profile(
        ModelRecipe(observe="embedding", features=width, labels=labels)
    )
    contents = {sha256_hex(one): one for one in (content, golden, profile.encoded)}
    manifest = Manifest(
        name=path.stem,
        task="classification",
        observe="embedding",
        input=InputSpec("input", backend.input_shape, "float32", None, ()),
        output=OutputSpec("output", backend.output_shape, "float32", labels),
        post=(),
        variants=tuple(
            Variant(one, one, "1.0.0", "int8", sha256_hex(content), len(content))
            for one in RUNTIMES
        ),
        selected={"default": RUNTIMES[0], "armv7l-tflite214": RUNTIMES[1]},
        profile_file=sha256_hex(profile.encoded),
        ref_id=profile.ref_id.hex(),
        golden_file=sha256_hex(golden),
        files={digest: len(one) for digest, one in contents.items()},
    )
    return write_bundle(path, manifest, contents)
