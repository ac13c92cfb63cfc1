# SPDX-License-Identifier: Apache-2.0
"""Inference runtimes behind one Protocol, one file each."""
