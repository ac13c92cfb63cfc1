# SPDX-License-Identifier: Apache-2.0
"""Samples that devices send when they were asked and their owner consented."""

from fleet.samples.export import export_samples
from fleet.samples.feature import build

__all__ = ["build", "export_samples"]
