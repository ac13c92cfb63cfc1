# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from scripts.reference_pages import find_errors, render_pages

FOLDER = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", ["errors.md", "device-profiles.md"])
def test_a_generated_page_is_current(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == render_pages()[name], "run scripts/reference"


def test_no_two_errors_share_a_code() -> None:
    codes = [one.code for one in find_errors()]
    assert len(codes) == len(set(codes)) > 40
