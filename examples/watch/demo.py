# SPDX-License-Identifier: Apache-2.0
"""The demo: from a trained model to a pushed update, on real recordings.

Owns: the working folder, the order of the steps on the terminal, and the exit code: 0
when every fact of the closing table holds, else 1 (and the folder stays, to look at).

Run: `make demo`, or `python -m examples.watch.demo`. `KEEP=1` leaves the dashboard up
until Ctrl-C and the folder in place.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import tempfile
import typing
from pathlib import Path

from examples.watch.config import wants_to_stay
from examples.watch.console import Console
from examples.watch.data import LIVE_SUBJECTS, WatchDataError
from examples.watch.facts import format_facts, judge
from examples.watch.harvest import harvest
from examples.watch.loop import Loop, Plan
from examples.watch.programs import DemoError

if typing.TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType


def run_loop(loop: Loop) -> bool:
    """Run every step; return whether all facts hold."""
    step = loop.console.step
    step("train", "1  train a 1-D CNN on right-arm recordings")
    loop.server.init()
    loop.train()
    step("build", "2  build a bundle: convert, measure, choose, sign")
    bundle = loop.build(loop.folder / "training", "watch-1")
    step("serve", "3  start the fleet's server")
    loop.start_server()
    step("deploy", "4  six agents enrol, fetch the bundle and go live")
    loop.start_watches()
    loop.deploy(bundle)
    loop.gather_history()
    step("drift", "5  two wearers change arms")
    loop.change_arms()
    step("retrain", "6  ask for labelled samples, retrain, build, roll out")
    request = loop.collect_samples()
    loop.deploy(loop.build(loop.retrain(request), "watch-2"))
    step("recover", "7  the alarm clears")
    loop.watch_recovery()
    loop.stop_watches()
    loop.console.finish_step()
    facts = judge(harvest(loop))
    loop.console.show("\n" + format_facts(facts) + "\n")
    return all(fact.holds for fact in facts)


def stay(loop: Loop) -> None:
    """Bring the agents back and leave the dashboard up until Ctrl-C."""
    for watch in loop.watches.values():
        watch.start()
    loop.console.say("the dashboard stays up; Ctrl-C ends it")
    try:
        signal.pause()
    except KeyboardInterrupt:
        loop.console.say("ending")


def parse_arguments(arguments: Sequence[str] | None) -> Plan:
    """Parse the command line."""
    plan = Plan()
    parser = argparse.ArgumentParser(
        prog="examples.watch.demo",
        description="The whole loop on real recordings, in one command.",
        epilog="example: python -m examples.watch.demo --moved 4 8",
    )
    parser.add_argument(
        "--moved",
        type=int,
        nargs=2,
        default=plan.moved,
        choices=LIVE_SUBJECTS,
        metavar="SUBJECT",
        help="the two wearers that change arms (default: 5 7)",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=plan.rate,
        help="frames a second of each agent; real time is 0.78 (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    moved = (options.moved[0], options.moved[1])
    if moved[0] == moved[1]:
        parser.error("--moved: expected two different subjects")
    killed = next(one for one in reversed(LIVE_SUBJECTS) if one not in moved)
    return Plan(moved=moved, killed=killed, rate=options.rate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    plan = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="edgeloop-watch-"))
    console.say(f"everything is written below {folder}")
    keep = wants_to_stay()
    loop: Loop | None = None
    holds = False
    try:
        loop = Loop(folder, console, plan)
        holds = run_loop(loop)
        if keep:
            stay(loop)
    except (DemoError, WatchDataError) as error:
        console.say(f"failed: {error}")
    except KeyboardInterrupt:
        console.say("interrupted")
    finally:
        if loop is not None:
            loop.shut_down()
        if keep or not holds:
            console.say(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    console.say("every fact holds" if holds else "not every fact holds")
    return 0 if holds else 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
