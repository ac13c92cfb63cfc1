# SPDX-License-Identifier: Apache-2.0
"""Window statistics: counted exactly, off the hot path."""
