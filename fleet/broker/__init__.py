# SPDX-License-Identifier: Apache-2.0
"""The MQTT broker and the server's connection to it."""
