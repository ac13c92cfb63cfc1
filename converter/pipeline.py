# SPDX-License-Identifier: Apache-2.0
"""The build: from a source model and data to a bundle and a report.

Owns the order of the steps and nothing else; each step is a module that can be read
alone. A failed build leaves no output: the bundle is written last, in one rename.
"""

import time

from converter import pack
from converter.assemble import Work, assemble_parts, assemble_report
from converter.assess import assess
from converter.errors import ConvertOutputError, ConvertUsageError
from converter.inputs import Progress, load_inputs
from converter.metrics import check_metric_name
from converter.profiles import load_profile
from converter.report import BuildReport
from converter.request import BuildRequest
from edge_contract import signing
from edge_contract.errors import KeyFormatError
from edge_contract.manifest import check_model_name


def build(request: BuildRequest, progress: Progress) -> BuildReport:
    """Build a bundle.

    Args:
        request: What to build.
        progress: Called with the name of each step as it begins.

    Raises:
        EdgeError: What was wrong, and what to do about it; nothing was written.
    """
    start = time.monotonic()
    sign_key = _check_request(request)
    try:
        inputs = load_inputs(request, progress)
        measured = assess(request, inputs, progress)
        work = Work(request, inputs, measured)
        progress("packing")
        parts = assemble_parts(work)
        digest = pack.write(request.output, parts, sign_key)
    except OSError as error:
        msg = f"a file could not be written: {error}"
        raise ConvertOutputError(msg, next_step="free some space") from error
    seconds = time.monotonic() - start
    return assemble_report(work, parts, digest, seconds)


def _check_request(request: BuildRequest) -> bytes | None:
    """Refuse, before the work begins, what would fail at its end."""
    for name in request.profiles:
        load_profile(name)
    if not 0 <= request.max_drop < 1:
        msg = f"--max-drop: expected 0 % to 100 %, found {request.max_drop:.2%}"
        raise ConvertUsageError(msg, next_step="pass for example --max-drop 1%")
    check_metric_name(request.metric)
    check_model_name(request.model_name)
    pack.check_target(request.output)
    if request.sign_key is None:
        return None
    try:
        key = request.sign_key.read_bytes()
    except OSError as error:
        msg = f"--sign-key {request.sign_key}: cannot be read: {error.strerror}"
        raise KeyFormatError(msg, next_step="check the path") from error
    signing.sign(key, b"")
    return key
