# SPDX-License-Identifier: Apache-2.0
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_contract.canonical import sha256_hex
from edge_contract.delta import CODECS, Delta, apply_delta, encode_delta
from fleet.registry import stretches
from tests.support.bundles import ModelRecipe, make_bundle

WAYS = ("subtract_by_role", "search_by_content")


def bundle(folder: Path, recipe: ModelRecipe) -> bytes:
    path = folder / "a.bundle"
    make_bundle(path, recipe)
    return path.read_bytes()


def turned(delta: Delta, codec: str, source: bytes, length: int) -> bytes:
    out = BytesIO()
    data = encode_delta(delta, codec)
    digest = apply_delta(BytesIO(data), BytesIO(source), out, length)
    assert digest == sha256_hex(out.getvalue())
    return out.getvalue()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("changes", [{"seed": 2}, {"length": 16}, {"labels": ("a",)}])
def test_a_delta_gives_the_target_exactly(
    tmp_path: Path, way: str, codec: str, changes: dict[str, object]
) -> None:
    source = bundle(tmp_path, ModelRecipe(seed=1))
    target = bundle(tmp_path, ModelRecipe(**{"seed": 1, **changes}))  # type: ignore[arg-type]
    delta = getattr(stretches, way)(source, target)
    assert turned(delta, codec, source, len(target)) == target


def test_equal_files_cost_next_to_nothing(tmp_path: Path) -> None:
    source = bundle(tmp_path, ModelRecipe(length=512, features=16))
    assert len(stretches.find_delta(source, source)) < 400
    assert len(stretches.find_delta(b"", source)) > 20_000


def test_small_changes_everywhere_become_small_numbers() -> None:
    random = np.random.default_rng(1)
    before = random.integers(0, 256, 50_000).astype("u1")
    after = (before + random.integers(0, 2, len(before))).astype("u1")
    found = stretches._assemble(
        before.tobytes(), b"head" + after.tobytes(), {4: stretches._Copy(0, 50_000)}
    )
    assert len(encode_delta(found, "bz2")) < 0.2 * len(before)
    out = turned(found, "xz", before.tobytes(), 4 + len(after))
    assert out == b"head" + after.tobytes()


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=300))
def test_bsdiffs_steps_are_ours(source: bytes, target: bytes) -> None:
    found = stretches.search_by_content(source, target)
    assert turned(found, "bz2", source, len(target)) == target
