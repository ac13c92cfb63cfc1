# SPDX-License-Identifier: Apache-2.0
import doctest
import importlib
import pkgutil

import pytest

import fleet.drift

MODULES = sorted(
    one.name
    for one in pkgutil.walk_packages(fleet.drift.__path__, "fleet.drift.")
    if not one.ispkg
)


@pytest.mark.parametrize("name", MODULES)
def test_every_worked_example_is_true(name: str) -> None:
    module = importlib.import_module(name)

    assert doctest.testmod(module).failed == 0
