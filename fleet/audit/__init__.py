# SPDX-License-Identifier: Apache-2.0
"""The audit log: who did what, in a chain of digests."""
