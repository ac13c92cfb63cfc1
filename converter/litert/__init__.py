# SPDX-License-Identifier: Apache-2.0
"""LiteRT flatbuffers: their normal form, activation ranges, quantization recipes."""
