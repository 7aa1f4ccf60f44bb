"""What was spent, written down before it is.

Each call that costs money becomes a line with the state ``pending`` before its first byte leaves, and is settled when the
outcome is known. A process that dies in between leaves its line behind: the call is then as good as paid at list price. The
file is SQLite in WAL mode, so several processes write at once and a kill at any moment loses no line that was begun. It
holds no keys and nothing about pictures.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from rmbg.cutout import Cost, dollars
from rmbg.errors import NotReadyError
from rmbg.settings import Settings

#: Amounts are whole numbers of 10^-12 dollars: exact, and SQLite can add them up.
UNIT = Decimal(10) ** 12
DAY = 86_400

_TABLE = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    provider TEXT NOT NULL,
    owners INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'charged', 'listed', 'estimated', 'unknown', 'nothing')),
    counted INTEGER NOT NULL,
    usd INTEGER,
    pid INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS calls_at ON calls (at);
"""

# Nobody has said what a pending or unknown call took, so it counts at list price.
_AMOUNT = "CASE WHEN state = 'nothing' THEN 0 ELSE coalesce(usd, counted) END"


@dataclass(frozen=True)
class Total:
    """What one provider took: calls, dollars that are known, calls of open outcome and what those count."""

    provider: str
    calls: int
    usd: Decimal
    open_calls: int
    open_usd: Decimal


class Ledger:
    """The ledger in one file; any number of these, in any number of processes, may be open on it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(
        self, provider: str, counted: Decimal, *, owners: bool, budget: Decimal | None = None, now: float | None = None
    ) -> int:
        """Write down a call that is about to leave; returns its number.

        Parameters
        ----------
        provider : str
        counted : Decimal
            What it counts until its cost is known: the price list's figure.
        owners : bool
            Whether it goes on the owner's key. Only such calls count against `budget`.
        budget : Decimal, optional
            What those may come to in a day (UTC).

        Raises
        ------
        NotReadyError
            The budget does not allow it, or the ledger cannot be written; nothing may leave then.
        """
        now = time.time() if now is None else now
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            if owners and budget is not None:
                spent = self._since(db, now - now % DAY)
                if spent + counted > budget:
                    db.execute("ROLLBACK")
                    raise NotReadyError(_refusal(budget, spent, counted, DAY - now % DAY))
            cursor = db.execute(
                "INSERT INTO calls (at, provider, owners, state, counted, pid) VALUES (?, ?, ?, 'pending', ?, ?)",
                (now, provider, owners, _units(counted), os.getpid()),
            )
            db.execute("COMMIT")
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def settle(self, number: int, cost: Cost | None) -> None:
        """Write down how call `number` ended; a cost of None means that nothing was charged."""
        state = "nothing" if cost is None else cost.basis
        usd = None if cost is None or cost.usd is None else _units(cost.usd)
        with self._open() as db:
            db.execute("UPDATE calls SET state = ?, usd = ? WHERE id = ?", (state, usd, number))

    def spent_today(self, now: float | None = None) -> Decimal:
        """Dollars that today's calls on the owner's keys count (UTC), open ones at list price."""
        now = time.time() if now is None else now
        with self._open() as db:
            return self._since(db, now - now % DAY)

    def totals(self, since: float = 0.0) -> list[Total]:
        """What each provider took since a moment, all keys together, by name."""
        rows = f"""
            SELECT provider,
                   sum(state <> 'nothing'),
                   sum(CASE WHEN state IN ('pending', 'unknown') THEN 0 ELSE {_AMOUNT} END),
                   sum(state IN ('pending', 'unknown')),
                   sum(CASE WHEN state IN ('pending', 'unknown') THEN {_AMOUNT} ELSE 0 END)
            FROM calls WHERE at >= ? GROUP BY provider ORDER BY provider
        """
        with self._open() as db:
            return [Total(p, n, n_usd / UNIT, o, o_usd / UNIT) for p, n, n_usd, o, o_usd in db.execute(rows, (since,))]

    @staticmethod
    def _since(db: sqlite3.Connection, moment: float) -> Decimal:
        row = db.execute(f"SELECT coalesce(sum({_AMOUNT}), 0) FROM calls WHERE owners AND at >= ?", (moment,)).fetchone()
        return Decimal(row[0]) / UNIT

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction; every failure is one sentence."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=15, isolation_level=None)) as db:
                # A power cut shall not lose a line either; one flush is nothing beside a call over the network.
                db.execute("PRAGMA synchronous = FULL")
                if db.execute("PRAGMA user_version").fetchone()[0] < 1:
                    _create(db)
                yield db
        except (sqlite3.Error, OSError) as error:
            raise NotReadyError(
                f"The ledger {self.path} cannot be written ({error}), and nothing is paid for that is not written down; "
                "set RMBG_DATA to a folder that can be."
            ) from None


def of(settings: Settings) -> Ledger:
    """The ledger of these settings."""
    return Ledger(settings.data / "ledger.sqlite3")


def _create(db: sqlite3.Connection) -> None:
    """The table, made by whichever process comes first."""
    for attempt in range(100):
        try:
            # Changing the journal fails at once when another process does the same, whatever the timeout is.
            db.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            if attempt == 99:
                raise
            time.sleep(0.02)
    db.executescript(f"BEGIN IMMEDIATE; {_TABLE} PRAGMA user_version = 1; COMMIT;")


def _units(usd: Decimal) -> int:
    return int((usd * UNIT).to_integral_value())


def _refusal(budget: Decimal, spent: Decimal, counted: Decimal, seconds: float) -> str:
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    wait = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
    return (
        f"The limit of {dollars(budget)} a day for the keys of this server is reached: {dollars(spent)} are spent and this "
        f"would take {dollars(counted)}; it ends at midnight UTC, in {wait}, and your own key is not bound by it."
    )
