# SPDX-License-Identifier: Apache-2.0
"""From the broker into the database: each closed window exactly once."""
