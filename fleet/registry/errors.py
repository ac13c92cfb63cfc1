# SPDX-License-Identifier: Apache-2.0
"""Errors of the registry: keys, trust metadata, releases.

* FleetError
    * RepositoryError - the TUF repository on disk is missing or damaged
        * KeyUnusableError - a signing key cannot be found or used
        * CeremonyError - a new root lacks signatures, or another one is under way
    * ReleaseRefusedError - a release or its metadata does not verify (trust)
    * ReleaseConflictError - a release contradicts the catalogue
    * ExportError - a folder for an export holds other things, or a copy is damaged
"""

from fleet.errors import ClientError, ConflictError, RefusedError, StateError


class RepositoryError(StateError):
    """The TUF repository on disk is missing, damaged or lacks a key."""

    code = "fleet.registry.repository"


class KeyUnusableError(RepositoryError):
    """A signing key cannot be found, is of another kind, or does not sign."""

    code = "fleet.registry.key"


class CeremonyError(RepositoryError):
    """A new root lacks signatures, or does not fit the one that is in force."""

    code = "fleet.registry.ceremony"


class ReleaseRefusedError(RefusedError):
    """A release, or the metadata that lists it, does not verify."""

    code = "fleet.registry.refused"


class ReleaseConflictError(ConflictError):
    """A release contradicts what the catalogue already lists."""

    code = "fleet.registry.conflict"


class ExportError(ClientError):
    """A folder cannot take an export, or what the server sent is damaged."""

    code = "fleet.registry.export"
