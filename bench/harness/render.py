# SPDX-License-Identifier: Apache-2.0
"""The page of all measurements (docs/reference/benchmarks.md) as Markdown text."""

from collections.abc import Sequence
from dataclasses import fields

from bench.harness.document import Document, Row

_HEADER = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
# Measurements

Written by `make bench`: do not edit. A value is a median of n runs; the spread is half
the distance between the quartiles. A baseline was measured in the same run.
"""
_COLUMNS = tuple(field.name for field in fields(Row))


def format_number(value: float | None) -> str:
    """Four significant digits, or a dash.

    >>> format_number(1234.5678), format_number(0.00012345), format_number(None)
    ('1235', '0.0001234', '-')
    """
    return "-" if value is None else f"{value:.4g}"


def format_row(row: Row) -> str:
    """One line of a table."""
    holds = {True: "yes", False: "**no**", None: "-"}[row.holds]
    cells = (
        row.case,
        format_number(row.value),
        row.unit,
        format_number(row.baseline),
        format_number(row.ratio),
        str(row.n),
        format_number(row.spread),
        row.asked or "-",
        holds,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def render_section(document: Document) -> str:
    """The section of one document."""
    machine = ", ".join(f"{key} {value}" for key, value in document.machine.items())
    head = f"## {document.name}\n\nMachine: {machine}.\n\n"
    columns = "| " + " | ".join(_COLUMNS) + " |\n" + "|" + " --- |" * len(_COLUMNS)
    return head + "\n".join([columns, *map(format_row, document.rows)]) + "\n"


def render_page(documents: Sequence[Document]) -> str:
    """The whole page: a section a document, in the order of their names."""
    page = _HEADER
    for document in documents:
        page = replace_section(page, document)
    return page


def replace_section(page: str, document: Document) -> str:
    """The page with one section written anew, the others as they are."""
    head, *sections = page.split("\n## ")
    found = {one.partition("\n")[0]: one.rstrip("\n") + "\n" for one in sections}
    found[document.name] = render_section(document).removeprefix("## ")
    return head + "".join(f"\n## {found[name]}" for name in sorted(found))
