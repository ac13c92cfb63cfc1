# SPDX-License-Identifier: Apache-2.0
"""Programs that the server may run, such as retraining a model."""
