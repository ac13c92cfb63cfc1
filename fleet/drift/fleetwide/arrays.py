# SPDX-License-Identifier: Apache-2.0
"""Types of the arrays that the fleetwide rule computes with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# float32 in memory; numpy's functions may widen an intermediate result.
Real = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
