"""Keys of clients: secrets, credits, rates and budgets; concurrent processes, crashes, older ledgers."""

from __future__ import annotations

import hmac
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from rmbg.billing import client_keys, ledger
from rmbg.billing.client_keys import ClientKeys, ExhaustedError, RateLimit
from rmbg.billing.cost import Cost
from rmbg.billing.ledger import DAY
from rmbg.errors import NotReadyError, OptionError
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
NOON = 20_000 * DAY + DAY / 2
PRICE = Decimal("0.018")


@pytest.fixture
def settings(tmp_path):
    return Settings(data=tmp_path / "new" / "folder")


@pytest.fixture
def keys(settings):
    return ClientKeys(settings)


def child(code: str, settings: Settings) -> subprocess.Popen:
    """Run `code` with the keys as ``keys`` in a process of its own."""
    head = "import sys, time\nfrom pathlib import Path\nfrom rmbg.billing.client_keys import ClientKeys, ExhaustedError\n"
    head += "from rmbg.settings import Settings\nkeys = ClientKeys(Settings(data=Path(sys.argv[1])))\n"
    command = [sys.executable, "-c", head + code, str(settings.data)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_secret_opens_its_key_and_is_not_stored(keys, settings):
    assert not keys.exist() and keys.find("rmbg_") is None and keys.list() == ()
    secret = keys.create("acme", Decimal("1.5"), 60, ("removebg",), Decimal(2))
    other = keys.create("other.site-2_b")
    key = keys.find(secret)
    assert (key.name, key.credits, key.rate, key.providers, key.budget) == ("acme", Decimal("1.5"), 60, ("removebg",), 2)
    assert keys.find(other).name == "other.site-2_b" and keys.find(other).credits is None
    assert secret.startswith("rmbg_") and len(secret) == 48
    assert [key.name for key in keys.list()] == ["acme", "other.site-2_b"]
    stored = b"".join(path.read_bytes() for path in settings.data.iterdir())
    assert b"acme" in stored and secret.encode() not in stored and secret[5:].encode() not in stored


def test_wrong_secrets_open_nothing(keys):
    secret = keys.create("acme")
    wrong = [f"rmbg_{secrets.token_urlsafe(32)}" for _ in range(1000)]
    wrong += ["", "acme", secret[:-1], f"{secret} ", secret.swapcase(), "\udcff", "é" * 48]
    assert [text for text in wrong if keys.find(text)] == []


def test_all_keys_are_compared_in_constant_time(keys, monkeypatch):
    """A revoked secret takes the same comparisons as an unknown one, and a match does not end them."""
    first, _, last = (keys.create(name) for name in ("a", "b", "c"))
    revoked = keys.create("d")
    keys.revoke("d")
    compared, compare = [], hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(1) or compare(a, b))
    counts = []
    for secret in (first, last, revoked, "rmbg_unknown"):
        keys.find(secret)
        counts.append(len(compared))
        compared.clear()
    assert counts == [3, 3, 3, 3]


def test_revoked_key_is_invalid_in_another_process_at_once(keys, settings):
    secret = keys.create("acme")
    assert keys.exist()
    process = child("for line in sys.stdin: print(keys.find(line.strip()) is not None, keys.exist(), flush=True)", settings)
    answers = []
    for _ in range(2):
        process.stdin.write(f"{secret}\n")
        process.stdin.flush()
        answers.append(process.stdout.readline().strip())
        keys.revoke("acme")
    process.communicate()
    assert answers == ["True True", "False False"]
    assert keys.list()[0].revoked
    with pytest.raises(NotReadyError, match="revoked"):
        keys.reserve("acme")


