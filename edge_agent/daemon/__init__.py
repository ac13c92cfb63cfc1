# SPDX-License-Identifier: Apache-2.0
"""The daemon: wires sources, runtime, statistics, telemetry and updates together."""
