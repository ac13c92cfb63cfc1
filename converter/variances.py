# SPDX-License-Identifier: Apache-2.0
"""draft"""

from dataclasses import dataclass

import numpy as np
from edge_contract.binning import BinTable, Float64

from converter.data import FrameRule, Rows


@dataclass(frozen=True, eq=False)
class UnitVariances:
    """draft"""

    groups: int
    location_within: Float64
    location_between: Float64
    scale_within: Float64
    scale_between: Float64


def unit_length(rows: Rows, table: BinTable, rule: FrameRule) -> int:
    return 64


def unit_variances(rows: Rows, table: BinTable, unit_rows: int, rule: FrameRule) -> UnitVariances:
    z = np.zeros(rows.values.shape[1]) + 0.1
    return UnitVariances(0, z, z, z, z)
