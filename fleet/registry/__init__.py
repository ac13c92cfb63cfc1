# SPDX-License-Identifier: Apache-2.0
"""The registry: the models catalogue and the TUF repository behind it."""

from fleet.registry.registry import Registry
from fleet.registry.setup import RepositoryPaths, init_repository

__all__ = ["Registry", "RepositoryPaths", "init_repository"]
