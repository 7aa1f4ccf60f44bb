"""Daily budget and ledger: concurrent calls, prices above the listed ones, ledger files without their history."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.processes import python
from tests.remote import environment
from tests.security.paid import LIMIT, ROOT, calls, run, start
from tests.security.server import free_port
from tests.servers.fal import Fal
from tests.servers.removebg import RemoveBg
from tests.servers.service import Service
from tests.servers.web import until

#: Runs eight concurrent calls with the keys of the environment, and prints the cost or error of each.
CROWD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from rmbg import RmbgError, remove_background

def call(number):
    try:
        return str(remove_background(sys.argv[1], sys.argv[2]).cost)
    except RmbgError as error:
        return str(error)

with ThreadPoolExecutor(8) as pool:
    print(*pool.map(call, range(8)), sep="\\n")
"""


def crowd(service: Service, data: Path, photo: Path, provider: str, **more: str) -> list[str]:
    env = {**os.environ, **environment(service, data, RMBG_REMOTE_SECONDS="60"), **more}
    command = python("-c", CROWD, photo, provider)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def spent(data: Path) -> Decimal:
    return Decimal(sum(usd or 0 for _, usd in calls(data))) / 10**12


@pytest.mark.parametrize("price", ["0.03", "0.099"])
def test_eight_concurrent_calls_above_the_listed_price(fal, photo, tmp_path, price):
    fal.unit_price = float(price)
    fal.polls = 2
    outcomes = crowd(fal, tmp_path / "data", photo, "fal-rmbg-2.0", RMBG_DAILY_BUDGET_USD="0.10")
    assert spent(tmp_path / "data") <= Decimal("0.10"), outcomes
    assert len(fal.jobs) == int(Decimal("0.10") / Decimal(price)), outcomes
    assert sum("limit of $0.10 a day" in text for text in outcomes) == 8 - len(fal.jobs)


def test_price_increase_between_calls(fal, photo, tmp_path):
    """Earlier calls cost the listed price, the next eight concurrent ones cost more."""
    data = tmp_path / "data"
    assert run(fal, data, "remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0")[0] == 0
    fal.unit_price = 0.05
    fal.polls = 2
    crowd(fal, data, photo, "fal-rmbg-2.0", RMBG_DAILY_BUDGET_USD="0.12")
    assert spent(data) <= Decimal("0.12")


def test_calls_far_from_the_limit_are_concurrent(fal, photo, tmp_path):
    """Calls are serialized near the limit only."""
    data = tmp_path / "data"
    assert run(fal, data, "remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0")[0] == 0
    fal.polls = 1_000_000  # no job completes before the last one was submitted

    def release() -> bool:
        submitted = until(lambda: len(fal.jobs) == 9, LIMIT)
        for job in fal.jobs:
            job["polls"] = 1
        return submitted

    with ThreadPoolExecutor(1) as pool:
        released = pool.submit(release)
        outcomes = crowd(fal, data, photo, "fal-rmbg-2.0", RMBG_DAILY_BUDGET_USD="100")
        assert released.result(), outcomes
    assert all("$0.018" in outcome for outcome in outcomes), outcomes


def test_killed_call_does_not_block_later_calls(fal, photo, tmp_path):
    """Near the limit calls wait for pending ones; a call of a dead process counts, but is not waited for."""
    data = tmp_path / "data"
    fal.polls = 1_000_000
    limits: dict[str, Any] = {"RMBG_DAILY_BUDGET_USD": "0.10", "RMBG_REMOTE_SECONDS": "5"}
    limits["constants"] = {"billing__ledger__GRACE_SECONDS": 1}
    process = start(fal, data, "remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0", **limits)
    assert until(lambda: bool(fal.jobs) or process.poll() is not None, LIMIT)
    process.kill()
    process.communicate()
    assert calls(data) == [("pending", None)]
    fal.polls = 0
    limits["RMBG_REMOTE_SECONDS"] = "90"
    status, _, err = run(fal, data, "remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0", **limits)
    assert status == 0, err


