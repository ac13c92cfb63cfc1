# SPDX-License-Identifier: Apache-2.0
"""Inference: backends, the session that observes them, and the loop around it."""
