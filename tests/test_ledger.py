"""The ledger: what counts, what the budget refuses, what survives."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from rmbg.cutout import Cost
from rmbg.errors import NotReadyError
from rmbg.ledger import DAY, Ledger

ROOT = Path(__file__).resolve().parents[1]
PRICE = Decimal("0.018")
NOON = 20_000 * DAY + DAY / 2


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "new" / "folder" / "ledger.sqlite3")


def child(code: str, *arguments: object) -> subprocess.Popen:
    head = "import sys, time\nfrom decimal import Decimal\nfrom pathlib import Path\nfrom rmbg.ledger import Ledger\n"
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_states(ledger):
    costs = [Cost(Decimal("0.0013"), "charged"), Cost(PRICE, "listed"), Cost(None, "unknown"), None]
    for cost in costs:
        ledger.settle(ledger.begin("fal", PRICE, owners=True, now=NOON), cost)
    ledger.begin("fal", PRICE, owners=True, now=NOON)
    (total,) = ledger.totals()
    assert (total.provider, total.calls, total.open_calls) == ("fal", 4, 2)
    assert total.usd == Decimal("0.0193") and total.open_usd == Decimal("0.036")
    assert ledger.spent_today(NOON) == Decimal("0.0553")


def test_amounts_are_exact(ledger):
    for _ in range(10):
        ledger.settle(ledger.begin("x", PRICE, owners=True), Cost(Decimal("0.1"), "charged"))
    ledger.settle(ledger.begin("x", PRICE, owners=True), Cost(Decimal("0.000000000047"), "charged"))
    assert ledger.spent_today() == Decimal("1.000000000047")


def test_the_budget_refuses_and_says_why(ledger):
    budget = Decimal("0.05")
    first = ledger.begin("fal", PRICE, owners=True, budget=budget, now=NOON)
    ledger.begin("fal", PRICE, owners=True, budget=budget, now=NOON)
    with pytest.raises(NotReadyError) as caught:
        ledger.begin("fal", PRICE, owners=True, budget=budget, now=NOON + 60)
    for words in ("$0.05 a day", "$0.036 are spent", "would take $0.018", "midnight UTC, in 11 h 59 min", "your own key"):
        assert words in str(caught.value)
    assert ledger.totals()[0].calls == 2  # a refused call leaves no line
    ledger.begin("fal", PRICE, owners=False, budget=budget, now=NOON)  # another's key is not the owner's budget
    ledger.settle(first, None)
    ledger.begin("fal", PRICE, owners=True, budget=budget, now=NOON)  # what turned out free makes room
    ledger.begin("fal", PRICE, owners=True, budget=budget, now=NOON + DAY / 2)  # and so does midnight
    with pytest.raises(NotReadyError):
        ledger.begin("fal", PRICE, owners=True, budget=Decimal(0), now=NOON + 2 * DAY)


def test_a_kill_leaves_the_call_counted(ledger):
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


def test_many_processes_lose_nothing_and_keep_to_the_budget(ledger):
    code = """
from rmbg.errors import NotReadyError
done = 0
for _ in range(20):
    try:
        Ledger(Path(sys.argv[1])).begin('fal', Decimal('0.01'), owners=True, budget=Decimal('0.50'))
        done += 1
    except NotReadyError:
        pass
print(done)
"""
    processes = [child(code, ledger.path) for _ in range(3)]
    done = sum(int(process.communicate()[0]) for process in processes)
    assert done == 50
    assert ledger.spent_today() == Decimal("0.50")


def test_nothing_leaves_when_it_cannot_be_written_down(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReadyError, match="RMBG_DATA"):
        Ledger(tmp_path / "file" / "ledger.sqlite3").begin("fal", PRICE, owners=True)
    (tmp_path / "ledger.sqlite3").write_bytes(b"no database at all, but long enough to be looked at" * 20)
    with pytest.raises(NotReadyError, match="cannot be written"):
        Ledger(tmp_path / "ledger.sqlite3").begin("fal", PRICE, owners=True)