# Ledger file


def full_ledger(fal: Fal, photo: Path, data: Path) -> Path:
    assert run(fal, data, "remove", photo, photo.with_name("first.png"), "--provider", "fal-rmbg-2.0")[0] == 0
    return data / "ledger.sqlite3"


def test_ledger_without_its_history_is_rejected(fal, photo, tmp_path):
    """tests/billing/test_ledger.py has other damage."""
    data = tmp_path / "data"
    path = full_ledger(fal, photo, data)
    for name in ("-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    path.write_bytes(b"")
    out = tmp_path / "o.png"
    for words in (["remove", photo, out, "--provider", "fal-rmbg-2.0"], ["spent"]):
        status, printed, err = run(fal, data, *words, RMBG_DAILY_BUDGET_USD="0.10")
        assert status == 1 and not printed, (words, printed, err)
        assert err.count("\n") == 1 and str(path) in err and "Traceback" not in err, err
        assert "RMBG_DATA" not in err, "another data folder has another ledger"
    assert len(fal.jobs) == 1 and path.read_bytes() == b""


def test_ledger_file_missing_beside_its_log(fal, photo, tmp_path):
    data = tmp_path / "data"
    path = full_ledger(fal, photo, data)
    path.rename(tmp_path / "elsewhere")
    path.with_name("ledger.sqlite3-wal").write_bytes(b"what had not reached the file yet" * 100)
    status, _, err = run(fal, data, "remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0")
    assert status == 1 and "ledger" in err and err.count("\n") == 1
    assert len(fal.jobs) == 1


def test_first_start_creates_the_ledger(fal, photo, tmp_path):
    """Eight concurrent processes create the ledger, and each adds its row."""
    data = tmp_path / "new" / "data"
    words = ["remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0"]
    processes = [start(fal, data, *words[:2], tmp_path / f"{i}.png", *words[3:]) for i in range(4)]
    ends = [(process.communicate(timeout=LIMIT)[1], process.returncode) for process in processes]
    assert [code for _, code in ends] == [0] * 4, ends
    assert len(calls(data)) == 4


def _execute(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def old_ledger(path: Path) -> None:
    """Write a ledger with schema version 1 and one charged call of $0.05."""
    path.parent.mkdir(parents=True)
    _execute(
        path,
        "PRAGMA journal_mode = WAL",
        """CREATE TABLE calls (id INTEGER PRIMARY KEY, at REAL NOT NULL, provider TEXT NOT NULL, owners INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'charged', 'listed', 'estimated', 'unknown', 'nothing')),
        counted INTEGER NOT NULL, usd INTEGER, pid INTEGER NOT NULL)""",
        "CREATE INDEX calls_at ON calls (at)",
        """INSERT INTO calls (at, provider, owners, state, counted, usd, pid)
        VALUES (strftime('%s', 'now'), 'fal-rmbg-2.0', 1, 'charged', 18000000000, 50000000000, 1)""",
        "PRAGMA user_version = 1",
    )


def test_ledger_of_an_earlier_version_is_migrated(fal, photo, tmp_path):
    data = tmp_path / "data"
    old_ledger(data / "ledger.sqlite3")
    words = ["remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0"]
    status, _, err = run(fal, data, *words, RMBG_DAILY_BUDGET_USD="0.09")
    assert status == 1 and "$0.05 are spent" in err and "would take $0.05" in err, err
    assert run(fal, data, *words, RMBG_DAILY_BUDGET_USD="0.11")[0] == 0
    assert [state for state, _ in calls(data)] == ["charged", "charged"]


@pytest.fixture
def unprivileged() -> list[str]:
    """Return a command prefix that drops root privileges, so that file permissions apply."""
    if os.name == "nt":
        pytest.skip("permissions of Unix")
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root, and no setpriv to give its privileges up")
    return ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]


@pytest.mark.parametrize("folder_too", [False, True])
def test_read_only_ledger(fal, photo, tmp_path, unprivileged, folder_too):
    """Its history is shown; a paid call is rejected with advice that keeps the history."""
    data = tmp_path / "data"
    path = full_ledger(fal, photo, data)
    assert run(fal, data, "spent", before=unprivileged)[1].count("fal-rmbg-2.0") == 1
    path.chmod(0o444)
    if folder_too:
        data.chmod(0o555)
    try:
        status, out, err = run(fal, data, "spent", before=unprivileged)
        assert status == 0 and "$0.018" in out, err
        words = ["remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0"]
        status, _, err = run(fal, data, *words, before=unprivileged)
        key_status, key, key_err = run(fal, data, "keys", "create", "acme", before=unprivileged)
    finally:
        data.chmod(0o755)
    assert (key_status, key) == (1, "") and key_err.count("\n") == 1 and "Nothing was sent or changed." in key_err, key_err
    assert status == 1 and err.count("\n") == 1 and str(path) in err, err
    assert "RMBG_DATA" not in err and "writable" in err
    assert len(fal.jobs) == 1


# Settings and start


@pytest.mark.parametrize("value", ["1e999999", "10001"])
def test_invalid_hourly_price_is_one_sentence(fal, photo, tmp_path, value):
    words = ["remove", photo, tmp_path / "o.png", "--provider", "builtin"]
    status, _, err = run(fal, tmp_path / "data", *words, RMBG_HOURLY_USD=value)
    assert status == 2 and err.startswith("rmbg: RMBG_HOURLY_USD is ") and err.count("\n") == 1 and len(err) < 300, err


@pytest.mark.parametrize("name", ["RMBG_DAILY_BUDGET_USD", "RMBG_REMOVEBG_CREDIT_USD"])
def test_amounts_above_the_maximum_are_rejected(fal, photo, tmp_path, name):
    status, _, err = run(fal, tmp_path / "data", "spent", **{name: "1e30"})
    assert status == 2 and err.startswith(f"rmbg: {name} is ") and err.count("\n") == 1, err


def test_start_warns_of_keys_without_a_budget(fal, tmp_path):
    more = {"RMBG_SERVER_KEYS": "1", "RMBG_SHARED": "1"}
    process = start(fal, tmp_path, "serve", "--port", free_port(), **more, stdout=subprocess.PIPE)
    try:
        for line in process.stdout:
            if "http://" in line:
                break
    finally:
        process.terminate()
        err = process.communicate(timeout=LIMIT)[1]
    warned = [line for line in err.splitlines() if "RMBG_DAILY_BUDGET_USD" in line]
    assert len(warned) == 1, err


# Consistent prices


def test_estimates_and_consent_use_the_configured_credit_price(photo, tmp_path):
    with RemoveBg() as service:
        price = {"RMBG_REMOVEBG_CREDIT_USD": "0.20"}
        words = ["compare", photo, "--providers", "removebg", "--out", tmp_path / "out"]
        status, _, err = run(service, tmp_path / "data", *words, **price)
        assert status == 2 and "about $0.20" in err, err
        table = run(service, tmp_path, "providers", **price)[1]
        assert "$0.20" in next(line for line in table.splitlines() if "removebg" in line)
        status, out, err = run(service, tmp_path / "data", *words, "--yes", "--json", **price)
        assert status == 0 and '"usd": 0.2, "basis": "charged"' in out, err
        (set_ := tmp_path / "set" / "things").mkdir(parents=True)
        for kind in ("im", "gt"):
            (set_ / kind).mkdir()
            shutil.copy(photo, set_ / kind / "a.png")
        words = ["benchmark", tmp_path / "set", "--providers", "removebg", "--out", tmp_path / "measured"]
        status, _, err = run(service, tmp_path / "data", *words, **price)
        assert "about $0.20" in err, err
