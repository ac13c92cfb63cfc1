# SPDX-License-Identifier: Apache-2.0
"""`python -m bench [NAME]`: one measurement as JSON, or all of them into their page.

Exit status: 0 every promised figure holds, 4 one does not, 2 there is no such name.
"""

import sys

from bench.harness.command import run_command
from converter.config import silence_onnxruntime

if __name__ == "__main__":
    silence_onnxruntime()
    sys.exit(run_command(sys.argv[1:]))
