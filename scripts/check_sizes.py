# SPDX-License-Identifier: Apache-2.0
"""The gate on the size and shape of the tree: `python scripts/check_sizes.py [ROOT]`.

Owns four rules: a file has at most 500 lines, a function body at most 60 (its docstring
not counted), an ``__init__.py`` only re-exports, and no module has a name that says
nothing (``utils``). It does not judge style: that is ruff's.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 500
MAX_BODY_LINES = 60
EMPTY_NAMES = frozenset({"utils", "util", "helpers", "common", "misc", "manager"})
TREES = (
    "edge_contract",
    "edge_agent",
    "converter",
    "fleet",
    "examples",
    "bench",
    "scripts",
    "tests",
)

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_RE_EXPORTS = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)


def is_re_export(node: ast.stmt) -> bool:
    """Whether a statement re-exports: at once, or when the name is first used."""
    if isinstance(node, ast.FunctionDef):
        return node.name == "__getattr__"
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, _RE_EXPORTS)


def is_docstring(node: ast.stmt) -> bool:
    """Whether a statement is a bare string."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def count_body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the end."""
    body = function.body[1:] if is_docstring(function.body[0]) else function.body
    if not body:
        return 0
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1


def check_source(path: str, source: str) -> list[str]:
    """Everything that one file does against the rules, a line each.

    Args:
        path: The file's name, as it is to be printed.
        source: Its text.

    Returns:
        Findings, each with the place, what is expected, and what was found.
    """
    findings = []
    lines = source.count("\n")
    if lines > MAX_FILE_LINES:
        findings.append(
            f"{path}: expected at most {MAX_FILE_LINES} lines, found {lines}; "
            "split it along its layers"
        )
    name = Path(path)
    words = {part.removesuffix(".py") for part in name.parts}
    findings += [
        f"{path}: expected a name that says what it owns, found {word!r}"
        for word in sorted(words & EMPTY_NAMES)
    ]
    module = ast.parse(source, filename=path)
    if name.name == "__init__.py":
        findings += [
            f"{path}:{node.lineno}: expected re-exports only, found code; "
            "move it to a module"
            for node in module.body
            if not is_docstring(node) and not is_re_export(node)
        ]
    for node in ast.walk(module):
        if isinstance(node, _FUNCTIONS):
            size = count_body_lines(node)
            if size > MAX_BODY_LINES:
                findings.append(
                    f"{path}:{node.lineno}: {node.name}: expected a body of at most "
                    f"{MAX_BODY_LINES} lines, found {size}; take a step out of it"
                )
    return findings


def find_sources(root: Path) -> Iterator[Path]:
    """All Python files of the project's trees, sorted."""
    for tree in TREES:
        yield from sorted((root / tree).rglob("*.py"))


def main(arguments: list[str]) -> int:
    """Check the tree; 0 when it is clean, 1 with a line for each finding."""
    root = Path(arguments[0]) if arguments else Path()
    sources = list(find_sources(root))
    findings = [
        finding
        for source in sources
        for finding in check_source(
            str(source.relative_to(root)), source.read_text(encoding="utf-8")
        )
    ]
    for finding in findings:
        print(finding)
    print(f"sizes: {len(sources)} files, {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