def test_processes_cannot_overspend_the_last_credit(keys, settings):
    code = """
print("ready", flush=True)
for name in sys.stdin:
    try:
        keys.settle(keys.reserve(name.strip()), 1)
        print(1, flush=True)
    except ExhaustedError:
        print(0, flush=True)
"""
    names = [f"key-{number}" for number in range(30)]
    for name in names:
        keys.create(name, Decimal(1))
    processes = [child(code, settings) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for name in names:
        for process in processes:
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
        assert sorted(process.stdout.readline() for process in processes) == ["0\n", "1\n"]
    for process in processes:
        process.communicate()
    assert {(key.credits, key.calls, key.pictures) for key in keys.list()} == {(0, 1, 1)}


def test_credits_are_read_and_taken_in_one_transaction(keys, monkeypatch):
    """A second call starts after the first has read its credits, and ends after it has taken them."""
    keys.create("acme", Decimal(1))
    read, calls = client_keys._decimal, []

    def started(value: int | None) -> Decimal | None:
        if not calls:
            calls.append(pool.submit(keys.reserve, "acme"))
            assert wait(calls, timeout=0.5).not_done
        return read(value)

    monkeypatch.setattr(client_keys, "_decimal", started)
    with ThreadPoolExecutor(1) as pool:
        keys.reserve("acme")
        with pytest.raises(ExhaustedError):
            calls[0].result()


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_call_of_a_killed_process_counts(keys, settings):
    keys.create("acme", Decimal(3), budget=Decimal(1))
    code = "from decimal import Decimal\nkeys.reserve('acme', usd=Decimal('0.018'))\nprint('begun', flush=True)\ntime.sleep(60)"
    process = child(code, settings)
    assert process.stdout.readline() == "begun\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    key = keys.list()[0]
    assert (key.credits, key.calls, key.pictures, key.usd, key.open_usd) == (2, 1, 0, 0, PRICE)
    with closing(sqlite3.connect(settings.data / "ledger.sqlite3")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_failed_call_gives_its_credits_back(keys):
    keys.create("acme", Decimal(1))
    keys.create("free")
    preview = keys.reserve("acme", Decimal("0.25"), now=NOON)
    assert keys.list()[0].credits == Decimal("0.75")
    with pytest.raises(ExhaustedError, match=r"has 0\.75 credits left, and this call takes 1"):
        keys.reserve("acme", now=NOON)
    keys.settle(preview, 0)
    keys.settle(keys.reserve("acme", now=NOON), 1)
    keys.settle(keys.reserve("free", now=NOON), 0)
    acme, free = keys.list()
    assert (acme.credits, acme.calls, acme.pictures, acme.used) == (0, 2, 1, NOON)
    assert (free.credits, free.calls, free.pictures) == (None, 1, 0)


def test_daily_budget(keys):
    """Reserved dollars count until the charge is known; calls of free providers do not."""
    keys.create("acme", budget=Decimal("0.05"))
    first = keys.reserve("acme", usd=PRICE, now=NOON)
    second = keys.reserve("acme", usd=PRICE, now=NOON)
    keys.settle(second, 1, Cost(None, "unknown"))
    with pytest.raises(ExhaustedError, match=r"\$0.05 a day .* \$0.036 are spent, and this call would take \$0.018"):
        keys.reserve("acme", usd=PRICE, now=NOON + 1)
    keys.settle(keys.reserve("acme", now=NOON), 1)
    keys.settle(first, 0)
    third = keys.reserve("acme", usd=PRICE, now=NOON)
    keys.settle(third, 1, Cost(Decimal("0.02"), "charged"))
    key = keys.list()[0]
    assert (key.usd, key.open_usd, key.calls, key.pictures) == (Decimal("0.02"), PRICE, 4, 3)
    with pytest.raises(ExhaustedError):
        keys.reserve("acme", usd=PRICE, now=NOON)
    keys.reserve("acme", usd=PRICE, now=NOON + DAY)
    assert keys.list(NOON + DAY)[0].calls == 1 and keys.list(NOON)[0].calls == 5
    keys.create("none", budget=Decimal(0))
    with pytest.raises(ExhaustedError):
        keys.reserve("none", usd=PRICE)
    keys.create("owner")
    keys.reserve("owner", usd=Decimal(1000))


def test_rate(keys):
    """A minute's calls may be made at once; each becomes available again after its share of the minute."""
    keys.create("acme", rate=3)
    keys.create("free")
    assert keys.rate_limit("acme", NOON) == RateLimit(3, 3, NOON)
    assert [keys.take("acme", NOON) for _ in range(3)] == [0, 0, 0]
    assert keys.take("acme", NOON) == pytest.approx(20)
    assert keys.rate_limit("acme", NOON) == RateLimit(3, 0, pytest.approx(NOON + 60))
    assert keys.take("acme", NOON + 19) == pytest.approx(1)
    assert keys.rate_limit("acme", NOON + 39) == RateLimit(3, 1, pytest.approx(NOON + 60))
    assert [keys.take("acme", NOON + 40) for _ in range(3)] == [0, 0, pytest.approx(20)]
    assert keys.take("acme", NOON - DAY) == pytest.approx(20), "the clock was set back"
    assert keys.take("free") == 0 and keys.rate_limit("free") is None


@pytest.mark.parametrize("name", ["", "a b", "ä", "a" * 41, "a\n", 'x"} 1'])
def test_invalid_names(keys, name):
    with pytest.raises(OptionError, match="it must have 1 to 40 letters"):
        keys.create(name)


@pytest.mark.parametrize(
    "limits",
    [{"credits": Decimal(-1)}, {"credits": Decimal("NaN")}, {"budget": Decimal(-1)}, {"budget": Decimal("1e9")}, {"rate": 0}],
)
def test_invalid_limits(keys, limits):
    with pytest.raises(OptionError, match=f"The {next(iter(limits))} of a key must be a number from"):
        keys.create("acme", **limits)
    assert not keys.exist()


def test_names_are_unique_also_after_revocation(keys):
    secret = keys.create("acme", Decimal(1))
    with pytest.raises(OptionError, match="There is a key acme already"):
        keys.create("acme")
    assert keys.find(secret).credits == 1
    keys.revoke("acme")
    with pytest.raises(OptionError, match="There is a key acme already"):
        keys.create("acme")
    with pytest.raises(OptionError, match="There is no key 'acne'"):
        keys.revoke("acne")


def test_services_must_be_listed(keys):
    free, paid = keys.find(keys.create("free")), keys.find(keys.create("paid", providers=("removebg",)))
    ids = ("builtin", "birefnet", "removebg", "fal-rmbg-2.0", "cascade")
    assert [id for id in ids if free.allows(PROVIDERS[id].info)] == ["builtin", "birefnet"]
    assert [id for id in ids if paid.allows(PROVIDERS[id].info)] == ["removebg"]


def test_ledgers_of_version_2_are_upgraded_when_written(keys, settings):
    book = ledger.of(settings)
    book.begin("fal", PRICE, owners=True)
    with closing(sqlite3.connect(book.path)) as db:
        db.executescript("DROP TABLE client_keys; DROP TABLE client_days; PRAGMA user_version = 2")
    assert keys.list() == () and not keys.exist() and keys.find("rmbg_x") is None
    with closing(sqlite3.connect(book.path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
    secret = keys.create("acme")
    assert keys.find(secret).name == "acme" and book.totals()[0].calls == 1
    with closing(sqlite3.connect(book.path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (ledger.VERSION,)
