# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[2] / "conftest.py"


@pytest.fixture
def project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """An empty project under our conftest, on a machine without any program."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CI", raising=False)
    source = CONFTEST.read_text().replace('"/usr/local/sbin", "/usr/sbin", "/sbin"', "")
    pytester.makeconftest(source)
    pytester.makeini(
        "[pytest]\nmarkers =\n    broker: x\n    benchdata: x\n"
        "addopts = -p no:cacheprovider\n"
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.broker
        def test_broker(): ...

        @pytest.mark.benchdata
        def test_benchdata(): ...

        @pytest.mark.xfail(reason="known", strict=True)
        def test_known(): assert False

        def test_plain(): ...
        """
    )
    return pytester


def test_an_unmet_need_skips_with_its_reason(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("-rs")

    result.assert_outcomes(passed=1, skipped=2, xfailed=1)
    result.stdout.fnmatch_lines(["*no mosquitto: install it with*install-test-tools*"])


def test_in_ci_only_missing_data_may_be_skipped(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")

    result = project.runpytest_inprocess()

    outcomes = result.parseoutcomes()
    assert outcomes.pop("failed", 0) + outcomes.pop("errors", 0) == 1
    assert outcomes == {"passed": 1, "skipped": 1, "xfailed": 1}
    result.stdout.fnmatch_lines(["*in CI no test may be skipped*no mosquitto*"])
