# SPDX-License-Identifier: Apache-2.0
"""Examples: programs that use Edgeloop as a user's own script would."""
