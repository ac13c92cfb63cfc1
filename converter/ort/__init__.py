# SPDX-License-Identifier: Apache-2.0
"""ONNX files: their normal form, activation ranges, quantization recipes."""
