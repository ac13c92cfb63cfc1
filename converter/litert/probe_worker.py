# SPDX-License-Identifier: Apache-2.0
"""The process in which the runtime meets a LiteRT file of unknown origin.

Run as a module with a file; exit 0 where the file can be run, 3 with the runtime's
reason where it refuses. Never imported by the pipeline.
"""

import sys
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter, OpResolverType

_EXIT_REFUSED = 3


def main(path: str) -> int:
    """Open, allocate and run once, on every kernel set."""
    content = Path(path).read_bytes()
    for kernels in (
        OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        OpResolverType.BUILTIN_REF,
        OpResolverType.AUTO,
    ):
        try:
            interpreter = Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=kernels,
            )
            interpreter.allocate_tensors()
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            sys.stderr.write(" ".join(str(error).split()) + "\n")
            return _EXIT_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
