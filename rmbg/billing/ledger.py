"""Ledger of paid calls: a write-ahead record of each call in an SQLite file, settled when the outcome is known.

A missing file means a first start. An empty, damaged or foreign file is an error, because replacing it with a new ledger would
reset the daily budget. The tables of ``rmbg/billing/client_keys.py`` are in the same file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from rmbg.billing.cost import UNITS_PER_USD, Cost, dollars
from rmbg.errors import NotReadyError
from rmbg.runtime.messages import Message, OwnerMessage
from rmbg.settings import Settings

#: Schema version, stored in the file as ``user_version``.
VERSION = 3

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

# `full_at` is the time at which all calls of a minute are available again.
_CLIENT_TABLES = """
CREATE TABLE client_keys (
    name TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    credits INTEGER CHECK (credits IS NULL OR typeof(credits) = 'integer' AND credits >= 0),
    rate INTEGER,
    providers TEXT NOT NULL,
    budget INTEGER,
    created REAL NOT NULL,
    used REAL,
    revoked INTEGER NOT NULL DEFAULT 0,
    full_at REAL NOT NULL DEFAULT 0
);
CREATE TABLE client_days (
    name TEXT NOT NULL,
    day INTEGER NOT NULL,
    calls INTEGER NOT NULL DEFAULT 0,
    pictures INTEGER NOT NULL DEFAULT 0,
    usd INTEGER NOT NULL DEFAULT 0 CHECK (typeof(usd) = 'integer'),
    open_usd INTEGER NOT NULL DEFAULT 0 CHECK (typeof(open_usd) = 'integer'),
    PRIMARY KEY (name, day)
);
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

#: Statements that upgrade a ledger from the schema version that is the key to the next one.
_UPGRADES = {1: _FROM_1, 2: _CLIENT_TABLES}


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


def unusable(text: str) -> NotReadyError:
    """Return the error with a message for the owner, which has a path that visitors of a server do not read."""
    return NotReadyError(OwnerMessage(text, NO_LEDGER))


