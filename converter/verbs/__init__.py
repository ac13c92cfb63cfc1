# SPDX-License-Identifier: Apache-2.0
"""The verbs of ``edge-convert``, one file each: arguments in, one document out."""
