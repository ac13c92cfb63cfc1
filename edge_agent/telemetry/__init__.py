# SPDX-License-Identifier: Apache-2.0
"""Telemetry: what leaves the device, exactly once counted, and what comes back."""
