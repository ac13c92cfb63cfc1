# SPDX-License-Identifier: Apache-2.0
"""The marks of a batch of messages, read once and written once.

Owns the table ``marks``. The arithmetic is in ``marks``.
"""

from sqlalchemy import Connection, insert, select, update

from fleet.ingest.marks import Marks
from fleet.store.tables import marks as table

Stream = tuple[str, bytes]  # device, boot_id


class MarksBook:
    """Marks of streams inside one write transaction.

    Args:
        connection: The transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._marks: dict[Stream, Marks] = {}
        self._stored: dict[Stream, Marks | None] = {}

    def read(self, stream: Stream) -> Marks:
        """Return the stream's marks as of now."""
        if stream not in self._marks:
            stored = read_marks(self._connection, stream)
            self._stored[stream] = stored
            self._marks[stream] = stored or Marks()
        return self._marks[stream]

    def set(self, stream: Stream, marks: Marks) -> None:
        """Remember the stream's new marks."""
        self._marks[stream] = marks

    def flush(self) -> None:
        """Write what changed."""
        for stream, marks in self._marks.items():
            if marks == self._stored[stream]:
                continue
            values = {"mark": marks.mark, "bitmap": marks.bitmap()}
            if self._stored[stream] is None:
                row = {"device": stream[0], "boot_id": stream[1], **values}
                self._connection.execute(insert(table).values(**row))
            else:
                self._connection.execute(
                    update(table)
                    .where(table.c.device == stream[0], table.c.boot_id == stream[1])
                    .values(**values)
                )
            self._stored[stream] = marks


def read_marks(connection: Connection, stream: Stream) -> Marks | None:
    """Return the committed marks of a stream, None before its first message."""
    query = select(table.c.mark, table.c.bitmap).where(
        table.c.device == stream[0], table.c.boot_id == stream[1]
    )
    row = connection.execute(query).first()
    return None if row is None else Marks.from_bitmap(row.mark, row.bitmap)
