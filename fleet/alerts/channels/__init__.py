# SPDX-License-Identifier: Apache-2.0
"""Where alerts go, one file a way: webhook, mail, topic."""
