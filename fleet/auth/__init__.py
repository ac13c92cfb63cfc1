# SPDX-License-Identifier: Apache-2.0
"""Who may talk to the HTTP server."""
