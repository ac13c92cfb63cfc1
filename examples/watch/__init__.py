# SPDX-License-Identifier: Apache-2.0
"""The watch demo: real smart-watch recordings through the whole loop."""
