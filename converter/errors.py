# SPDX-License-Identifier: Apache-2.0
"""The converter's part of the error tree.

Owns the codes under ``convert.``; the root and the exit codes are those of
``edge_contract.errors``.
"""

from edge_contract.errors import EXIT_GATE, EXIT_TRUST, EXIT_USAGE, EdgeError


class ConvertError(EdgeError):
    """A model could not be converted."""

    code = "convert"


class ConvertUsageError(ConvertError):
    """The command line asks for something that does not exist."""

    code = "convert.usage"
    exit_code = EXIT_USAGE


class ConvertModelError(ConvertError):
    """The file is not a model of a kind that we read."""

    code = "convert.model"


class ConvertTrustError(ConvertError):
    """The file could run code of unknown origin, and nobody said that it may."""

    code = "convert.trust"
    exit_code = EXIT_TRUST


class ConvertShapeError(ConvertError):
    """The model's inputs or outputs are not of a form that we convert."""

    code = "convert.shape"


class ConvertOperatorError(ConvertError):
    """The model needs operators that the runtime on a device does not have."""

    code = "convert.operator"


class ConvertLoaderError(ConvertError):
    """The subprocess that reads a framework's model could not do its work."""

    code = "convert.loader"


class ConvertDataError(ConvertError):
    """Calibration or validation data does not fit the model or our rules."""

    code = "convert.data"


class ConvertQuantizeError(ConvertError):
    """The quantizer could not produce a variant."""

    code = "convert.quantize"


class ConvertOutputError(ConvertError):
    """The bundle could not be written."""

    code = "convert.output"


class ConvertParityError(ConvertError):
    """The float artifact does not compute what the source model computes."""

    code = "convert.parity"
    exit_code = EXIT_GATE


class ConvertGoldenError(ConvertError):
    """A variant disagrees with itself between kernels."""

    code = "convert.golden"
    exit_code = EXIT_GATE


class ConvertMetricError(ConvertError):
    """The metric cannot be computed."""

    code = "convert.metric"


class ConvertBudgetError(ConvertError):
    """No variant is within what was asked."""

    code = "convert.budget"
    exit_code = EXIT_GATE


class ConvertSideError(ConvertError):
    """The environment of a device's runtime cannot be made here."""

    code = "convert.side"


class ConvertCompatError(ConvertError):
    """No variant can run on a device that was asked for."""

    code = "convert.compat"
    exit_code = EXIT_GATE
