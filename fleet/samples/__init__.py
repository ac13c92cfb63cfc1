# SPDX-License-Identifier: Apache-2.0
"""Samples that devices send when they were asked and their owner consented."""
