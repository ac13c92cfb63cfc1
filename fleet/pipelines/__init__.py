# SPDX-License-Identifier: Apache-2.0
"""Programs that the server may run, such as retraining a model."""

from fleet.pipelines.feature import build

__all__ = ["build"]
