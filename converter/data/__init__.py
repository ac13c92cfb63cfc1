# SPDX-License-Identifier: Apache-2.0
"""Calibration and validation data: its forms, cut into frames and observed rows."""
