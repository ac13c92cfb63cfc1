# SPDX-License-Identifier: Apache-2.0
"""Finding measurements and running them: the command behind `python -m bench`.

A measurement that is one of many runs in a process of its own, so that none inherits
what another loaded or left in memory.
"""

import argparse
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.harness.document import Document, format_document, parse_document
from bench.harness.render import render_page, replace_section

PAGE = Path("docs/reference/benchmarks.md")
PACKAGE = "bench"
EXIT_USAGE = 2
EXIT_GATE = 4


def find_names(package: str = PACKAGE) -> list[str]:
    """The names of all measurements: the package's modules, not its packages."""
    path = importlib.import_module(package).__path__
    return sorted(
        module.name
        for module in pkgutil.iter_modules(path)
        if not module.ispkg and not module.name.startswith("_")
    )


def run_here(name: str, package: str = PACKAGE) -> Document:
    """Run one measurement in this process.

    Raises:
        TypeError: Its ``run`` gave something else than a document.
    """
    document = importlib.import_module(f"{package}.{name}").run()
    if not isinstance(document, Document):
        raise TypeError(
            f"{package}.{name}.run: expected a Document, found "
            f"{type(document).__name__}; return make_document(...)"
        )
    return document


def run_apart(name: str) -> Document:
    """Run one measurement in a process of its own; its messages pass through."""
    result = subprocess.run(  # noqa: S603  our own interpreter and a found name
        [sys.executable, "-m", PACKAGE, name],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode not in {0, EXIT_GATE}:
        raise RuntimeError(
            f"bench {name}: expected exit 0 or {EXIT_GATE}, found "
            f"{result.returncode}; its own messages are above"
        )
    return parse_document(result.stdout)


def run_command(arguments: Sequence[str]) -> int:
    """Run what the arguments name, and print or render it."""
    names = find_names()
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", help=f"one of: {', '.join(names) or 'none'}")
    text = "put the named one into its page, beside what is there"
    parser.add_argument("--write", action="store_true", help=text)
    options = parser.parse_args(arguments)
    if options.name is None:
        return run_all(names)
    if options.name not in names:
        sys.stderr.write(
            f"bench: expected one of {', '.join(names) or '(no measurement yet)'}, "
            f"found {options.name!r}. Next: python -m bench --help\n"
        )
        return EXIT_USAGE
    document = run_here(options.name)
    sys.stdout.write(format_document(document) + "\n")
    if options.write:
        page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else render_page([])
        PAGE.write_text(replace_section(page, document), encoding="utf-8")
    return 0 if document.holds else EXIT_GATE


def run_all(names: Sequence[str]) -> int:
    """Run every measurement, one process each, and write the page."""
    documents = []
    for position, name in enumerate(names, start=1):
        sys.stderr.write(f"bench: {position}/{len(names)} {name}\n")
        documents.append(run_apart(name))
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render_page(documents), encoding="utf-8")
    failed = [each.name for each in documents if not each.holds]
    sys.stderr.write(f"bench: wrote {PAGE}; not held: {', '.join(failed) or 'none'}\n")
    return EXIT_GATE if failed else 0
