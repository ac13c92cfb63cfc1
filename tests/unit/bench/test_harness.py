# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from bench.harness import command
from bench.harness.document import (
    Document,
    Row,
    format_document,
    make_document,
    parse_document,
)
from bench.harness.render import render_page, replace_section

KEPT = Row("copy", 2.0, "µs", baseline=4.0, ratio=0.5, n=9, asked="<= 1", holds=True)
BROKEN = Row("count | sum", 3.0, "µs", asked="<= 1", holds=False)


def test_a_document_survives_its_json() -> None:
    document = make_document("agent_overhead", [KEPT, BROKEN])

    text = format_document(document)

    assert parse_document(text) == document
    assert set(json.loads(text)["rows"][0]) == {
        *("case", "value", "unit", "baseline", "ratio", "n"),
        *("spread", "asked", "holds"),
    }


@pytest.mark.parametrize("text", ["{}", "[]", '{"name": "a", "rows": [{}]}', "12 ms"])
def test_other_text_is_no_document(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a JSON document|Expecting|Extra"):
        parse_document(text)


def test_a_document_holds_when_no_promise_is_broken() -> None:
    assert Document("a", (KEPT, Row("size", 1, "B")), {}).holds
    assert not Document("a", (KEPT, BROKEN), {}).holds


def test_the_page_shows_every_row() -> None:
    page = render_page([Document("b", (BROKEN,), {"cores": "2"})])

    assert page.endswith(
        "## b\n\nMachine: cores 2.\n\n"
        "| case | value | unit | baseline | ratio | n | spread | asked | holds |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| count \\| sum | 3 | µs | - | - | 1 | 0 | <= 1 | **no** |\n"
    )


def test_one_section_is_renewed_and_the_others_stay() -> None:
    machine = {"cores": "2"}
    first, last = Document("a", (KEPT,), machine), Document("c", (KEPT,), machine)
    before, after = Document("b", (BROKEN,), machine), Document("b", (KEPT,), machine)
    page = render_page([first, last])

    for document in (before, after):
        page = replace_section(page, document)

    assert page == render_page([last, after, first])


def test_measurements_are_the_modules_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "claims"
    (package / "shared").mkdir(parents=True)
    for name in ("__init__", "one", "_private", "shared/__init__"):
        (package / f"{name}.py").write_text("def run():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert command.find_names("claims") == ["one"]
    with pytest.raises(TypeError, match="expected a Document, found int"):
        command.run_here("one", "claims")


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run_command(["no_such_claim"]) == 2
    assert "found 'no_such_claim'" in capsys.readouterr().err
