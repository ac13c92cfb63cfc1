# SPDX-License-Identifier: Apache-2.0
"""Workers that run beside Edgeloop, in the environments of the tools they measure.

Each is a script: paths in, one line of JSON out. None imports Edgeloop.
"""
