# SPDX-License-Identifier: Apache-2.0
"""What accuracy means, and how much of it a candidate provably keeps."""

from converter.metrics.comparison import Comparison, Metric, Truth
from converter.metrics.named import NAMES, check_metric_name, open_metric

__all__ = ["NAMES", "Comparison", "Metric", "Truth", "check_metric_name", "open_metric"]
