# SPDX-License-Identifier: Apache-2.0
"""Source models: one loader a framework, chosen by what the path holds."""

from converter.loaders.choose import open_source
from converter.loaders.source import Source

__all__ = ["Source", "open_source"]
