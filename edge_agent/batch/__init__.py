# SPDX-License-Identifier: Apache-2.0
"""Predictions computed ahead: from a table into a store, and looked up by key."""
