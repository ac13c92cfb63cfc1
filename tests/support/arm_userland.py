# SPDX-License-Identifier: Apache-2.0
"""A userland of an ARM device on this machine; see scripts/arm.

What is measured there is emulated: it says that something runs and what it computes,
never how fast a device is.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "arm"
DEVICE_PROFILES = {"arm64": "aarch64-a72", "armhf": "armv7l-tflite214"}
_MAKE_SECONDS = 900


@dataclass(frozen=True)
class Userland:
    """One of Debian's architectures; ``cpu`` is the emulated processor."""

    arch: str
    cpu: str = ""

    def command(self, *arguments: str) -> tuple[str, ...]:
        """Return the command line that runs ``arguments`` there."""
        chosen = (f"EDGELOOP_ARM_CPU={self.cpu}",) if self.cpu else ()
        return ("env", *chosen, str(SCRIPT), "run", self.arch, *arguments)

    def agent(self) -> tuple[str, ...]:
        """Return the command line of the agent there."""
        return self.command("edge-agent")

    def run(
        self, *arguments: str, seconds: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run ``arguments`` there to their end."""
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            check=False,
            text=True,
            timeout=seconds,
        )


def refresh() -> None:
    """Install this checkout's agent in both userlands."""
    subprocess.run(
        [SCRIPT, "make", *DEVICE_PROFILES], check=True, timeout=_MAKE_SECONDS
    )
