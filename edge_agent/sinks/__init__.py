# SPDX-License-Identifier: Apache-2.0
"""Sinks: where results go, one file each."""
