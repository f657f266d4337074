"""Keeps messages on disk until their sinks have them: a SQLite file in a folder.

A message is on disk (fsync) before `add` returns. Events that are open are kept, too, so
that a killed program's next start can say that they were interrupted. One process at a
time uses a folder.
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from wsvad_jax.alarms.sinks import Message
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

NAME = "outbox.sqlite"
LIMIT = 10_000  # messages per sink; beyond it, the oldest are dropped
IN_MEMORY = 1000  # messages that are held while the disk is full
VERSION = 1
TABLES = """
CREATE TABLE messages (
  number INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, key TEXT NOT NULL,
  body TEXT NOT NULL, refused TEXT NOT NULL DEFAULT '', UNIQUE (sink, key)
);
CREATE TABLE open_events (id TEXT PRIMARY KEY, body TEXT NOT NULL, sinks TEXT NOT NULL);
CREATE TABLE sinks (sink TEXT PRIMARY KEY, shown TEXT NOT NULL);
"""


@dataclasses.dataclass(frozen=True)
class Waiting:
    """A message in the outbox; a negative number marks one that isn't on disk."""

    number: int
    sink: str
    message: Message


class Outbox:
    """Messages that wait for their sinks; a context manager, used from any thread."""

    def __init__(self, folder: str | os.PathLike, *, limit: int = LIMIT):
        """Stores the folder; `with` creates, locks and opens it.

        Args:
          folder: folder of the outbox.
          limit: messages that wait per sink; beyond it, the oldest are dropped.
        """
        self.folder, self.limit = pathlib.Path(folder), limit
        self.dropped: collections.Counter[str] = collections.Counter()  # by sink
        self.failure = ""  # why the last write failed
        self._lock = threading.RLock()
        self._stack = contextlib.ExitStack()
        self._unwritten: collections.deque[Waiting] = collections.deque()
        self._aside: list[tuple[Waiting, str]] = []  # refused while the disk was full
        self._over: set[str] = set()  # events that closed while the disk was full
        self._acknowledged: set[int] = set()  # that couldn't be removed from the disk
        self._last = 0  # number of the last message in memory

    def __enter__(self) -> "Outbox":  # noqa: PYI034 (beartype refuses Self here)
        """Opens the outbox.

        Raises:
          InputError: the folder can't be written, another process uses it, or its file
            is no outbox.
        """
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise InputError("is a file; expected a folder")
            self._stack.enter_context(files.locked(self.folder))
        except InputError as e:
            reason = str(e).removeprefix(f"{self.folder}: ")
            raise InputError(f"--outbox {self.folder}: {reason}") from None
        except (OSError, ValueError) as e:
            reason = getattr(e, "strerror", None) or e
            raise InputError(
                f"--outbox {self.folder}: can't be written ({reason}); choose another "
                "folder"
            ) from None

        path = self.folder / NAME
        new = not path.exists()
        try:
            self._connection = _open(path)
        except sqlite3.Error as e:
            if new:
                _remove(path)
            self._stack.close()
            # Of the disk, such as a full one; other errors are of the file's content.
            if isinstance(e, sqlite3.OperationalError):
                raise InputError(
                    f"--outbox {self.folder}: {NAME} can't be written ({e}); make room on "
                    "its disk, or choose another folder"
                ) from None
            raise InputError(
                f"--outbox {self.folder}: {NAME} is no outbox of this program, or damaged "
                f"({e}); move it away, or choose another folder"
            ) from None
        return self

    def __exit__(self, *exc) -> None:
        """Closes the file, and removes it if nothing waits in it."""
        with self._lock:
            self._flush()
            self.failure = self.failure or "closed"
            empty = False
            with contextlib.suppress(sqlite3.Error):
                empty = not self._value(
                    "SELECT (SELECT COUNT(*) FROM messages) + "
                    "(SELECT COUNT(*) FROM open_events)"
                )
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            if empty and not (self._unwritten or self._aside):
                _remove(self.folder / NAME)
            self._stack.close()

    def register(self, sinks: Mapping[str, str]) -> None:
        """Stores how sinks are shown, by their identity."""
        with self._lock, self._connection as db:
            db.executemany("INSERT OR REPLACE INTO sinks VALUES (?, ?)", sinks.items())

    def add(
        self,
        message: Message,
        sinks: Sequence[str],
        *,
        opens: str = "",
        closes: str = "",
    ) -> None:
        """Stores a message for each sink; it is on disk when this returns.

        If the disk is full or fails, it is held in memory and written when that is
        possible; `failure` says why. A newer message replaces one of the same key.

        Args:
          message: message.
          sinks: identities of the sinks.
          opens: id of an event that is open from now on.
          closes: id of an event that is over.
        """
        with self._lock:
            self._flush()
            try:
                with self._connection as db:
                    for sink in sinks:
                        _insert(db, sink, message)
                        self._drop_oldest(db, sink)
                    if opens:
                        db.execute(
                            "INSERT OR REPLACE INTO open_events VALUES (?, ?, ?)",
                            (opens, message.body, json.dumps(list(sinks))),
                        )
                    db.execute("DELETE FROM open_events WHERE id = ?", (closes,))
                self.failure = ""
            except sqlite3.Error as e:
                self.failure = str(e)
                self._over.add(closes)
                for sink in sinks:
                    self._hold(sink, message)

    def first(self, sink: str) -> Waiting | None:
        """Returns the oldest message that waits for a sink."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._flush()
            rows = self._connection.execute(
                "SELECT number, key, body FROM messages WHERE sink = ? AND refused = '' "
                "ORDER BY number LIMIT ?",
                (sink, len(self._acknowledged) + 1),
            )
            for number, key, body in rows.fetchall():
                if number not in self._acknowledged:
                    return Waiting(number, sink, Message(key, body))
        with self._lock:
            return next((item for item in self._unwritten if item.sink == sink), None)

    def remove(self, waiting: Waiting) -> None:
        """Removes a message that its sink has acknowledged."""
        with self._lock:
            if waiting in self._unwritten:
                self._unwritten.remove(waiting)
            if waiting.number > 0:
                self._acknowledged.add(waiting.number)
            self._flush()

    def set_aside(self, waiting: Waiting, reason: str) -> None:
        """Keeps a message that its sink refuses, so that it isn't sent again now."""
        with self._lock:
            if waiting in self._unwritten:
                self._unwritten.remove(waiting)
                self._aside.append((waiting, reason or "refused"))
                self._flush()
                return
            with contextlib.suppress(sqlite3.Error), self._connection as db:
                db.execute(
                    "UPDATE messages SET refused = ? WHERE number = ?",
                    (reason or "refused", waiting.number),
                )

    def release_refused(self, sink: str) -> int:
        """Has messages that a sink refused wait again; returns their number."""
        with self._lock, self._connection as db:
            return db.execute(
                "UPDATE messages SET refused = '' WHERE sink = ? AND refused != ''",
                (sink,),
            ).rowcount

    def counts(self, sink: str) -> tuple[int, int]:
        """Returns the number of messages that wait for a sink, and that it refused."""
        count = "SELECT COUNT(*) FROM messages WHERE sink = ? AND refused"
        with self._lock:
            held = sum(item.sink == sink for item in self._unwritten)
            aside = sum(item.sink == sink for item, _ in self._aside)
            try:
                waiting = self._value(f"{count} = ''", sink) - len(self._acknowledged)
                refused = self._value(f"{count} != ''", sink)
                return max(waiting, 0) + held, refused + aside
            except sqlite3.Error:
                return held, aside

    def others(self, sinks: Sequence[str]) -> dict[str, int]:
        """Returns how many messages wait for sinks other than these, by address."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT shown, sink, COUNT(*) FROM messages JOIN sinks USING (sink) "
                "GROUP BY sink"
            )
            return {shown: n for shown, sink, n in rows.fetchall() if sink not in sinks}

    def in_memory(self, sink: str) -> int:
        """Returns the number of a sink's messages that still can't be written."""
        with self._lock:
            self._flush()
            held = [*self._unwritten, *(item for item, _ in self._aside)]
            return sum(item.sink == sink for item in held)

    def open_events(self) -> list[tuple[dict[str, Any], list[str]]]:
        """Returns the messages that opened events which never closed, and their sinks."""
        with self._lock:
            rows = self._connection.execute("SELECT body, sinks FROM open_events")
            found = [(json.loads(body), json.loads(to)) for body, to in rows.fetchall()]
        return [(opened, to) for opened, to in found if opened["id"] not in self._over]

    def _hold(self, sink: str, message: Message) -> None:
        self._last -= 1
        self._unwritten.append(Waiting(self._last, sink, message))
        if len(self._unwritten) > IN_MEMORY:
            self.dropped[self._unwritten.popleft().sink] += 1

    def _flush(self) -> None:
        """Writes what is held in memory, and removes what was acknowledged."""
        if not (self._unwritten or self._aside or self._acknowledged or self._over):
            return
        with contextlib.suppress(sqlite3.Error):
            with self._connection as db:
                gone = [(number,) for number in self._acknowledged]
                db.executemany("DELETE FROM messages WHERE number = ?", gone)
                over = [(event,) for event in self._over]
                db.executemany("DELETE FROM open_events WHERE id = ?", over)
                for item in self._unwritten:
                    _insert(db, item.sink, item.message)
                for item, reason in self._aside:
                    _insert(db, item.sink, item.message, reason)
            self._unwritten.clear()
            self._aside.clear()
            self._over.clear()
            self._acknowledged.clear()

    def _drop_oldest(self, db: sqlite3.Connection, sink: str) -> None:
        count = "SELECT COUNT(*) FROM messages WHERE sink = ?"
        if (excess := self._value(count, sink) - self.limit) > 0:
            db.execute(
                "DELETE FROM messages WHERE number IN (SELECT number FROM messages "
                "WHERE sink = ? ORDER BY number LIMIT ?)",
                (sink, excess),
            )
            self.dropped[sink] += excess

    def _value(self, query: str, *arguments: Any) -> int:
        return self._connection.execute(query, arguments).fetchone()[0]


def _insert(
    db: sqlite3.Connection, sink: str, message: Message, refused: str = ""
) -> None:
    # A new row: the older one may be on its way, and is then removed by its number.
    db.execute("DELETE FROM messages WHERE sink = ? AND key = ?", (sink, message.key))
    db.execute(
        "INSERT INTO messages (sink, key, body, refused) VALUES (?, ?, ?, ?)",
        (sink, message.key, message.body, refused),
    )


def _remove(path: pathlib.Path) -> None:
    """Removes the file, and those that SQLite keeps beside it."""
    for ending in ("", "-wal", "-shm"):
        path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)


def _open(path: pathlib.Path) -> sqlite3.Connection:
    """Opens or creates the file; raises sqlite3.Error if it is no outbox."""
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        known = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if version != VERSION and (version or known):
            raise sqlite3.DatabaseError(f"version {version}, expected {VERSION}")

        # Only now: another program's file is left as it is.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if not known:
            db.executescript(
                f"BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"
            )
    except sqlite3.Error:
        db.close()
        raise

    # A new file's name is in the folder, which is written on its own.
    handle = os.open(path.parent, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fsync(handle)
    os.close(handle)
    return db
