# SPDX-License-Identifier: Apache-2.0
"""Inference runtimes as the converter drives them, one file each behind one seam."""

from converter.runtimes.engine import Engine, kernel_sets, open_engine, reference_set

__all__ = ["Engine", "kernel_sets", "open_engine", "reference_set"]
