# SPDX-License-Identifier: Apache-2.0
"""What a test may need beside the project, and what happens where it is absent.

A marker names a need. Where it is not met, the test is skipped with the reason; in CI
(CI=true) nothing may be skipped but the tests on ``benchdata``, which no package holds.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # noqa: TID251 - before it is imported

# How long an example takes says how busy the machine is, and nothing of the code.
# The emulated userlands run the golden bytes without hypothesis.
if importlib.util.find_spec("hypothesis") is not None:
    from hypothesis import settings

    settings.register_profile("no deadline", deadline=None)
    settings.load_profile("no deadline")

REPOSITORY = Path(__file__).resolve().parent.parent
BENCHDATA = REPOSITORY.parent / "shared" / "benchdata"
SBIN = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


def find_program(*names: str) -> Path | None:
    """The first of these programs on PATH or in a system folder of Debian's."""
    path = os.environ.get("PATH", os.defpath) + os.pathsep + SBIN  # noqa: TID251
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return Path(found)
    return None


def find_postgresql() -> Path | None:
    """The server's program: Debian keeps it off PATH, a folder a version."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return installed[-1] if installed else find_program("postgres")


def find_softhsm() -> Path | None:
    """SoftHSM's PKCS#11 library; its tool is beside it."""
    if find_program("softhsm2-util") is None:
        return None
    found = sorted(Path("/usr/lib").glob("**/softhsm/libsofthsm2.so"))
    return found[-1] if found else None


def find_userlands() -> Path | None:
    """The folder of the ARM userlands, once both are made."""
    base = os.environ.get("XDG_CACHE_HOME")  # noqa: TID251 - where scripts/arm looks
    folder = (Path(base) if base else Path.home() / ".cache") / "edgeloop" / "arm"
    made = [(folder / arch / "stamp").is_file() for arch in ("arm64", "armhf")]
    return folder if all(made) else None


def find_benchdata() -> Path | None:
    """The folder of real models and recordings beside the repository."""
    return BENCHDATA if BENCHDATA.is_dir() else None


INSTALL = "install it with scripts/install-test-tools"
NEEDS: dict[str, tuple[Callable[[], Path | None], str]] = {
    "broker": (lambda: find_program("mosquitto"), f"no mosquitto: {INSTALL}"),
    "chromium": (
        lambda: find_program("chromium", "chromium-browser"),
        f"no chromium: {INSTALL}",
    ),
    "postgresql": (find_postgresql, f"no PostgreSQL server: {INSTALL}"),
    "softhsm": (find_softhsm, f"no SoftHSM: {INSTALL}"),
    "qemu": (find_userlands, "no ARM userlands: `scripts/arm make arm64 armhf`"),
    "benchdata": (find_benchdata, "no ../shared/benchdata beside the repository"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, (find, reason) in NEEDS.items():
        if item.get_closest_marker(marker) and find() is None:
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    in_ci = os.environ.get("CI") == "true"  # noqa: TID251
    expected_failure = hasattr(report, "wasxfail")
    if (
        in_ci
        and report.skipped
        and not expected_failure
        and not item.get_closest_marker("benchdata")
    ):
        report.outcome = "failed"
        report.longrepr = f"in CI no test may be skipped: {report.longrepr}"
    return report  # type: ignore[return-value]


def need(marker: str) -> Path:
    """The place of a met need."""
    place = NEEDS[marker][0]()
    if place is None:
        pytest.fail(f"the test uses {marker} without @pytest.mark.{marker}")
    return place


@pytest.fixture(scope="session")
def benchdata() -> Path:
    return need("benchdata")


@pytest.fixture(scope="session")
def mosquitto() -> Path:
    return need("broker")


@pytest.fixture(scope="session")
def chromium() -> Path:
    return need("chromium")


@pytest.fixture(scope="session")
def softhsm() -> Path:
    return need("softhsm")
