# SPDX-License-Identifier: Apache-2.0
"""The error tree shared by all programs.

Every error carries a stable dotted ``code``, which goes on the wire, into logs and
REST answers, and an ``exit_code`` for the command line. The tree, by who can act:

* EdgeError
    * CanonicalError - bytes that are not our canonical CBOR or JSON
    * EnvelopeError - a message envelope
        * EnvelopeFormatError
        * EnvelopeMacError (trust)
    * TopicError - a topic, fleet id or device id
    * ProfileError - a reference profile
    * WindowError - window statistics
    * MessageError - a message body
    * StepError - a pre- or post-processing step
    * GoldenError - golden vectors
    * SelectionError - a query over tags (usage)
    * DeltaError - a delta between two files
    * PolicyError - the policy of an update
    * ReferenceModelError - a file of the reference runtime
    * ManifestError - a bundle's manifest
    * BundleError - a bundle file
        * BundleFormatError
        * BundleDigestError (trust)
        * BundleSignatureError (trust)
        * BundleUnsignedError (trust)
    * KeyFormatError - a key file
    * EnrolmentError - an enrolment file
    * ConfigError - a configuration file (usage)

Packages extend the tree in an ``errors.py`` of their own.
"""

from typing import ClassVar

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_TRUST = 3
EXIT_GATE = 4


class EdgeError(Exception):
    """The root of all errors that Edgeloop raises on purpose.

    Args:
        message: The thing, what was expected and what was found.
        next_step: What the reader can do about it; empty when nothing can be.
    """

    code: ClassVar[str] = "edge"
    exit_code: ClassVar[int] = EXIT_FAILED

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        if not self.next_step:
            return self.message
        return f"{self.message}. Next: {self.next_step}"


class CanonicalError(EdgeError):
    """Bytes are not the canonical encoding of a value, or exceed a bound."""

    code = "canonical"


class EnvelopeError(EdgeError):
    """A message envelope could not be opened."""

    code = "envelope"


class EnvelopeFormatError(EnvelopeError):
    """The envelope is not a COSE_Mac0 of the form that we write."""

    code = "envelope.format"


class EnvelopeMacError(EnvelopeError):
    """The authentication tag does not match key, topic and payload."""

    code = "envelope.mac"
    exit_code = EXIT_TRUST


class TopicError(EdgeError):
    """A topic, fleet id or device id breaks the grammar."""

    code = "topic"


class ProfileError(EdgeError):
    """A reference profile is malformed or inconsistent."""

    code = "profile"


class WindowError(EdgeError):
    """Window statistics are malformed, inconsistent or cannot be merged."""

    code = "window"


class MessageError(EdgeError):
    """A message body lacks a key, or a value has the wrong type or range."""

    code = "message"


class StepError(EdgeError):
    """A pre- or post-processing step is unknown, or its input does not fit."""

    code = "step"


class SelectionError(EdgeError):
    """A query over tags does not follow its grammar."""

    code = "selection"
    exit_code = EXIT_USAGE


class DeltaError(EdgeError):
    """A delta is malformed, or does not fit its source."""

    code = "delta"


class PolicyError(EdgeError):
    """The policy of an update has a value of the wrong kind."""

    code = "policy"


class GoldenError(EdgeError):
    """Golden vectors are malformed or do not fit the model."""

    code = "golden"


class ReferenceModelError(EdgeError):
    """A file of the reference runtime is malformed or beyond a bound."""

    code = "reference_model"


class ManifestError(EdgeError):
    """A bundle's manifest is malformed or contradicts itself."""

    code = "manifest"


class BundleError(EdgeError):
    """A bundle cannot be read or written."""

    code = "bundle"


class BundleFormatError(BundleError):
    """The file is not a bundle, is truncated, or breaks a bound."""

    code = "bundle.format"


class BundleDigestError(BundleError):
    """A file inside the bundle does not have the digest that the manifest names."""

    code = "bundle.digest"
    exit_code = EXIT_TRUST


class BundleSignatureError(BundleError):
    """The signature does not verify under any trusted key."""

    code = "bundle.signature"
    exit_code = EXIT_TRUST


class BundleUnsignedError(BundleError):
    """The bundle carries no signature where one is required."""

    code = "bundle.unsigned"
    exit_code = EXIT_TRUST


class KeyFormatError(EdgeError):
    """A key file is not a key of the expected kind."""

    code = "key.format"


class EnrolmentError(EdgeError):
    """An enrolment file is malformed."""

    code = "enrolment"


class ConfigError(EdgeError):
    """A configuration file has an unknown key or a value of the wrong kind."""

    code = "config"
    exit_code = EXIT_USAGE
