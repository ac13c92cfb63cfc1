# SPDX-License-Identifier: Apache-2.0
"""Runs of pipelines: their rows and their folders.

Owns the table ``runs``, and the folder of a run: ``context.json``, ``samples/``,
``log.txt``, and what the program leaves there (``model.*``, ``evaluation.json``).
"""

import json
import logging
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from fleet.config import PipelineConfig
from fleet.errors import NotFoundError
from fleet.pipelines.process import Ending, RunningProgram
from fleet.services import Services
from fleet.store.engine import writing
from fleet.store.tables import runs

_LOG = logging.getLogger(__name__)
_MAX_EVALUATION_BYTES = 1 << 20

# Writes the samples of a request as .npz files into a folder.
SampleExport = Callable[[str, Path], object]


class RunDesk:
    """Starts runs and follows them, a thread each.

    Args:
        services: The server's parts.
        export: Puts received samples into a run's folder.
    """

    def __init__(self, services: Services, export: SampleExport) -> None:
        self._services = services
        self._export = export
        self._lock = threading.Lock()
        self._programs: dict[str, tuple[RunningProgram, threading.Thread]] = {}

    def start(self) -> None:
        """Close the runs that a killed server left open."""
        with writing(self._services.engine) as connection:
            connection.execute(
                update(runs)
                .where(runs.c.state == "running")
                .values(
                    state="failed",
                    reason="the server was killed",
                    ended_us=self._services.clock.wall_us(),
                )
            )

    def stop(self) -> None:
        """End what runs."""
        with self._lock:
            running = list(self._programs.values())
        for program, _ in running:
            program.cancel()
        for _, thread in running:
            thread.join()

    def run(
        self, name: str, config: PipelineConfig, context: dict[str, Any], samples: str
    ) -> str:
        """Start a run; return its id.

        Args:
            name: The pipeline.
            config: Its program.
            context: Goes into ``context.json``.
            samples: The sample request to put into ``samples/``, or empty.

        Raises:
            NotFoundError: No sample came under the request, or no such program.
        """
        run = secrets.token_hex(8)
        folder = self._services.layout.runs / run
        (folder / "samples").mkdir(parents=True)
        if samples:
            self._export(samples, folder / "samples")
        whole = {"run": run, "pipeline": name, "samples": samples, **context}
        text = json.dumps(whole, indent=1, sort_keys=True)
        (folder / "context.json").write_text(text, encoding="utf-8")
        try:
            program = RunningProgram(config.command, folder, folder / "log.txt")
        except OSError as error:
            message = f"pipeline {name}: cannot start {config.command[0]}: {error}"
            step = f"correct pipelines.{name}.command in fleet.yaml"
            raise NotFoundError(message, next_step=step) from error
        with writing(self._services.engine) as connection:
            connection.execute(
                insert(runs).values(
                    id=run,
                    pipeline=name,
                    state="running",
                    context=whole,
                    folder=f"runs/{run}",
                    started_us=self._services.clock.wall_us(),
                )
            )
        thread = threading.Thread(
            target=self._follow,
            args=(run, program, config.timeout_seconds),
            name=f"run-{run}",
        )
        with self._lock:
            self._programs[run] = (program, thread)
        thread.start()
        return run

    def _follow(self, run: str, program: RunningProgram, timeout: float) -> None:
        ending = program.wait(timeout)
        with writing(self._services.engine) as connection:
            _close_run(connection, run, ending, self._services.clock.wall_us())
        with self._lock:
            del self._programs[run]
        _LOG.info("run %s ended: %s", run, ending.reason or "done")


def find_run(connection: Connection, run: str) -> RowMapping:
    """Return one run.

    Raises:
        NotFoundError: No run has this id.
    """
    row = connection.execute(select(runs).where(runs.c.id == run)).mappings().first()
    if row is None:
        message = f"run {run}: expected a run of this server, found none"
        raise NotFoundError(message, next_step="see `edge-fleet pipeline show`")
    return row


def describe_run(row: RowMapping, root: Path) -> dict[str, Any]:
    """Return a run's document with the files that it left."""
    folder = root / row["folder"]
    models = sorted(str(p) for p in folder.glob("model.*") if p.is_file())
    return {
        **dict(row),
        "folder": str(folder),
        "log": str(folder / "log.txt"),
        "models": models,
        "evaluation": _read_evaluation(folder / "evaluation.json"),
    }


def _read_evaluation(path: Path) -> Any:
    try:
        if path.stat().st_size > _MAX_EVALUATION_BYTES:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _close_run(connection: Connection, run: str, ending: Ending, now_us: int) -> None:
    connection.execute(
        update(runs)
        .where(runs.c.id == run)
        .values(
            state="failed" if ending.reason else "done",
            exit_code=ending.exit_code,
            reason=ending.reason or None,
            ended_us=now_us,
        )
    )
