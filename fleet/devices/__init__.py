# SPDX-License-Identifier: Apache-2.0
"""Devices: enrolment, what is known of them, and the channel down to them."""
