# SPDX-License-Identifier: Apache-2.0
"""Drift: does what a device sees still look like what its model was built on?"""
