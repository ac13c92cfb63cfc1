# SPDX-License-Identifier: Apache-2.0
"""What the verbs of ``edge-agent`` do, apart from its command line."""
