# SPDX-License-Identifier: Apache-2.0
"""Over-the-air model updates that cannot be forged and cannot stop a device."""
