# SPDX-License-Identifier: Apache-2.0
"""Sources: where rows come from, one file each."""
