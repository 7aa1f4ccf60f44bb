"""API keys of clients of this server: credits, rates, allowed providers and budgets.

They are stored in the file of the ledger, so that all money is in one file with one schema version and one backup. Nothing is
cached: a revoked key is invalid in all processes at once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from rmbg.billing import ledger
from rmbg.billing.cost import UNITS_PER_USD, Cost, dollars
from rmbg.billing.ledger import DAY, connection, units
from rmbg.billing.quote import Priced
from rmbg.errors import NotReadyError, OptionError, alternatives, printable
from rmbg.settings import MAX_BUDGET_USD, Settings

#: Names are labels of metrics.
NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")

#: Upper limits of a key.
MAX_CREDITS, MAX_RATE = Decimal(1_000_000), 100_000

#: Rounding error of times in seconds.
EPSILON = 1e-5


class ExhaustedError(NotReadyError):
    """The credits of a client, or its budget of today, do not cover a call."""


@dataclass(frozen=True)
class ClientKey:
    """Key of a client, without its secret.

    Attributes
    ----------
    name : str
    credits : Decimal or None
        Credits that are left; None for no limit.
    rate : int or None
        Calls per minute; None for no limit.
    providers : tuple of str
        Ids of the allowed providers; if empty, these are the providers that run on this machine.
    budget : Decimal or None
        Daily limit (UTC) of the charges of services in dollars; None for no limit but the owner's.
    created, used : float or None
        Times in seconds since the epoch; `used` is None before the first call.
    revoked : bool
    calls, pictures : int
        Calls, and pictures that they have returned.
    usd, open_usd : Decimal
        Dollars that services have charged; dollars that are reserved for calls whose charge is unknown.
    """

    name: str
    credits: Decimal | None
    rate: int | None
    providers: tuple[str, ...]
    budget: Decimal | None
    created: float
    used: float | None
    revoked: bool
    calls: int
    pictures: int
    usd: Decimal
    open_usd: Decimal

    def allows(self, provider: Priced) -> bool:
        """True if the key may use a provider; a service must be listed in `providers`."""
        return provider.id in self.providers if self.providers else provider.kind == "local"


class RateLimit(NamedTuple):
    """Calls per minute, calls that are available now, and the time in seconds since the epoch at which all are."""

    limit: int
    remaining: int
    reset: float


class Reservation(NamedTuple):
    """Credits and dollars that are reserved for one call of a key."""

    name: str
    day: int
    credits: Decimal
    usd: Decimal


class ClientKeys:
    """Keys of the clients of this server, which any number of processes may share.

    All methods raise NotReadyError if the ledger cannot be read or written.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = ledger.of(settings).path

    def create(
        self,
        name: str,
        credits: Decimal | None = None,
        rate: int | None = None,
        providers: Sequence[str] = (),
        budget: Decimal | None = None,
    ) -> str:
        """Store a new key and return its secret, which is not stored.

        Parameters
        ----------
        name : str
            1 to 40 ASCII letters, digits, dots, dashes and underscores; not that of another key, also of a revoked one.
        credits, rate, providers, budget
            See `ClientKey`.

        Raises
        ------
        OptionError
            If the name is invalid or in use, or a value is out of range.
        """
        if not NAME.fullmatch(name):
            text = "it must have 1 to 40 letters (a to z), digits, dots, dashes and underscores."
            raise OptionError(f"The name of the key is {printable(name, 60)!r}; {text}")
        for label, value, maximum in (("credits", credits, MAX_CREDITS), ("budget", budget, MAX_BUDGET_USD)):
            if value is not None and not (value.is_finite() and 0 <= value <= maximum):
                text = f"must be a number from 0 to {maximum:,}, not {printable(str(value), 40)}."
                raise OptionError(f"The {label} of a key {text}")
        if rate is not None and not 1 <= rate <= MAX_RATE:
            raise OptionError(f"The rate of a key must be a number from 1 to {MAX_RATE:,} calls a minute, not {rate}.")
        secret = f"rmbg_{secrets.token_urlsafe(32)}"
        row = (name, _digest(secret), _stored(credits), rate, json.dumps(list(providers)), _stored(budget), time.time())
        with connection(self._path, write=True) as db:
            columns = "name, digest, credits, rate, providers, budget, created"
            if not db.execute(f"INSERT OR IGNORE INTO client_keys ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row).rowcount:
                raise OptionError(f"There is a key {name} already. Choose another name; revoked keys keep theirs.")
        return secret

    def find(self, secret: str) -> ClientKey | None:
        """Return the key with this secret; None if it is unknown or revoked.

        The secret is compared with all keys in constant time. Revoked keys are not compared, as if they were unknown.
        """
        digest, found = _digest(secret), None
        with connection(self._path, write=False) as db:
            for name, stored in db.execute("SELECT name, digest FROM client_keys WHERE NOT revoked").fetchall():
                if hmac.compare_digest(stored, digest):
                    found = name
            return next(iter(_select(db, "WHERE k.name = ? AND NOT revoked", (0, found))), None)

    def list(self, since: float = 0.0) -> tuple[ClientKey, ...]:
        """Return all keys, also revoked ones, sorted by name.

        Calls, pictures and dollars are those of whole days (UTC) from the one of the time `since`, in seconds since the epoch.
        """
        with connection(self._path, write=False) as db:
            return _select(db, "", (since // DAY,))

    def exist(self) -> bool:
        """True if there is a key that is not revoked."""
        with connection(self._path, write=False) as db:
            return bool(db.execute("SELECT EXISTS (SELECT 1 FROM client_keys WHERE NOT revoked)").fetchone()[0])

    def revoke(self, name: str) -> None:
        """Make a key invalid; its totals are kept.

        Raises
        ------
        OptionError
            If the name is unknown.
        """
        with connection(self._path, write=True) as db:
            if not db.execute("UPDATE client_keys SET revoked = 1 WHERE name = ?", (name,)).rowcount:
                known = alternatives(name, (row[0] for row in db.execute("SELECT name FROM client_keys WHERE NOT revoked")))
                advice = f"choose from {known}." if known else "there are none. Create one with rmbg keys create."
                raise OptionError(f"There is no key {printable(name, 60)!r}; {advice}")

    def take(self, name: str, now: float | None = None) -> float:
        """Take a call from the rate of a key and return 0; if none is left, return the seconds until the next one.

        The calls of a minute may be made at once, and become available again one by one.
        """
        now = time.time() if now is None else now
        with connection(self._path, write=True) as db:
            db.execute("BEGIN IMMEDIATE")
            rate, full_at = _rate(db, name, now)
            if rate is None:
                return 0.0
            full_at += 60 / rate
            if full_at - now > 60 + EPSILON:
                return full_at - now - 60
            db.execute("UPDATE client_keys SET full_at = ? WHERE name = ?", (full_at, name))
            db.execute("COMMIT")
            return 0.0

    def rate_limit(self, name: str, now: float | None = None) -> RateLimit | None:
        """Return the state of the rate of a key; None if it has no limit."""
        now = time.time() if now is None else now
        with connection(self._path, write=False) as db:
            rate, full_at = _rate(db, name, now)
        return None if rate is None else RateLimit(rate, int((60 + EPSILON - (full_at - now)) * rate / 60), full_at)

    def reserve(
        self, name: str, credits: Decimal = Decimal(1), usd: Decimal = Decimal(0), now: float | None = None
    ) -> Reservation:
        """Take the credits and dollars of a call, which is not settled yet, from a key.

        They stay taken if the process ends before `settle`.

        Parameters
        ----------
        name : str
        credits : Decimal
        usd : Decimal
            Reserve of the quoted price; zero for providers on this machine.
        now : float, optional
            Time in seconds since the epoch, by default the current time.

        Raises
        ------
        ExhaustedError
            If the credits or the budget do not suffice.
        NotReadyError
            If the key is revoked or unknown.
        """
        now = time.time() if now is None else now
        day = int(now // DAY)
        with connection(self._path, write=True) as db:
            db.execute("BEGIN IMMEDIATE")
            row = db.execute("SELECT credits, budget FROM client_keys WHERE name = ? AND NOT revoked", (name,)).fetchone()
            if row is None:
                raise NotReadyError("The API key has been revoked. Ask the operator of this server for another one.")
            left, budget = map(_decimal, row)
            if left is not None and left < credits:
                raise ExhaustedError(
                    f"The API key has {_plain(left)} credits left, and this call takes {_plain(credits)}. "
                    "Ask the operator of this server for more."
                )
            today = "SELECT coalesce(sum(usd + open_usd), 0) FROM client_days WHERE name = ? AND day = ?"
            spent = Decimal(db.execute(today, (name, day)).fetchone()[0]) / UNITS_PER_USD
            if usd and budget is not None and spent + usd > budget:
                raise ExhaustedError(
                    f"The limit of {dollars(budget)} a day of the API key is reached: {dollars(spent)} are spent, and this "
                    f"call would take {dollars(usd)}. Wait until midnight UTC."
                )
            db.execute("UPDATE client_keys SET credits = credits - ?, used = ? WHERE name = ?", (units(credits), now, name))
            db.execute("INSERT OR IGNORE INTO client_days (name, day) VALUES (?, ?)", (name, day))
            add = "UPDATE client_days SET calls = calls + 1, open_usd = open_usd + ? WHERE name = ? AND day = ?"
            db.execute(add, (units(usd), name, day))
            db.execute("COMMIT")
        return Reservation(name, day, credits, usd)

    def settle(self, reservation: Reservation, pictures: int, cost: Cost | None = None) -> None:
        """Record the outcome of a call, once.

        Parameters
        ----------
        reservation : Reservation
        pictures : int
            Pictures that the call has returned; its credits are given back if there are none.
        cost : Cost or None
            Charge of a service; None if nothing was charged. The reserved dollars count while the charge is unknown.
        """
        name, day, credits, reserved = reservation
        usd = Decimal(0) if cost is None else cost.usd
        with connection(self._path, write=True) as db:
            db.execute("BEGIN IMMEDIATE")
            if not pictures:
                db.execute("UPDATE client_keys SET credits = credits + ? WHERE name = ?", (units(credits), name))
            charge = (0, 0) if usd is None else (units(usd), units(reserved))
            db.execute(
                "UPDATE client_days SET pictures = pictures + ?, usd = usd + ?, open_usd = open_usd - ? "
                "WHERE name = ? AND day = ?",
                (pictures, *charge, name, day),
            )
            db.execute("COMMIT")


def _digest(secret: str) -> bytes:
    # A secret has 256 random bits, which cannot be guessed however fast the hash is. Slow hashes are for passwords.
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _select(db: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> tuple[ClientKey, ...]:
    """Return keys by a condition; the first of `values` is the first day of their totals."""
    query = f"""
        SELECT k.name, credits, rate, providers, budget, created, used, revoked,
               coalesce(sum(calls), 0), coalesce(sum(pictures), 0), coalesce(sum(usd), 0), coalesce(sum(open_usd), 0)
        FROM client_keys k LEFT JOIN client_days d ON d.name = k.name AND d.day >= ?
        {where} GROUP BY k.name ORDER BY k.name
    """
    return tuple(
        ClientKey(
            name, _decimal(credits), rate, tuple(json.loads(providers)), _decimal(budget), created, used, bool(revoked),
            calls, pictures, usd / UNITS_PER_USD, open_usd / UNITS_PER_USD,
        )
        for name, credits, rate, providers, budget, created, used, revoked, calls, pictures, usd, open_usd
        in db.execute(query, values)
    )  # fmt: skip


def _rate(db: sqlite3.Connection, name: str, now: float) -> tuple[int | None, float]:
    """Return the rate of a key and the time at which all calls of it are available; None if it has no limit."""
    rate, full_at = db.execute("SELECT rate, full_at FROM client_keys WHERE name = ?", (name,)).fetchone() or (None, 0.0)
    # Later times are from before the clock was set back.
    return rate, min(max(full_at, now), now + 60)


def _stored(value: Decimal | None) -> int | None:
    return None if value is None else units(value)


def _decimal(value: int | None) -> Decimal | None:
    return None if value is None else value / UNITS_PER_USD


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"
