# SPDX-License-Identifier: Apache-2.0
"""Pre- and post-processing that calibration and inference must do alike."""

from edge_contract.steps.decide import Decider, Decision, DecisionRule
from edge_contract.steps.framer import Frame, Framer
from edge_contract.steps.parameters import StepSpec
from edge_contract.steps.post import (
    apply_post,
    check_post,
    compile_post,
    decision_rule,
    observed_steps,
)
from edge_contract.steps.pre import apply_pre, check_pre, source_shape

__all__ = [
    "Decider",
    "Decision",
    "DecisionRule",
    "Frame",
    "Framer",
    "StepSpec",
    "apply_post",
    "apply_pre",
    "check_post",
    "check_pre",
    "compile_post",
    "decision_rule",
    "observed_steps",
    "source_shape",
]
