# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys

FORBIDDEN = {
    *("tensorflow", "keras", "onnx", "fastapi", "starlette", "sqlalchemy", "pydantic"),
    *("pandas", "scipy", "nicegui", "torch", "river", "rich", "httpx"),
}
# In its own process: what this one has loaded says nothing about a device.
IMPORT_ALL = """
import importlib, json, pkgutil, sys
import edge_agent, edge_contract
for package in (edge_contract, edge_agent):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith(".tflite_runtime"):
            importlib.import_module(module.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_no_module_of_the_device_loads_a_server_library() -> None:
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True
    )

    loaded = set(json.loads(result.stdout))

    assert {"edge_agent", "edge_contract", "numpy"} <= loaded
    assert loaded & FORBIDDEN == set()
