# SPDX-License-Identifier: Apache-2.0
"""What converter, agent and fleet agree on: all that crosses a boundary.

The package is a leaf. It imports the standard library, numpy and cbor2, and never
``edge_agent``, ``converter`` or ``fleet``. Import from its modules; nothing is
re-exported here, so that a device pays only for what it uses.
"""