def damaged(path: Path, reason: str) -> NotReadyError:
    """Return the error for a ledger with missing or invalid entries."""
    return unusable(
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
    db.executescript(f"BEGIN; {_TABLE} {_CLIENT_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
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
        raise unusable(f"The ledger {path} is from a newer version of this program. Update the program.")
    if version < 1:
        raise damaged(path, "it is not a ledger")
    if version < VERSION and write:
        db.execute("BEGIN IMMEDIATE")
        for step in range(db.execute("PRAGMA user_version").fetchone()[0], VERSION):
            for statement in _UPGRADES[step].split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {step + 1}")
        db.execute("COMMIT")
    elif version < VERSION:  # an older ledger that is only read has no clients
        db.executescript(_CLIENT_TABLES.replace("CREATE TABLE", "CREATE TEMP TABLE"))


def _database_error(path: Path, error: sqlite3.Error, *, write: bool) -> NotReadyError:
    text = str(error)
    if "locked" in text:
        return unusable(f"The ledger {path} is in use by another process. Try again.")
    if isinstance(error, sqlite3.OperationalError) and "no such" not in text:
        if not write:
            return unusable(f"The ledger {path} cannot be read: {text}. Make the file readable.")
        return unusable(
            f"The ledger {path} cannot be written: {text}. Nothing was sent or changed. Make the file and its folder writable."
        )
    return damaged(path, text)


DAY = 86_400

#: Length in days of the period whose highest price of a provider is reserved for its next calls.
PRICE_DAYS = 30

#: Calls run concurrently while the budget covers all of them at this multiple of their expected price. Closer to the limit,
#: calls are serialized, so that a price increase is recorded before the next call is sent.
HEADROOM = 10

#: Seconds after its deadline within which a pending call may still be settled.
GRACE_SECONDS = 15.0

#: Seconds between two attempts of a call that waits for another call to be settled.
POLL_INTERVAL = 0.2

# The reserved price counts while the cost of a call is unknown.
_AMOUNT = "CASE WHEN state = 'nothing' THEN 0 ELSE coalesce(usd, counted) END"

# SQLite columns accept any type, and sum() treats text as zero.
_DAMAGED = "typeof(counted) <> 'integer' OR counted < 0 OR usd IS NOT NULL AND (typeof(usd) <> 'integer' OR usd < 0)"


@dataclass(frozen=True)
class Total:
    """Spending at one provider: calls and known dollars; open calls and the dollars reserved for them."""

    provider: str
    calls: int
    usd: Decimal
    open_calls: int
    open_usd: Decimal


class Entry(NamedTuple):
    """Id of a call in the ledger and the dollars reserved for it."""

    id: int
    reserved: Decimal


class Ledger:
    """Ledger in one file, which any number of instances and processes may share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(
        self,
        provider: str,
        listed: Decimal,
        *,
        owners: bool,
        budget: Decimal | None = None,
        images: int = 1,
        seconds: float = 0.0,
        wait: Callable[[float], None] = time.sleep,
        now: float | None = None,
    ) -> Entry:
        """Record a call before it is sent and reserve its price.

        The reserved price is the higher of the list price and the highest price per image that the provider charged in the last
        `PRICE_DAYS` days. Near the budget limit, the call waits until earlier calls are settled.

        Parameters
        ----------
        provider : str
        listed : Decimal
            List price of all images of the call, in dollars.
        owners : bool
            True if the call uses the owner's key. Only such calls count against `budget`.
        budget : Decimal, optional
            Daily limit (UTC), in dollars.
        images : int
        seconds : float
            Time until the deadline of the call. Later calls wait for it no longer than that and `GRACE_SECONDS`.
        wait : callable (seconds)
            Called between two attempts; may raise to abort.
        now : float, optional
            Time in seconds since the epoch, by default the current time.

        Raises
        ------
        NotReadyError
            If the budget is exhausted or the ledger cannot be written. The call must not be sent.
        """
        while True:
            moment = time.time() if now is None else now
            with connection(self.path, write=True) as db:
                db.execute("BEGIN IMMEDIATE")
                reserve = max(listed, images * self._highest_price(db, provider, moment))
                if budget is None or not owners or self._may_start(db, reserve, budget, moment):
                    cursor = db.execute(
                        "INSERT INTO calls (at, expires, provider, owners, state, images, counted) "
                        "VALUES (?, ?, ?, ?, 'pending', ?, ?)",
                        (moment, moment + seconds + GRACE_SECONDS, provider, owners, images, units(reserve)),
                    )
                    db.execute("COMMIT")
                    assert cursor.lastrowid is not None
                    return Entry(cursor.lastrowid, reserve)
                db.execute("ROLLBACK")
            wait(POLL_INTERVAL)

    def settle(self, id: int, cost: Cost | None) -> None:
        """Record the outcome of call `id`; a cost of None means that nothing was charged."""
        state = "nothing" if cost is None else cost.basis
        usd = None if cost is None or cost.usd is None else units(cost.usd)
        with connection(self.path, write=True) as db:
            db.execute("UPDATE calls SET state = ?, usd = ? WHERE id = ?", (state, usd, id))

    def spent_today(self, now: float | None = None) -> Decimal:
        """Dollars spent today (UTC) with the owner's keys; open calls count at the reserved price."""
        now = time.time() if now is None else now
        with connection(self.path, write=False) as db:
            return self._spent_since(db, now - now % DAY)

    def totals(self, since: float = 0.0) -> list[Total]:
        """Spending by provider since a time in seconds since the epoch, with any key, sorted by provider."""
        rows = f"""
            SELECT provider,
                   sum(state <> 'nothing'),
                   sum(CASE WHEN state IN ('pending', 'unknown') THEN 0 ELSE {_AMOUNT} END),
                   sum(state IN ('pending', 'unknown')),
                   sum(CASE WHEN state IN ('pending', 'unknown') THEN {_AMOUNT} ELSE 0 END),
                   sum({_DAMAGED})
            FROM calls WHERE at >= ? GROUP BY provider ORDER BY provider
        """
        with connection(self.path, write=False) as db:
            totals = db.execute(rows, (since,)).fetchall()
        if any(wrong for *_, wrong in totals):
            raise damaged(self.path, "an amount in it is not a number")
        return [
            Total(name, calls, usd / UNITS_PER_USD, count, reserved / UNITS_PER_USD)
            for name, calls, usd, count, reserved, _ in totals
        ]

    def _may_start(self, db: sqlite3.Connection, reserve: Decimal, budget: Decimal, now: float) -> bool:
        """True if the call can be sent now, False if it must wait; NotReadyError if the budget is exhausted."""
        midnight = now - now % DAY
        spent = self._spent_since(db, midnight)
        query = "SELECT coalesce(sum(counted), 0) FROM calls WHERE owners AND state = 'pending' AND at >= ? AND expires > ?"
        pending = Decimal(db.execute(query, (midnight, now)).fetchone()[0]) / UNITS_PER_USD
        if spent - pending + reserve > budget:
            raise NotReadyError(_budget_message(budget, spent, reserve, DAY - now % DAY))
        # `spent` includes pending calls once.
        if spent + (HEADROOM - 1) * pending + HEADROOM * reserve <= budget:
            return True
        return pending == 0

    @staticmethod
    def _highest_price(db: sqlite3.Connection, provider: str, now: float) -> Decimal:
        """Highest price per image that `provider` charged to the owner's keys in the last `PRICE_DAYS` days."""
        query = """SELECT max((usd + images - 1) / images) FROM calls
                   WHERE provider = ? AND owners AND at >= ? AND typeof(usd) = 'integer'"""
        return Decimal(db.execute(query, (provider, now - PRICE_DAYS * DAY)).fetchone()[0] or 0) / UNITS_PER_USD

    def _spent_since(self, db: sqlite3.Connection, moment: float) -> Decimal:
        query = f"SELECT coalesce(sum({_AMOUNT}), 0), coalesce(sum({_DAMAGED}), 0) FROM calls WHERE owners AND at >= ?"
        amount, wrong = db.execute(query, (moment,)).fetchone()
        if wrong:
            raise damaged(self.path, "an amount in it is not a number")
        return Decimal(amount) / UNITS_PER_USD


def of(settings: Settings) -> Ledger:
    """Return the ledger in the data folder of `settings`."""
    return Ledger(settings.data / "ledger.sqlite3")


def units(usd: Decimal) -> int:
    """Return an amount as the integer that is stored, see `UNITS_PER_USD`."""
    return int((usd * UNITS_PER_USD).to_integral_value())


def _budget_message(budget: Decimal, spent: Decimal, reserve: Decimal, seconds: float) -> str:
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    wait = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
    return Message(
        "The limit of {limit} a day for the keys of this server is reached: {spent} are spent, and this call would take "
        "{price}. Use your own key, or wait until midnight UTC, in {wait}.",
        limit=dollars(budget),
        spent=dollars(spent),
        price=dollars(reserve),
        wait=wait,
    )
