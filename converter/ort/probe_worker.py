# SPDX-License-Identifier: Apache-2.0
"""The process in which onnx and its runtime meet a file of unknown origin.

Run as a module with a file; exit 0 where the file can be opened, 3 with the reason
where it is refused. Never imported by the pipeline.
"""

import sys
from pathlib import Path

import onnx
import onnxruntime
from onnx import shape_inference

_EXIT_REFUSED = 3


def main(path: str) -> int:
    """Parse, check, infer shapes, and open without and with optimisations."""
    content = Path(path).read_bytes()
    try:
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model, full_check=True)
        shape_inference.infer_shapes(model, data_prop=True)
        for level in (
            onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
            onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
        ):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 4
            options.graph_optimization_level = level
            onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
    except Exception as error:  # noqa: BLE001 - the libraries have no common base
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return _EXIT_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
