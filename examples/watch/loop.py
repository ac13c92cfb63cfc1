# SPDX-License-Identifier: Apache-2.0
"""The loop itself, step by step, through the three commands alone.

Owns: what each step does, and what is waited for. What is measured in the end is in
`harvest`, what has to hold in `facts`; commands are run by `server` and `device`.
"""

from __future__ import annotations

import sys
import typing
from dataclasses import dataclass, field

from examples.watch import data
from examples.watch.device import SAMPLE_BUDGET, Watch
from examples.watch.facts import LEAST_WINDOWS_AFTER_CHANGE
from examples.watch.measure import Answer, first_unlabelled_rows, parse_answer, score
from examples.watch.programs import (
    DemoError,
    Document,
    run_program,
    run_text,
    wait_until,
)
from examples.watch.server import FleetServer, Release

if typing.TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from examples.watch.console import Console
    from examples.watch.programs import Process

__all__ = ["Loop", "Plan"]

ACCEPTED = "demo fleet of six"
REASON = "the drift alarm is open"

_MAX_DROP = "5%"


@dataclass(frozen=True)
class Plan:
    """What one demo does.

    Attributes:
        moved: The wearers that change arms.
        killed: The healthy wearer whose agent is killed.
        rate: Frames a second of each agent.
        healthy_windows: Windows of each device before the change.
    """

    moved: tuple[int, int] = (5, 7)
    killed: int = 6
    rate: float = 12.0
    healthy_windows: int = 100


