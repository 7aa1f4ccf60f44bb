"""The ledger: totals, the daily budget, concurrent processes, crashes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from rmbg.billing.cost import Cost
from rmbg.billing.ledger import DAY, Ledger
from rmbg.errors import NotReadyError
from rmbg.runtime.messages import public_text

ROOT = Path(__file__).resolve().parents[2]
PRICE = Decimal("0.018")
UNKNOWN = Cost(None, "unknown")
NOON = 20_000 * DAY + DAY / 2


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "new" / "folder" / "ledger.sqlite3")


def child(code: str, *arguments: object) -> subprocess.Popen:
    """Run `code` with the ledger imported, in a process of its own."""
    head = "import sys, time\nfrom decimal import Decimal\nfrom pathlib import Path\nfrom rmbg.billing.cost import Cost\n"
    head += "from rmbg.billing.ledger import Ledger\n"
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_totals_by_state(ledger):
    costs = [Cost(Decimal("0.0013"), "charged"), Cost(PRICE, "listed"), Cost(None, "unknown"), None]
    for cost in costs:
        ledger.settle(ledger.begin("fal", PRICE, owners=True, now=NOON).id, cost)
    ledger.begin("fal", PRICE, owners=True, now=NOON)
    (total,) = ledger.totals()
    assert (total.provider, total.calls, total.open_calls) == ("fal", 4, 2)
    assert total.usd == Decimal("0.0193") and total.open_usd == Decimal("0.036")
    assert ledger.spent_today(NOON) == Decimal("0.0553")


def test_amounts_are_exact_decimals(ledger):
    for _ in range(10):
        ledger.settle(ledger.begin("x", PRICE, owners=True).id, Cost(Decimal("0.1"), "charged"))
    ledger.settle(ledger.begin("x", PRICE, owners=True).id, Cost(Decimal("0.000000000047"), "charged"))
    assert ledger.spent_today() == Decimal("1.000000000047")


def test_budget_rejects_calls_and_names_the_reason(ledger):
    budget = Decimal("0.05")
    first = ledger.begin("fal", PRICE, owners=True, budget=budget, now=NOON)
    ledger.settle(first.id, UNKNOWN)
    ledger.settle(ledger.begin("fal", PRICE, owners=True, budget=budget, now=NOON).id, UNKNOWN)
    with pytest.raises(NotReadyError) as caught:
        ledger.begin("fal", PRICE, owners=True, budget=budget, now=NOON + 60)
    for expected in ("$0.05 a day", "$0.036 are spent", "would take $0.018", "midnight UTC, in 11 h 59 min", "your own key"):
        assert expected in str(caught.value)
    assert ledger.totals()[0].calls == 2  # a rejected call leaves no row
    ledger.begin("fal", PRICE, owners=False, budget=budget, now=NOON)  # calls with a visitor's key do not count
    ledger.settle(first.id, None)  # a call without a charge frees its reservation
    ledger.settle(ledger.begin("fal", PRICE, owners=True, budget=budget, now=NOON).id, UNKNOWN)
    ledger.begin("fal", PRICE, owners=True, budget=budget, now=NOON + DAY / 2)  # a new day begins
    with pytest.raises(NotReadyError):
        ledger.begin("fal", PRICE, owners=True, budget=Decimal(0), now=NOON + 2 * DAY)


def test_killed_process_leaves_its_call_counted(ledger):
    code = "Ledger(Path(sys.argv[1])).begin('fal', Decimal('0.018'), owners=True)\nprint('begun', flush=True)\ntime.sleep(30)"
    process = child(code, ledger.path)
    assert process.stdout.readline() == "begun\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert ledger.spent_today() == PRICE
    assert ledger.totals()[0].open_calls == 1
    with sqlite3.connect(ledger.path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_concurrent_processes_lose_no_call_and_keep_the_budget(ledger):
    code = """
from rmbg.errors import NotReadyError
done = 0
for _ in range(20):
    try:
        ledger = Ledger(Path(sys.argv[1]))
        entry = ledger.begin('fal', Decimal('0.01'), owners=True, budget=Decimal('0.50'))
        ledger.settle(entry.id, Cost(Decimal('0.01'), 'charged'))
        done += 1
    except NotReadyError:
        pass
print(done)
"""
    processes = [child(code, ledger.path) for _ in range(3)]
    done = sum(int(process.communicate()[0]) for process in processes)
    assert done == 50
    assert ledger.spent_today() == Decimal("0.50")


def test_unwritable_ledger_rejects_the_call(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReadyError, match="RMBG_DATA"):
        Ledger(tmp_path / "file" / "ledger.sqlite3").begin("fal", PRICE, owners=True)
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database, but longer than a header" * 20)
    with pytest.raises(NotReadyError, match="is damaged") as caught:
        Ledger(tmp_path / "ledger.sqlite3").begin("fal", PRICE, owners=True)
    assert str(tmp_path) in str(caught.value)
    assert public_text(str(caught.value), shared=True) == "The ledger of this server cannot be used. Choose a free provider."


def test_first_calls_may_create_the_ledger_at_the_same_time(tmp_path):
    def begin(number: int) -> int:
        ready.wait()
        return Ledger(tmp_path / str(number) / "ledger.sqlite3").begin("near", Decimal("0.01"), owners=True)

    for number in range(30):
        ready = threading.Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(begin, [number] * 8))) == 8


def execute(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def foreign(path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE notes (text)")


def write(path: Path, column: str, value: str) -> None:
    execute(path, "PRAGMA ignore_check_constraints = ON", f"UPDATE calls SET {column} = {value}")


DAMAGE = {
    "first page only": lambda path: path.write_bytes(path.read_bytes()[:4096]),
    "100 bytes": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "text": lambda path: path.write_bytes(b"no database at all, but long enough to be read as one\n" * 200),
    "another database": foreign,
    "table gone": lambda path: execute(path, "DROP TABLE calls"),
    "0 bytes and its version": lambda path: (path.unlink(), execute(path, "PRAGMA user_version = 1")),
    "text in an amount": lambda path: write(path, "usd", "'a lot'"),
    "text as reservation": lambda path: write(path, "counted", "'a lot'"),
    "a negative amount": lambda path: write(path, "usd", "-1000000000000"),
    "a fraction": lambda path: write(path, "usd", "0.5"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_ledger_without_its_history_is_rejected(ledger, damage):
    ledger.settle(ledger.begin("fal", PRICE, owners=True).id, Cost(PRICE, "charged"))
    for name in ("-wal", "-shm"):
        ledger.path.with_name(ledger.path.name + name).unlink(missing_ok=True)
    DAMAGE[damage](ledger.path)
    before = ledger.path.read_bytes()
    for use in (ledger.totals, lambda: ledger.begin("fal", PRICE, owners=True, budget=Decimal("0.10"))):
        with pytest.raises(NotReadyError, match=r"is damaged: .* Restore it from a backup\.") as caught:
            use()
        assert str(ledger.path) in str(caught.value) and "RMBG_DATA" not in str(caught.value)
    assert ledger.path.read_bytes() == before
