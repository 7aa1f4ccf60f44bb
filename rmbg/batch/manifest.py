"""Manifest of a batch: state of each input and journal of paid calls in an SQLite file, and the outcome of one photo."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from rmbg.batch.sources import label
from rmbg.billing.cost import UNITS_PER_USD, Cost
from rmbg.errors import OutputError, RmbgError, reason


class HaltError(RmbgError):
    """No further photo can be processed; the current one is left for the next run."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of one photo.

    Attributes
    ----------
    name : str
    state : str
    message : str
        Reason of a failure, or notes on a result.
    unchanged : bool
        True if the result of an earlier run is still current.
    systematic : bool
        True for a failure of the provider, which may affect the next photos as well.
    cost : Cost or None
        Cost of the call for this photo; None if there was none in this run, or none that is charged.
    seconds : float
        Duration of the provider's run; 0 if there was none.
    confidence : float or None
        As in `Cutout`.
    """

    name: str
    state: State
    message: str = ""
    unchanged: bool = False
    systematic: bool = False
    cost: Cost | None = None
    seconds: float = 0.0
    confidence: float | None = None


# Manifest of a batch: state of each input and journal of paid calls, in an SQLite file.


#: Version of the schema.
VERSION = 1

SCHEMA = f"""
CREATE TABLE items (
    name TEXT PRIMARY KEY, target TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'new', stamp TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL DEFAULT '', inference TEXT NOT NULL DEFAULT '', rendering TEXT NOT NULL DEFAULT '',
    output TEXT NOT NULL DEFAULT '', size INTEGER NOT NULL DEFAULT 0, width INTEGER NOT NULL DEFAULT 0,
    height INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '',
    times INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, inference TEXT NOT NULL,
    job TEXT NOT NULL UNIQUE, handle TEXT NOT NULL DEFAULT '', state TEXT NOT NULL DEFAULT 'sent',
    reserved INTEGER NOT NULL, usd INTEGER, basis TEXT NOT NULL DEFAULT 'unknown'
);
CREATE INDEX calls_digest ON calls (digest, inference);
CREATE INDEX calls_name ON calls (name);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""

#: done: result written. nothing: no subject found. failed: failed without a charge. charged: failed, and charged or possibly
#: charged. new: not processed yet.
State = Literal["new", "done", "nothing", "failed", "charged"]


@dataclass(frozen=True)
class Item:
    """State of one input; the fields are the columns of the table ``items``."""

    name: str
    target: str
    state: State = "new"
    stamp: str = ""
    digest: str = ""
    inference: str = ""
    rendering: str = ""
    output: str = ""
    size: int = 0
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    message: str = ""
    times: int = 0


@dataclass(frozen=True)
class Call:
    """One paid call.

    Attributes
    ----------
    id : int
    at : float
        Start in seconds since the epoch.
    job : str
        UUID of the job, sent to the service.
    handle : str
        Identifier of the job at the service; empty until the service has accepted the job.
    state : str
        ``sent`` (outcome unknown), ``unknown`` (failed, possibly charged), ``answered`` or ``free``.
    reserved : Decimal
        Dollars that count against the limit while the cost is unknown.
    """

    id: int
    at: float
    job: str
    handle: str
    state: str
    reserved: Decimal


_COLUMNS = ", ".join(field.name for field in fields(Item))
_COUNTED = "CASE WHEN state = 'free' THEN 0 ELSE coalesce(usd, reserved) END"