@dataclass
class Loop:
    """The state of a running demo.

    Attributes:
        folder: Everything that is written goes below it.
        console: Says what happens.
        plan: What to do.
        server: The fleet's server.
        watches: The agents, by device.
        recordings: All recordings.
        releases: What was published, oldest first.
        windows_at_change: Windows of each device when two changed arms.
        windows_at_release: Windows of each device when the last rollout was done.
        samples: Bytes of labelled samples received, a device.
        memory: Proportional memory of each agent before its end, in bytes.
    """

    folder: Path
    console: Console
    plan: Plan
    server: FleetServer = field(init=False)
    watches: dict[str, Watch] = field(init=False, default_factory=dict)
    recordings: tuple[data.Recording, ...] = field(init=False)
    releases: list[Release] = field(init=False, default_factory=list)
    windows_at_change: dict[str, int] = field(init=False, default_factory=dict)
    windows_at_release: dict[str, int] = field(init=False, default_factory=dict)
    samples: dict[str, int] = field(init=False, default_factory=dict)
    memory: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.server = FleetServer(self.folder)
        self.recordings = data.load_recordings()

    @property
    def moved(self) -> tuple[str, ...]:
        """Ids of the devices that change arms."""
        return tuple(f"watch-{subject}" for subject in self.plan.moved)

    @property
    def processes(self) -> list[Process]:
        """Every long-lived process, for waiting under guard."""
        return [self.server.process, *(w.process for w in self.watches.values())]

    def read_answers(self) -> Sequence[Answer]:
        """What every agent has said so far."""
        return [
            parse_answer(line)
            for watch in self.watches.values()
            for line in watch.read_results()
        ]

    # -- step 1 and 2 -----------------------------------------------------------

    def train(self) -> None:
        """Train on the right arm."""
        command = (sys.executable, "-m", "examples.watch.train")
        said = run_program((*command, "--output", str(self.folder / "training")))
        self.console.say(said)

    def build(self, source: Path, name: str) -> Path:
        """Build, sign and show a bundle from a training's folder."""
        bundle = self.folder / f"{name}.bundle"
        said = run_text(
            "edge-convert",
            "build",
            str(source / "model.keras"),
            "--calibration",
            str(source / "calibration.npz"),
            "--validation",
            str(source / "validation.npz"),
            "--hop",
            str(data.HOP),
            "--name",
            "watch",
            "--max-drop",
            _MAX_DROP,
            "--sign-key",
            self.server.builder_key,
            "-o",
            str(bundle),
        )
        self.console.show(said)
        return bundle

    # -- step 3 and 4 -----------------------------------------------------------

    def start_server(self) -> None:
        """Start the fleet's server and say where its dashboard is."""
        self.console.say(f"dashboard: {self.server.start()}")

    def start_watches(self) -> None:
        """Enrol and start six agents on held-out right-arm recordings."""
        ids = tuple(f"watch-{subject}" for subject in data.LIVE_SUBJECTS)
        files = self.server.add_devices(ids, self.folder / "enrolments")
        for subject in data.LIVE_SUBJECTS:
            watch = Watch(subject, self.folder, self.plan.rate)
            worn = data.select(self.recordings, (subject,), "right")
            watch.wear(data.take_part(worn, "replay"))
            watch.enrol(files[watch.id])
            watch.start()
            self.watches[watch.id] = watch
        self.console.say(f"six agents run: {', '.join(ids)}")

    def deploy(self, bundle: Path) -> None:
        """Publish a bundle, roll it out behind one canary, wait for all six."""
        release = self.server.publish(bundle)
        self.releases.append(release)
        self.console.say(f"release {release.number}: {release.digest[:12]} published")
        rollout = self.server.roll_out(release, ACCEPTED)
        self.console.say(
            f"rollout {rollout}: one canary, a gate, then all;"
            f' accepted: "{ACCEPTED}" (six devices are no statistical evidence)'
        )
        self._wait_for_rollout(rollout)
        self.windows_at_release = self._count_windows()

    def _wait_for_rollout(self, rollout: str) -> None:
        said = ""

        def look() -> Document | None:
            nonlocal said
            shown = self.server.show_rollout(rollout)
            counts = {k: v for k, v in shown["outcomes"].items() if v}
            words = ", ".join(f"{count} {name}" for name, count in counts.items())
            if words != said:
                said = words
                self.console.say(f"rollout {rollout} {shown['state']}: {words}")
            if shown["state"] in {"aborted", "held"}:
                message = f"rollout {rollout}: {shown['state']}: {shown['reason']}"
                raise DemoError(message)
            return shown if shown["state"] == "completed" else None

        wait_until(
            look,
            what=f"rollout {rollout} to be completed",
            timeout_seconds=120.0,
            guards=self.processes,
        )

    # -- windows, and a kill ----------------------------------------------------

    def gather_history(self) -> None:
        """Let every device send healthy windows; kill one agent on the way."""
        half = self.plan.healthy_windows // 2
        self._wait_for_windows(self.watches, half)
        killed = self.watches[f"watch-{self.plan.killed}"]
        killed.kill_and_restart()
        self.console.say(f"{killed.id}: agent killed with -9 in mid-window, restarted")
        self._wait_for_windows(self.watches, self.plan.healthy_windows)
        accuracy = score(self.read_answers(), lambda answer: not answer.is_left)
        self.console.say(f"true accuracy, right arm: {accuracy.share:.3f}")

    def _count_windows(self) -> dict[str, int]:
        listed = self.server.list_devices()
        return {
            one: int(doc["totals"].get("windows", 0)) for one, doc in listed.items()
        }

    def _wait_for_windows(self, devices: typing.Iterable[str], count: int) -> None:
        ids = tuple(devices)
        start = self.windows_at_release

        def look() -> bool | None:
            windows = self._count_windows()
            done = [windows[one] - start.get(one, 0) for one in ids]
            return True if min(done) >= count else None

        wait_until(
            look,
            what=f"{count} windows of each of {', '.join(ids)}",
            timeout_seconds=30.0 + 3 * count / self.plan.rate,
            guards=self.processes,
        )

    # -- step 5 -----------------------------------------------------------------

    def change_arms(self) -> None:
        """Two wearers change arms; wait until the fleet has noticed both."""
        self.windows_at_change = self._count_windows()
        for device in self.moved:
            watch = self.watches[device]
            watch.wear(data.select(self.recordings, (watch.subject,), "left"))
        self.console.say(f"{' and '.join(self.moved)} now wear the other arm")

        def look() -> list[Document] | None:
            verdicts = self.server.list_open_verdicts()
            flagged = {one["device"] for one in verdicts}
            return verdicts if flagged >= set(self.moved) else None

        for verdict in wait_until(
            look,
            what=f"verdicts on {' and '.join(self.moved)}",
            timeout_seconds=90.0,
            guards=self.processes,
        ):
            self.console.say(str(verdict["summary"]))
        first = self.releases[0].digest
        drifted = score(self.read_answers(), lambda a: a.is_left and a.digest == first)
        self.console.say(f"true accuracy, left arm: {drifted.share:.3f}")

    # -- step 6 -----------------------------------------------------------------

    def collect_samples(self) -> str:
        """Ask the flagged devices for labelled samples; return the request's id."""
        request = self.server.request_samples(self.moved)
        self.console.say(
            f"request {request}: first 30 % of the left-arm recordings, with labels;"
            f" {' and '.join(self.moved)} consent, budget {SAMPLE_BUDGET} a day"
        )

        def look() -> list[Document] | None:
            targets = self.server.list_samples(request)
            if any(one["state"] == "refused" for one in targets):
                message = f"samples: expected consent, found {targets}"
                raise DemoError(message)
            done = all(one["state"] == "complete" for one in targets)
            return targets if done else None

        for target in wait_until(
            look,
            what=f"samples of {' and '.join(self.moved)}",
            timeout_seconds=60.0,
            guards=self.processes,
        ):
            self.samples[target["device"]] = int(target["bytes"])
            self.console.say(
                f"{target['device']}: {target['rows']} labelled rows,"
                f" {target['bytes'] / 1024:.1f} KiB"
            )
        return request

    def retrain(self, request: str) -> Path:
        """Run the retrain hook; return the folder that it left."""
        run = self.server.run_retraining(request)
        self.console.say(f"run {run['id']}: {run['state']}, {run['evaluation']}")
        return self.server.find_run_folder(run)

    # -- step 7 -----------------------------------------------------------------

    def watch_recovery(self) -> None:
        """Let the second release see all unlabelled frames; the alarm stays off."""
        boundaries = first_unlabelled_rows(
            data.select(self.recordings, self.plan.moved, "left")
        )
        expected = {
            (r.name, row)
            for r in data.select(self.recordings, self.plan.moved, "left")
            for row in range(0, len(r.rows) - data.FRAME_LENGTH + 1, data.HOP)
            if row >= boundaries[r.name]
        }
        second = self.releases[-1].digest

        def look() -> bool | None:
            seen = {
                (a.recording, a.start_row)
                for a in self.read_answers()
                if a.digest == second
            }
            return True if expected <= seen else None

        wait_until(
            look,
            what="every unlabelled left-arm frame seen by the second release",
            timeout_seconds=60.0 + 3 * len(expected) / self.plan.rate,
            guards=self.processes,
        )
        self._wait_for_windows(self.moved, LEAST_WINDOWS_AFTER_CHANGE)

    def stop_watches(self) -> None:
        """Stop the agents in good order, after a last look at their memory."""
        for watch in self.watches.values():
            self.memory[watch.id] = watch.measure_memory().proportional
        for watch in self.watches.values():
            watch.process.ask_to_stop()
        for watch in self.watches.values():
            watch.stop()

    def shut_down(self) -> None:
        """End every process that is still there."""
        for watch in self.watches.values():
            watch.stop()
        self.server.stop()
