# SPDX-License-Identifier: Apache-2.0
"""Entries of a data source, block by block: the seam between file forms and datasets.

Owns the Protocol and what every form has in common: which arrays an entry may carry
beside its values. Entries are rows or frames; which of the two is ``dataset``'s matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from converter.errors import ConvertDataError
from converter.tensors import Float32

BLOCK: Final = 256
SIDE_ARRAYS: Final = ("y", "recording", "group")
Values = NDArray[Any]


@dataclass(eq=False)
class Sides:
    """What entries carry beside their values, one item an entry.

    Attributes:
        arrays: ``y``, ``recording``, ``group`` and whatever ``--group`` names.
        feature_names: Names that the source gives, or empty.
        label_names: Names that the source gives, or empty.
    """

    arrays: dict[str, Values] = field(default_factory=dict)
    feature_names: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()


class Entries(Protocol):
    """A data source that can be read again and again.

    Attributes:
        name: What to call it in messages.
        shape: Of one entry.
        count: How many entries there are.
        sha256: Digest of the content.
        sides: What entries carry beside their values.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    sha256: str
    sides: Sides

    def blocks(self) -> Iterator[Float32]:
        """Yield float32 [n, *shape] with 1 to 256 entries, from the first on.

        Raises:
            ConvertDataError: The source cannot be read any more.
        """


def check_finite(block: Float32, start: int, name: str) -> Float32:
    """Refuse values that are not finite.

    Raises:
        ConvertDataError: With the first place that holds one.
    """
    finite = np.isfinite(block)
    if not finite.all():
        first, *rest = np.argwhere(~finite)[0].tolist()
        msg = f"{name}: x: expected finite numbers, found {int((~finite).sum())}"
        msg += f" NaN or infinite, the first at {[start + first, *rest]}"
        raise ConvertDataError(msg, next_step="drop or repair these entries")
    return block


def check_dtype(dtype: np.dtype[Any], name: str, *, is_scaled: bool) -> None:
    """Refuse values that are not float32, or pixels where a scale is declared.

    Raises:
        ConvertDataError: Another dtype.
    """
    if dtype == np.float32 or (is_scaled and dtype == np.uint8):
        return
    msg = f"{name}: x: expected dtype float32, found {dtype}"
    step = "store x.astype(numpy.float32)"
    if dtype == np.uint8:
        step += ", or declare what the model wants with --scale"
    raise ConvertDataError(msg, next_step=step)
