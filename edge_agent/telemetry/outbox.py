# SPDX-License-Identifier: Apache-2.0
"""The outbox: every message that the server has not yet acknowledged, on disk.

Owns ``outbox.sqlite``: rows, the statistics checkpoint of each slot, the boot id, the
highest seq of each lane ever handed to a transport, the floor of down messages, and the
commands already answered. Every change is one transaction that is on disk when the call
returns. It is the only queue; ``publisher`` and ``link`` decide what leaves when.

A row that was handed over never changes. When the rows pass ``max_bytes``, windows that
were never handed over are merged in pairs (``merging``); a window is never refused for
lack of budget, an urgent message is. So that there is always something to merge, the
rows handed over and not acknowledged take at most half of the budget.
"""

import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.clock import Clock
from edge_agent.errors import OutboxError
from edge_agent.telemetry.acks import is_marked
from edge_agent.telemetry.merging import (
    WindowRow,
    merge_group,
    merge_reports,
    plan_merges,
)
from edge_agent.telemetry.publisher import BULK_LANE, LANES
from edge_contract.messages import UpMessage, encode_message, kind_of
from edge_contract.profile import Layout
from edge_contract.window_report import WindowReport

BOOT_ID_BYTES: Final = 8
ROW_OVERHEAD_BYTES: Final = 64
KEPT_COMMANDS: Final = 256
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE rows (
  seq INTEGER PRIMARY KEY,
  lane INTEGER NOT NULL,
  kind TEXT NOT NULL,
  body BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  start_us INTEGER NOT NULL,
  merge_group BLOB,
  covers INTEGER NOT NULL,
  lowest INTEGER NOT NULL
);
CREATE INDEX rows_by_lowest ON rows (lowest);
CREATE INDEX rows_by_lane ON rows (lane, seq, bytes);
CREATE TABLE layouts (ref_id BLOB PRIMARY KEY, layout TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE commands (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
"""

Build = Callable[[bytes, int], UpMessage]


@dataclass(frozen=True, slots=True)
class Row:
    """One held message."""

    seq: int
    lane: int
    kind: str
    body: bytes


class Outbox:
    """The durable queue of one device. Safe to use from several threads.

    Args:
        path: The database; made with a new boot id where it does not exist.
        max_bytes: Budget for all rows.
        clock: Stamps rows that are no windows.

    Raises:
        OutboxError: The file is no outbox, is damaged, or the disk refused.
    """

    def __init__(self, path: Path, max_bytes: int, clock: Clock) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.RLock()
        self._listener: Callable[[], None] = lambda: None
        with self._named_errors():
            path.touch(mode=0o600)
            self._db = sqlite3.connect(
                path, timeout=10.0, isolation_level=None, check_same_thread=False
            )
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise
        self._boot_id = bytes(self._meta("boot_id"))
        self._next_seq = self._integer("next_seq")
        # An older agent kept one mark for all lanes.
        query = "SELECT coalesce(max(value), 0) FROM meta WHERE name IN (?, 'handed')"
        read = self._one
        self._handed: dict[int, int] = {n: read(query, _handed_name(n)) for n in LANES}

    @property
    def boot_id(self) -> bytes:
        """Names this outbox file, 8 random bytes."""
        return self._boot_id

    @property
    def pending(self) -> int:
        """How many messages are held."""
        return int(self._one("SELECT count(*) FROM rows"))

    @property
    def held_bytes(self) -> int:
        """How much of the budget they take."""
        return int(self._one("SELECT coalesce(sum(bytes), 0) FROM rows"))

    @property
    def lowest_seq(self) -> int:
        """The lowest seq held or covered; the next one when the outbox is empty."""
        with self._lock:
            lowest = self._one("SELECT min(lowest) FROM rows")
            return self._next_seq if lowest is None else int(lowest)

    @property
    def handed(self) -> int:
        """The highest seq ever handed over."""
        return max(self._handed.values())

    @property
    def down_floor(self) -> int:
        """The highest ``down_seq`` ever accepted."""
        return self._integer("down_floor")

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every new row; one listener at a time."""
        self._listener = listener

    def append(self, lane: int, build: Build) -> int:
        """Store one message and return its seq.

        Raises:
            OutboxError: An urgent message found no room, or the disk refused.
        """
        with self._transaction():
            seq = self._insert(lane, build)
            if not self._shrink() and lane != BULK_LANE:
                raise self._full_error()
        self._listener()
        return seq

    def ledger(self, slot: str) -> "SlotLedger":
        """Return where the statistics of a slot become durable.

        An agent of one slot kept its checkpoint without a name: it becomes that of the
        first slot that is asked for.
        """
        with self._transaction():
            self._db.execute(
                "UPDATE OR IGNORE meta SET name = ? WHERE name = 'checkpoint'",
                (_checkpoint_name(slot),),
            )
        return SlotLedger(self, slot)

    def close_window(self, slot: str, build: Build, checkpoint: bytes) -> int:
        """Store a window and the slot's checkpoint after it in one transaction.

        Raises:
            OutboxError: The disk refused; neither is stored.
        """
        with self._transaction():
            seq = self._insert(BULK_LANE, build)
            self._set_meta(_checkpoint_name(slot), checkpoint)
            self._shrink()
        self._listener()
        return seq

    def save_checkpoint(self, slot: str, checkpoint: bytes) -> None:
        """Replace the statistics checkpoint of a slot.

        Raises:
            OutboxError: The disk refused; the old one is kept.
        """
        with self._transaction():
            self._set_meta(_checkpoint_name(slot), checkpoint)

    def load_checkpoint(self, slot: str) -> bytes | None:
        """Return the statistics checkpoint of a slot, if there is one."""
        query = "SELECT value FROM meta WHERE name = ?"
        found = self._one(query, _checkpoint_name(slot))
        return None if found is None else bytes(found)

    def remember_layout(self, ref_id: bytes, layout: Layout) -> None:
        """Keep how counts of a reference profile are laid out, to merge them later."""
        text = json.dumps(
            [list(layout.bin_offsets), layout.labels, list(layout.value_offsets)]
        )
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO layouts VALUES (?, ?)", (ref_id, text)
            )

    def next_rows(self, lane: int, above: int, limit: int) -> list[Row]:
        """Return rows of a lane above a seq, in order, within the handing budget."""
        with self._lock, self._named_errors():
            found = self._db.execute(
                "SELECT seq, lane, kind, body FROM rows"
                " WHERE lane = ? AND seq > ? ORDER BY seq LIMIT ?",
                (lane, above, limit),
            ).fetchall()
            if lane != BULK_LANE or not found:
                return [Row(*one) for one in found]
            spent = int(
                self._one(
                    "SELECT coalesce(sum(bytes), 0) FROM rows"
                    " WHERE lane = ? AND seq <= ?",
                    lane,
                    self._handed[lane],
                )
            )
        rows: list[Row] = []
        for one in found:
            if one[0] > self._handed[lane]:
                spent += len(one[3]) + ROW_OVERHEAD_BYTES
                if spent > self._max_bytes // 2:
                    break
            rows.append(Row(*one))
        return rows

    def rows(self, seqs: Sequence[int]) -> list[Row]:
        """Return the rows with these seqs that are still held."""
        marks = ",".join("?" * len(seqs))
        query = f"SELECT seq, lane, kind, body FROM rows WHERE seq IN ({marks})"  # noqa: S608 - only question marks
        with self._lock, self._named_errors():
            found = self._db.execute(f"{query} ORDER BY seq", list(seqs)).fetchall()
        return [Row(*one) for one in found]

    def hand_over(self, seq: int, lane: int = BULK_LANE) -> None:
        """Make durable that a lane's rows up to ``seq`` may leave, before they do."""
        if seq <= self._handed[lane]:
            return
        with self._transaction():
            self._set_meta(_handed_name(lane), seq)
            self._handed[lane] = seq

    def acknowledge(self, mark: int, bitmap: bytes) -> list[int]:
        """Delete what the server has committed, and return the seqs deleted.

        Only rows that were handed over can be acknowledged; the rest is ignored.
        """
        with self._transaction():
            held = self._db.execute(
                "SELECT seq, lane FROM rows WHERE seq <= ? ORDER BY seq",
                (min(self.handed, mark + 8 * len(bitmap)),),
            )
            done = [
                seq
                for seq, lane in held
                if seq <= self._handed[lane] and is_marked(seq, mark, bitmap)
            ]
            self._db.executemany(
                "DELETE FROM rows WHERE seq = ?", [(seq,) for seq in done]
            )
        return done

    def replace_unsent(self, lane: int, kind: str, build: Build) -> int:
        """Store a message in place of one of its kind that never left, or append it."""
        with self._lock:
            seq = self._one(
                "SELECT max(seq) FROM rows WHERE lane = ? AND kind = ? AND seq > ?",
                lane,
                kind,
                self._handed[lane],
            )
            if seq is None:
                return self.append(lane, build)
            body = encode_message(build(self._boot_id, int(seq)))
            with self._transaction():
                self._db.execute(
                    "UPDATE rows SET body = ?, bytes = ? WHERE seq = ?",
                    (body, len(body) + ROW_OVERHEAD_BYTES, seq),
                )
        self._listener()
        return int(seq)

    def raise_down_floor(self, down_seq: int) -> bool:
        """Accept a down message: make its seq the floor.

        Returns:
            False where it is not above the floor: a replay.
        """
        with self._transaction():
            if down_seq <= self._integer("down_floor"):
                return False
            self._set_meta("down_floor", down_seq)
        return True

    def is_answered(self, command_id: str) -> bool:
        """Return whether a command has its reply already."""
        found = self._one("SELECT 1 FROM commands WHERE id = ?", command_id)
        return found is not None

    def reply(self, command_id: str, build: Build) -> int | None:
        """Store the one reply to a command; None where it has one already."""
        with self._transaction():
            if self.is_answered(command_id):
                return None
            self._db.execute("INSERT INTO commands (id) VALUES (?)", (command_id,))
            self._db.execute(
                "DELETE FROM commands WHERE number <="
                " (SELECT max(number) FROM commands) - ?",
                (KEPT_COMMANDS,),
            )
            seq = self._insert(0, build)
        self._listener()
        return seq

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        version = int(self._one("PRAGMA user_version"))
        if version == _SCHEMA_VERSION:
            return
        if version or self._one("SELECT count(*) FROM sqlite_master"):
            raise OutboxError(
                f"{self._path}: expected an outbox of version {_SCHEMA_VERSION}, "
                f"found version {version}",
                next_step="move the file away; what it holds was not sent",
            )
        with self._transaction():
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._set_meta("boot_id", secrets.token_bytes(BOOT_ID_BYTES))
            for name, value in (("next_seq", 1), ("down_floor", 0)):
                self._set_meta(name, value)
            self._db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    def _insert(self, lane: int, build: Build) -> int:
        seq = self._next_seq
        message = build(self._boot_id, seq)
        row = Row(seq, lane, kind_of(message), encode_message(message))
        if isinstance(message, WindowReport):
            self._insert_window(row, message)
        else:
            self._insert_row(row, self._clock.wall_us(), None, ())
        return seq

    def _insert_window(self, row: Row, report: WindowReport) -> None:
        self._insert_row(row, report.start_us, merge_group(report), report.covers)

    def _insert_row(
        self, row: Row, start_us: int, group: bytes | None, covers: tuple[int, ...]
    ) -> None:
        size = len(row.body) + ROW_OVERHEAD_BYTES
        lowest = min(row.seq, *covers) if covers else row.seq
        values = (size, start_us, group, len(covers), lowest)
        self._db.execute(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row.seq, row.lane, row.kind, row.body, *values),
        )
        self._next_seq = row.seq + 1
        self._set_meta("next_seq", self._next_seq)

    def _shrink(self) -> bool:
        """Merge until the rows fit; return whether they do."""
        while self.held_bytes > self._max_bytes:
            pairs = plan_merges(self._mergeable(), self._handed[BULK_LANE])
            if not pairs:
                return False
            for first, second in pairs:
                self._merge(first, second)
                if self.held_bytes <= self._max_bytes:
                    break
        return True

    def _mergeable(self) -> list[WindowRow]:
        found = self._db.execute(
            "SELECT seq, merge_group, covers FROM rows"
            " JOIN layouts ON ref_id = substr(merge_group, 1, 8)"
            " WHERE seq > ? ORDER BY start_us, seq",
            (self._handed[BULK_LANE],),
        )
        return [WindowRow(*one) for one in found]

    def _merge(self, first: int, second: int) -> None:
        a, b = (WindowReport.decode(row.body) for row in self.rows([first, second]))
        merged = merge_reports(a, b, self._next_seq, self._layout(a.ref_id))
        self._db.execute("DELETE FROM rows WHERE seq IN (?, ?)", (first, second))
        self._insert_window(
            Row(merged.seq, BULK_LANE, "window", merged.encode()), merged
        )

    def _layout(self, ref_id: bytes) -> Layout:
        text = self._one("SELECT layout FROM layouts WHERE ref_id = ?", ref_id)
        # Values came later: what an older agent kept has none.
        offsets, labels, *values = json.loads(text)
        return Layout(tuple(offsets), labels, *(tuple(one) for one in values))

    def _meta(self, name: str) -> bytes:
        return bytes(self._one("SELECT value FROM meta WHERE name = ?", name))

    def _integer(self, name: str) -> int:
        return int(self._one("SELECT value FROM meta WHERE name = ?", name))

    def _set_meta(self, name: str, value: bytes | int) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _one(self, query: str, *values: object) -> Any:
        with self._lock, self._named_errors():
            row = self._db.execute(query, values).fetchone()
        return None if row is None else row[0]

    def _full_error(self) -> OutboxError:
        return OutboxError(
            f"{self._path}: expected at most {self._max_bytes} bytes, and nothing held "
            "can be merged any more",
            next_step="let the device reach its server, or raise outbox.max",
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._named_errors():
            before = getattr(self, "_next_seq", 1), dict(getattr(self, "_handed", {}))
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._next_seq, self._handed = before
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(
                f"{self._path}: {error}",
                next_step="check the disk; if the file is damaged, move it away",
            ) from error


class SlotLedger:
    """One slot's part of an outbox: its windows, and its checkpoint.

    Args:
        outbox: Shared by all slots.
        slot: The slot's name.
    """

    def __init__(self, outbox: Outbox, slot: str) -> None:
        self._outbox = outbox
        self._slot = slot

    def close_window(self, build: Build, checkpoint: bytes) -> int:
        """Store a window and the checkpoint after it in one transaction.

        Raises:
            OutboxError: The disk refused; neither is stored.
        """
        return self._outbox.close_window(self._slot, build, checkpoint)

    def save_checkpoint(self, checkpoint: bytes) -> None:
        """Replace the checkpoint.

        Raises:
            OutboxError: The disk refused; the old one is kept.
        """
        self._outbox.save_checkpoint(self._slot, checkpoint)

    def load_checkpoint(self) -> bytes | None:
        """Return the checkpoint, or None."""
        return self._outbox.load_checkpoint(self._slot)

    def remember_layout(self, ref_id: bytes, layout: Layout) -> None:
        """Keep how counts under a reference profile are laid out."""
        self._outbox.remember_layout(ref_id, layout)


def _handed_name(lane: int) -> str:
    return f"handed/{lane}"


def _checkpoint_name(slot: str) -> str:
    return f"checkpoint/{slot}"
