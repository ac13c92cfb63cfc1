# SPDX-License-Identifier: Apache-2.0
"""Drift over a fleet of at least eight devices: device, cohort and world told apart."""
