# SPDX-License-Identifier: Apache-2.0
"""The HTTP application, put together from what the features give."""
