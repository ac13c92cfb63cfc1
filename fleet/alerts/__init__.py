# SPDX-License-Identifier: Apache-2.0
"""What needs a person: one open alert a cause, and who is told of it."""
