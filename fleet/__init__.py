# SPDX-License-Identifier: Apache-2.0
"""The server: ingest, drift, registry, rollouts, REST API and dashboard.

Features are sibling packages that never import each other; ``app`` wires them through
``services``. The package shares only ``edge_contract`` with agent and converter.
"""
