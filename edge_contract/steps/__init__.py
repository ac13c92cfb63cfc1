# SPDX-License-Identifier: Apache-2.0
"""Pre- and post-processing that calibration and inference must do alike."""

from edge_contract.steps.framer import Frame, Framer
from edge_contract.steps.post import apply_post, check_post, compile_post
from edge_contract.steps.pre import apply_pre, check_pre

__all__ = [
    "Frame",
    "Framer",
    "apply_post",
    "apply_pre",
    "check_post",
    "check_pre",
    "compile_post",
]
