# SPDX-License-Identifier: Apache-2.0
"""The dashboard: pages that read the store and change nothing."""
