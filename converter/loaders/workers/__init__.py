# SPDX-License-Identifier: Apache-2.0
"""What runs in a framework's own process; never imported by the pipeline."""
