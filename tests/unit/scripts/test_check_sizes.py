# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from scripts import check_sizes

DOCSTRING = '    """What it does.\n\n    More of it.\n    """\n'


def make_function(body_lines: int) -> str:
    return "def f() -> None:\n" + DOCSTRING + "    f()\n" * body_lines


@pytest.mark.parametrize(("lines", "found"), [(60, 0), (61, 1)])
def test_the_docstring_is_not_part_of_a_body(lines: int, found: int) -> None:
    assert len(check_sizes.check_source("a.py", make_function(lines))) == found


@pytest.mark.parametrize(("lines", "found"), [(500, 0), (501, 1)])
def test_a_file_has_at_most_500_lines(lines: int, found: int) -> None:
    assert len(check_sizes.check_source("a.py", "x = 1\n" * lines)) == found


def test_a_package_file_only_re_exports() -> None:
    clean = '"""Doc."""\nfrom a import b\n__all__ = ["b"]\n'

    assert check_sizes.check_source("p/__init__.py", clean) == []
    assert check_sizes.check_source("p/__init__.py", clean + "def f(): ...\n") == [
        "p/__init__.py:4: expected re-exports only, found code; move it to a module"
    ]


@pytest.mark.parametrize("path", ["fleet/utils.py", "fleet/common/a.py"])
def test_a_name_says_what_it_owns(path: str) -> None:
    assert len(check_sizes.check_source(path, "")) == 1


def test_the_command_reports_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / "long.py").write_text("x = 1\n" * 501)

    assert check_sizes.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == (
        "fleet/long.py: expected at most 500 lines, found 501; "
        "split it along its layers\n"
    )
