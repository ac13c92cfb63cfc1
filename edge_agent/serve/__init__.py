# SPDX-License-Identifier: Apache-2.0
"""The local service: Open Inference Protocol v2 over HTTP, a Unix socket, gRPC."""
