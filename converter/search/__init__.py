# SPDX-License-Identifier: Apache-2.0
"""The search for candidates worth measuring in full: global recipes, then reverts."""

from converter.search.driver import Outcome, Trial, run_search
from converter.search.judge import Judge, Limits

__all__ = ["Judge", "Limits", "Outcome", "Trial", "run_search"]
