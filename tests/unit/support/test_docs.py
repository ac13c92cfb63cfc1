# SPDX-License-Identifier: Apache-2.0
import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text())

    assert [each for each in targets if not (page.parent / each).exists()] == []


def test_each_dependency_has_its_reason() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[^\w-]", each)[0] for part in lists for each in part}
    page = (REPOSITORY / "docs" / "explanation" / "dependencies.md").read_text()
    rows = {
        name.strip()
        for cell in re.findall(r"^\| ([^|]+) \|", page, flags=re.MULTILINE)
        for name in re.sub(r"\(.*?\)", "", cell).split(",")
    }

    assert names - {"edgeloop", "tensorflow-cpu"} - rows == set()
