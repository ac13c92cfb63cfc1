# SPDX-License-Identifier: Apache-2.0
"""Rollouts: bringing a release to a fleet in phases, each behind a gate."""

from fleet.rollout.engine import RolloutEngine

__all__ = ["RolloutEngine"]
