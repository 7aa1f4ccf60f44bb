"""Database file of the ledger: creation, schema upgrade and integrity checks.

A missing file means a first start. An empty, damaged or foreign file is an error, because replacing it with a new ledger would
reset the daily budget.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from rmbg.errors import NotReadyError
from rmbg.message import Message, OwnerMessage

#: Schema version, stored in the file as ``user_version``.
VERSION = 2

#: For visitors, in the place of messages about the ledger's file.
NO_LEDGER = Message("The ledger of this server cannot be used. Choose a free provider.")

_TABLE = """
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    expires REAL NOT NULL,
    provider TEXT NOT NULL,
    owners INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'charged', 'listed', 'estimated', 'unknown', 'nothing')),
    images INTEGER NOT NULL CHECK (images >= 1),
    counted INTEGER NOT NULL CHECK (typeof(counted) = 'integer' AND counted >= 0),
    usd INTEGER CHECK (usd IS NULL OR typeof(usd) = 'integer' AND usd >= 0)
);
CREATE INDEX calls_at ON calls (at);
"""

# The table is rebuilt, because DROP COLUMN requires SQLite 3.35.
_FROM_1 = f"""
ALTER TABLE calls RENAME TO calls_1;
DROP INDEX calls_at;
{_TABLE}
INSERT INTO calls (id, at, expires, provider, owners, state, images, counted, usd)
    SELECT id, at, at, provider, owners, state, 1, counted, usd FROM calls_1;
DROP TABLE calls_1;
"""


@contextlib.contextmanager
def connection(path: Path, *, write: bool) -> Iterator[sqlite3.Connection]:
    """Open a connection for one transaction; it is closed at the end of the block.

    Reading requires no write access to the file or folder, and a missing file reads as an empty ledger. Writing creates it.

    Raises
    ------
    NotReadyError
        If the file cannot be opened or is damaged, or an operation in the block fails.
    """
    try:
        if not _exists(path):
            if not write:
                with contextlib.closing(_new(":memory:")) as empty:
                    yield empty
                return
            _create(path)
        with contextlib.closing(_connect(path, write=write)) as db:
            _check(db, path, write=write)
            yield db
    except sqlite3.Error as error:
        raise _database_error(path, error, write=write) from None
    except OSError as error:
        verb, state = ("written", "writable") if write else ("read", "readable")
        text = f"The ledger {path} cannot be {verb}: {error.strerror or error}."
        # Another folder is recommended on a first start only: later, it would hide the spending so far.
        advice = f"Make {path.parent} {state}." if path.parent.is_dir() else "Set RMBG_DATA to a folder that can be created."
        raise NotReadyError(OwnerMessage(f"{text} {advice}", NO_LEDGER)) from None


def damaged(path: Path, reason: str) -> NotReadyError:
    """Return the error for a ledger with missing or invalid entries."""
    return NotReadyError(
        f"The ledger {path} is damaged: {reason}. Restore it from a backup. Moving it away creates a new "
        "ledger and resets today's budget."
    )


def _exists(path: Path) -> bool:
    """True if the file exists, False on a first start; NotReadyError if only its write-ahead log exists."""
    try:
        if path.stat().st_size == 0:
            raise damaged(path, "it is empty")
    except FileNotFoundError:
        log = path.with_name(path.name + "-wal")
        # Another thread or process may have created both since the first check. The file always precedes its log.
        if _size(log) and not path.exists():
            raise damaged(path, f"it is missing, but its log {log.name} exists") from None
        return path.exists()
    return True


def _size(path: Path) -> int:
    """Size of a file in bytes; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _new(name: str) -> sqlite3.Connection:
    db = sqlite3.connect(name, isolation_level=None)
    db.executescript(f"BEGIN; {_TABLE} PRAGMA user_version = {VERSION}; COMMIT;")
    return db


def _create(path: Path) -> None:
    """Create the file atomically; with SQLite alone, it would exist as an empty file for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".ledger-", dir=path.parent)
    os.close(handle)
    try:
        with contextlib.closing(_new(name)) as db:
            # Stored in the file; a later change fails while another process has the file open.
            db.execute("PRAGMA journal_mode = WAL")
        try:
            os.link(name, path)
        except FileExistsError:
            return  # created by another process meanwhile
        except OSError:  # a file system without hard links
            if not path.exists():
                Path(name).replace(path)
    finally:
        for temporary in (name, f"{name}-wal", f"{name}-shm"):
            Path(temporary).unlink(missing_ok=True)


def _connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open an existing file without creating one."""
    uri = f"file:{quote(str(path.absolute()))}"
    if write:
        db = sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=15, isolation_level=None)
        # Entries must survive a power failure. A flush takes little time compared with a network call.
        db.execute("PRAGMA synchronous = FULL")
        return db
    db = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=15, isolation_level=None)
    try:
        db.execute("PRAGMA user_version").fetchone()
        return db
    except sqlite3.OperationalError:
        db.close()
        log = path.with_name(path.name + "-wal")
        if _size(log):
            raise
        # WAL mode creates files next to the database, which fails in a read-only folder. Without a log, the database file
        # alone is complete.
        return sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None)


def _check(db: sqlite3.Connection, path: Path, *, write: bool) -> None:
    """Check the schema version, and upgrade an older ledger; NotReadyError for any other database."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise NotReadyError(f"The ledger {path} is from a newer version of this program. Update the program.")
    if version < 1:
        raise damaged(path, "it is not a ledger")
    if version == 1 and write:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] == 1:
            for statement in _FROM_1.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")


def _database_error(path: Path, error: sqlite3.Error, *, write: bool) -> NotReadyError:
    text = str(error)
    if "locked" in text:
        return NotReadyError(f"The ledger {path} is in use by another process. Try again.")
    if isinstance(error, sqlite3.OperationalError) and "no such" not in text:
        if not write:
            return NotReadyError(f"The ledger {path} cannot be read: {text}. Make the file readable.")
        return NotReadyError(
            f"The ledger {path} cannot be written: {text}. Nothing was sent, because a paid call must be recorded first. Make "
            "the file and its folder writable."
        )
    return damaged(path, text)