class Manifest:
    """Manifest in one file; thread-safe.

    Parameters
    ----------
    path : Path
        Created if missing.

    Raises
    ------
    OutputError
        If the file is damaged, of another version, or locked by another batch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._failures():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _create(path)
            elif path.stat().st_size == 0:
                raise sqlite3.DatabaseError("the file is empty")
            self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")  # a power failure must not lose a paid call
                self._db.execute("BEGIN EXCLUSIVE")
                self._db.execute("COMMIT")
                self._check()
            except BaseException:
                self._db.close()
                raise

    def _check(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            raise OutputError(f"{label(self.path)} was written by another version of this program. Choose another output.")
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)

    def close(self) -> None:
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.close()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def items(self) -> dict[str, Item]:
        """Return all items by name."""
        with self._failures():
            return {row[0]: Item(*row) for row in self._db.execute(f"SELECT {_COLUMNS} FROM items")}

    def assign(self, targets: Iterable[tuple[str, str]]) -> None:
        """Insert new items.

        Parameters
        ----------
        targets : iterable of (name, target)
        """
        with self._failures():
            self._db.execute("BEGIN")
            self._db.executemany("INSERT INTO items (name, target) VALUES (?, ?)", targets)
            self._db.execute("COMMIT")

    def record(self, name: str, **values: Any) -> None:
        """Update columns of an item."""
        columns = ", ".join(f"{column} = ?" for column in values)
        with self._failures():
            self._db.execute(f"UPDATE items SET {columns} WHERE name = ?", (*values.values(), name))

    def fact(self, name: str) -> str | None:
        """Return a value stored by `set_fact`, or None."""
        with self._failures():
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_fact(self, name: str, value: str) -> None:
        """Store a value that belongs to the batch as a whole."""
        with self._failures():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def begin_call(self, name: str, digest: str, inference: str, reserved: Decimal) -> Call:
        """Record a paid call before it is sent."""
        job, now = str(uuid.uuid4()), time.time()
        values = (now, name, digest, inference, job, int(reserved * UNITS_PER_USD))
        with self._failures():
            cursor = self._db.execute(
                "INSERT INTO calls (at, name, digest, inference, job, reserved) VALUES (?, ?, ?, ?, ?, ?)", values
            )
        assert cursor.lastrowid is not None
        return Call(cursor.lastrowid, now, job, "", "sent", reserved)

    def set_handle(self, number: int, handle: str) -> None:
        """Store the identifier of a job at the service."""
        with self._failures():
            self._db.execute("UPDATE calls SET handle = ? WHERE id = ?", (handle, number))

    def end_call(self, number: int, state: str, usd: Decimal | None, basis: str = "unknown") -> None:
        """Record the outcome of a call and its cost in dollars."""
        units = None if usd is None else int(usd * UNITS_PER_USD)
        with self._failures():
            self._db.execute("UPDATE calls SET state = ?, usd = ?, basis = ? WHERE id = ?", (state, units, basis, number))

    def open_call(self, digest: str, inference: str) -> Call | None:
        """Return the last call for a photo if its outcome is unknown, otherwise None."""
        with self._failures():
            row = self._db.execute(
                "SELECT id, at, job, handle, state, reserved FROM calls WHERE digest = ? AND inference = ?"
                " ORDER BY id DESC LIMIT 1",
                (digest, inference),
            ).fetchone()
        if row is None or row[4] not in ("sent", "unknown"):
            return None
        number, at, job, handle, state, units = row
        return Call(number, at, job, handle, state, Decimal(units) / UNITS_PER_USD)

    def charge(self, digest: str, inference: str) -> Cost | None:
        """Return the cost of the last call for a photo, or None if it was not charged or its outcome is unknown."""
        query = "SELECT state, usd, basis FROM calls WHERE digest = ? AND inference = ? ORDER BY id DESC LIMIT 1"
        with self._failures():
            row = self._db.execute(query, (digest, inference)).fetchone()
        if row is None or row[0] != "answered" or row[1] == 0:
            return None
        return Cost(None if row[1] is None else Decimal(row[1]) / UNITS_PER_USD, row[2])

    def highest_cost(self, inference: str) -> Decimal:
        """Return the highest cost of a call with these settings, in dollars; zero without a call of known cost."""
        with self._failures():
            row = self._db.execute("SELECT coalesce(max(usd), 0) FROM calls WHERE inference = ?", (inference,)).fetchone()
        return Decimal(row[0]) / UNITS_PER_USD

    def names_with_open_calls(self) -> set[str]:
        """Return the names of inputs with a call whose outcome is unknown."""
        with self._failures():
            return {row[0] for row in self._db.execute("SELECT name FROM calls WHERE state IN ('sent', 'unknown')")}

    def spent(self) -> tuple[Decimal, Decimal]:
        """Return the total cost of all calls and the highest cost of one call, in dollars.

        Calls of unknown cost count with the reserved amount.
        """
        with self._failures():
            row = self._db.execute(f"SELECT coalesce(sum({_COUNTED}), 0), coalesce(max(usd), 0) FROM calls").fetchone()
        return Decimal(row[0]) / UNITS_PER_USD, Decimal(row[1]) / UNITS_PER_USD

    def bill(self) -> dict[str, tuple[int, Decimal]]:
        """Return number and total cost of the charged calls by basis; calls of unknown cost count with the reserved amount."""
        query = f"SELECT basis, count(*), sum({_COUNTED}) FROM calls WHERE state <> 'free' GROUP BY basis"
        with self._failures():
            return {basis: (count, Decimal(units) / UNITS_PER_USD) for basis, count, units in self._db.execute(query)}

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Hold the lock, and convert errors of SQLite and the file system to OutputError."""
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as error:
                if "locked" in str(error):
                    raise OutputError("Another batch is writing to this output. Wait until it has ended.") from None
                raise OutputError(f"{label(self.path)} could not be written: {reason(error)}.") from None
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise OutputError(
                    f"{label(self.path)} is damaged ({reason(error)}). Move it away to repeat everything, including paid calls."
                ) from None
            except OSError as error:
                if isinstance(error, OutputError):
                    raise
                raise OutputError(f"{label(self.path)} could not be written: {error.strerror or error}.") from None


def _create(path: Path) -> None:
    """Create an empty manifest atomically, since an empty file is treated as a damaged manifest.

    The file of a batch that was started at the same time is never replaced: that batch may have recorded paid calls in it.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as db:
            db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            if not path.exists():
                temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
