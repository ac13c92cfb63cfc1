# SPDX-License-Identifier: Apache-2.0
"""Measurements: one module a claim, each with ``run() -> Document``.

`python -m bench NAME` prints one document; `python -m bench` runs them all and renders
docs/reference/benchmarks.md. What they share is in ``harness``.
"""
