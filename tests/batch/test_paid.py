"""Batches at paid providers: consent, limits, and a single charge for each photo across failures and kills."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmbg.batch.paid import RESUME_SECONDS, LimitReachedError, SpendingLimit
from rmbg.billing.cost import Cost
from rmbg.errors import CancelledError
from tests.disc import results, save_photo, save_photos
from tests.processes import python, with_constants
from tests.remote import environment
from tests.sentences import sentence
from tests.servers.fal import Fal
from tests.servers.removebg import RemoveBg
from tests.servers.runware import PRICES, Runware
from tests.servers.web import until

ROOT = Path(__file__).resolve().parents[2]

#: Deadline of a call in seconds; a photo that a busy machine processes later than that has an unknown charge.
DEADLINE = "100"


class Slow:
    """Mixin for loopback services: delays each response and counts concurrent requests.

    The first requests wait until `gather` of them are concurrent.
    """

    seconds = 0.0
    concurrent = max_concurrent = gather = 0
    lock = threading.Lock()

    def answer(self, exchange):
        with self.lock:
            self.concurrent += 1
            self.max_concurrent = max(self.max_concurrent, self.concurrent)
        try:
            until(lambda: self.max_concurrent >= self.gather, 60)
            time.sleep(self.seconds)
            super().answer(exchange)
        finally:
            with self.lock:
                self.concurrent -= 1


class SlowRunware(Slow, Runware):
    pass


class SlowFal(Slow, Fal):
    pass


class SlowRemoveBg(Slow, RemoveBg):
    pass


def connect(service, data: Path, monkeypatch) -> None:
    """Point every provider to a loopback service."""
    for name, value in environment(service, data, RMBG_REMOTE_SECONDS=DEADLINE).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def photos(tmp_path):
    return save_photos(tmp_path / "in", 8)


@pytest.fixture
def runware(tmp_path, monkeypatch):
    with SlowRunware() as service:
        connect(service, tmp_path / "data", monkeypatch)
        yield service


@pytest.fixture
def paid(rmbg, photos, tmp_path):
    """Run a batch at Runware; returns exit status, summary and the last message on standard error."""

    def run(*arguments: object, provider: str = "runware-rembg-1.4"):
        status, out, err = rmbg("batch", photos, tmp_path / "out", "--provider", provider, "--json", *arguments)
        lines = err.strip().replace(str(tmp_path), "TMP").splitlines()  # the limit for messages excludes the test folder
        return status, json.loads(out) if out else None, sentence(lines[-1]) if lines else ""

    return run


def start(*arguments: object, program: tuple[str, ...] = ("-m", "rmbg")) -> subprocess.Popen:
    """Start a batch in a child process."""
    command = python(*program, "batch", *arguments)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), start_new_session=True, **pipes)


def test_nothing_is_sent_without_consent(paid, runware):
    status, _, err = paid()
    assert status == 2 and "about $0.01; add --yes" in err and runware.jobs == []


def test_each_photo_is_charged_once(paid, runware, tmp_path):
    status, figures, _ = paid("--yes")
    assert status == 0 and len(runware.jobs) == 8 and len(results(tmp_path / "out")) == 8
    assert figures["usd"] == pytest.approx(0.0104)
    assert figures["cost"] == {"charged": {"calls": 8, "usd": pytest.approx(0.0104)}}
    status, figures, _ = paid()  # no photo left to pay for, so no consent is required
    assert status == 0 and len(runware.jobs) == 8 and figures["kept"] == 8 and figures["usd"] == 0


def test_new_rendering_uses_cached_mattes(paid, runware, tmp_path):
    assert paid("--yes")[0] == 0
    before = np.asarray(Image.open(tmp_path / "out/a/0001.png"))
    (tmp_path / "out/a/0001.png").unlink()
    assert paid()[0] == 0
    after = np.asarray(Image.open(tmp_path / "out/a/0001.png"))
    assert np.abs(before.astype(int) - after).max() <= 1
    assert paid("--background", "#ff0000", "--format", "jpeg")[0] == 0
    assert len(runware.jobs) == 8 and (tmp_path / "out/a/0001.jpg").exists()
    after_finishing = np.zeros((50, 60, 3), int)
    finishing = ("--canvas", "60x50", "--shadow", "soft", "--outline", "2%,#00ff00")
    for options in (finishing, (*finishing, "--padding", "12%"), (*finishing, "--scale", "50", "--position=10,0")):
        assert paid("--background", "#ff0000", *options)[0] == 0
        pixels = np.asarray(Image.open(tmp_path / "out/a/0001.png")).astype(int)
        assert pixels.shape == (50, 60, 3) and np.abs(pixels - after_finishing).max() > 50, "rendered again"
        after_finishing = pixels
    assert len(runware.jobs) == 8
    status, _, err = paid("--option", "alphaMatting=true")
    assert status == 2 and "add --yes" in err  # requires new mattes


def test_identical_photos_are_charged_once(paid, runware, photos, tmp_path):
    for number in range(4):
        (photos / f"copy{number}.png").write_bytes((photos / "a/0001.png").read_bytes())
    assert paid("--yes", "--jobs", "8")[0] == 0
    assert len(runware.jobs) == 8 and len(results(tmp_path / "out")) == 12


def test_jobs_limits_concurrent_calls(paid, runware):
    runware.seconds, runware.gather = 0.15, 3
    assert paid("--yes", "--jobs", "3")[0] == 0
    assert runware.max_concurrent == 3


def test_limit_includes_earlier_runs(paid, runware):
    status, figures, err = paid("--yes", "--max-cost", "0.004")
    assert status == 1 and len(runware.jobs) == 3 and figures["left"] == 5 and "The limit of $0.004 is reached" in err
    status, figures, _ = paid("--yes", "--max-cost", "0.004")
    assert status == 1 and len(runware.jobs) == 3
    status, figures, _ = paid("--yes", "--max-cost", "0.0104")
    assert status == 0 and len(runware.jobs) == 8 and figures["done"] == 5


def test_limit_uses_charged_instead_of_listed_prices(paid, runware, monkeypatch):
    monkeypatch.setitem(PRICES, "runware:109@1", 0.003)
    status, figures, _ = paid("--yes", "--max-cost", "0.013")
    assert status == 1 and len(runware.jobs) == 4 and figures["usd"] == pytest.approx(0.012)


def test_limit_below_the_price_of_one_photo(paid, runware):
    status, figures, _ = paid("--yes", "--max-cost", "0.001")
    assert status == 1 and runware.jobs == [] and figures["left"] == 8


def test_limit_requires_a_known_price(paid, runware, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    status, _, err = paid("--yes", "--max-cost", "1", provider="hf-rmbg-2.0")
    assert status == 2 and "does not report its charges" in err


def test_daily_budget_ends_the_batch(paid, runware, monkeypatch):
    monkeypatch.setenv("RMBG_DAILY_BUDGET_USD", "0.003")
    status, figures, err = paid("--yes")
    assert status == 1 and len(runware.jobs) == 2 and figures["left"] == 6 and figures["failed"] == 0
    assert "a day" in err


def test_missing_key_is_reported_before_the_consent(paid, runware, monkeypatch):
    monkeypatch.delenv("RUNWARE_API_KEY")
    status, _, err = paid("--yes")
    assert status == 1 and "not ready" in err and runware.jobs == []


def test_rejected_key_ends_the_batch(paid, runware):
    runware.key = "another-key"
    status, figures, err = paid("--yes", "--jobs", "1")
    assert status == 1 and runware.jobs == [] and figures["usd"] == 0 and "rejected the API key" in err


def test_call_of_unknown_charge_is_repeated_only_with_retry(rmbg, photos, tmp_path, monkeypatch):
    with SlowRemoveBg() as service:
        connect(service, tmp_path / "data", monkeypatch)
        service.faults["stored"] = lambda s, x: x.drop() if len(s.jobs) == 3 else _answer_without_fault(s, x)
        arguments = ("batch", photos, tmp_path / "out", "--provider", "removebg", "--yes", "--json", "--jobs", "1")
        status, out, _ = rmbg(*arguments)
        assert status == 1 and len(service.jobs) == 8 and json.loads(out)["failures"][0]["state"] == "charged"
        service.faults.clear()
        status, out, _ = rmbg(*arguments)
        assert status == 1 and len(service.jobs) == 8
        status, out, _ = rmbg(*arguments, "--retry")
        assert status == 0 and len(service.jobs) == 9
        assert json.loads(out)["cost"]["unknown"]["calls"] == 1


def test_failed_job_is_resumed_without_a_charge(paid, runware):
    runware.job_error = {"code": "timeoutProvider", "message": "It took too long"}
    status, figures, err = paid("--yes", "--jobs", "1")
    failed = len(runware.jobs)
    assert status == 1 and 5 <= failed < 8 and figures["failed"] == failed and "consecutive photos failed" in err
    runware.job_error = None
    status, figures, _ = paid("--yes")
    assert status == 0 and figures["done"] == 8 and len(runware.jobs) == 8


def test_retry_repeats_failed_jobs(paid, runware):
    runware.job_error = {"code": "timeoutProvider", "message": "It took too long"}
    assert paid("--yes", "--jobs", "1")[0] == 1
    failed = len(runware.jobs)
    runware.job_error = None
    assert paid("--yes", "--retry")[0] == 0
    assert len(runware.jobs) == failed + 8


def change_calls(out: Path, change: str) -> None:
    """Change the paid calls in the manifest of a batch."""
    with contextlib.closing(sqlite3.connect(out / ".rmbg-batch/manifest.sqlite3")) as db, db:
        db.execute(f"UPDATE calls SET {change}")


def test_job_of_an_earlier_day_is_not_resumed(rmbg, runware, tmp_path):
    photos, out = save_photos(tmp_path / "two", 2), tmp_path / "out"
    arguments = ("batch", photos, out, "--provider", "runware-rembg-1.4", "--yes", "--json")
    runware.job_error = {"code": "timeoutProvider", "message": "It took too long"}
    assert rmbg(*arguments)[0] == 1
    runware.job_error = None
    change_calls(out, f"at = at - {RESUME_SECONDS}")
    seen = len(runware.seen)
    status, printed, _ = rmbg(*arguments)
    assert status == 1 and len(runware.seen) == seen
    assert all("may have been charged" in failure["message"] for failure in json.loads(printed)["failures"])


def test_failed_job_with_a_handle_is_not_resumed(rmbg, tmp_path, monkeypatch):
    photos = save_photos(tmp_path / "two", 2)
    with Fal() as service:
        connect(service, tmp_path / "data", monkeypatch)
        service.job_error = (422, {"detail": [{"msg": "Too large", "type": "image_too_large"}]})
        arguments = ("batch", photos, tmp_path / "out", "--provider", "fal-rmbg-2.0", "--yes", "--json")
        assert rmbg(*arguments)[0] == 1
        seen = len(service.seen)
        status, printed, _ = rmbg(*arguments)
        assert status == 1 and len(service.seen) == seen and len(service.jobs) == 2
        assert all(failure["state"] == "charged" for failure in json.loads(printed)["failures"])


def test_call_with_a_saved_matte_is_settled(rmbg, runware, tmp_path):
    """The process was killed after saving the matte, and before settling the call."""
    photos, out = save_photos(tmp_path / "two", 2), tmp_path / "out"
    arguments = ("batch", photos, out, "--provider", "runware-rembg-1.4", "--yes", "--json")
    assert rmbg(*arguments)[0] == 0
    change_calls(out, "state = 'sent', usd = NULL, basis = 'unknown'")
    for name in results(out):
        (out / name).unlink()
    status, printed, _ = rmbg(*arguments)
    assert status == 0 and len(runware.jobs) == 2
    assert json.loads(printed)["cost"] == {"listed": {"calls": 2, "usd": pytest.approx(0.0026)}}


@pytest.mark.parametrize("provider", ["runware-rembg-1.4", "removebg"])
def test_paid_result_without_a_matte_cache_is_recovered(rmbg, photos, tmp_path, monkeypatch, provider):
    """If no matte folder can be created, results go to the recovery folder, and resumable jobs are fetched again."""
    with RemoveBg() if provider == "removebg" else Runware() as service:
        connect(service, tmp_path / "data", monkeypatch)
        for path in (tmp_path / "out/.rmbg-batch/mattes", tmp_path / "data/batch-mattes"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        arguments = ("batch", photos, tmp_path / "out", "--provider", provider, "--yes", "--json")
        status, out, _ = rmbg(*arguments)
        figures = json.loads(out)
        assert status == 1 and len(service.jobs) == 8 and figures["failed"] == 8
        assert all("was paid for" in failure["message"] and "kept as" in failure["message"] for failure in figures["failures"])
        assert len(list((tmp_path / "data/recovered").glob("*.png"))) == 8
        for path in (tmp_path / "out/.rmbg-batch/mattes", tmp_path / "data/batch-mattes"):
            path.unlink()
        status, out, _ = rmbg(*arguments)
        assert len(service.jobs) == 8
        assert json.loads(out)["done"] == (0 if provider == "removebg" else 8)


def _answer_without_fault(service, exchange):
    """Answer a request as without the fault ``stored``."""
    fault = service.faults.pop("stored")
    job = service.jobs.pop()
    try:
        RemoveBg.answer(service, exchange)
    finally:
        service.faults["stored"] = fault
        assert service.jobs[-1] == job


def kill_and_resume(service, photos: Path, out: Path, kills: int, count: int) -> None:
    """Kill a batch at random times, then run it to the end."""
    random = np.random.default_rng(count)
    arguments = (photos, out, "--provider", "runware-rembg-1.4", "--yes")

    def run_and_kill(before: int, wait: float) -> None:
        process = start(*arguments)
        until(lambda: len(service.jobs) > before or process.poll() is not None, 120)
        time.sleep(wait)
        with contextlib.suppress(ProcessLookupError):  # the batch is complete
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    run_and_kill(0, 0.0)
    assert 0 < len(service.jobs) < count
    for _ in range(kills - 1):
        run_and_kill(len(service.jobs), float(random.uniform(0, 0.4)))
    process = start(*arguments)
    err = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 0, err


@pytest.mark.skipif(os.name == "nt", reason="requires SIGKILL")
@pytest.mark.parametrize(("kills", "count", "seconds"), [(3, 24, 0.2), pytest.param(10, 1000, 0.02, marks=pytest.mark.long)])
def test_killed_batch_is_charged_once_for_each_photo(runware, tmp_path, kills, count, seconds):
    photos = save_photos(tmp_path / "many", count)
    runware.seconds = seconds
    kill_and_resume(runware, photos, tmp_path / "out", kills, count)
    assert len(runware.jobs) == count and len(results(tmp_path / "out")) == count


@pytest.mark.skipif(os.name == "nt", reason="requires SIGKILL")
def test_queued_jobs_are_resumed_after_a_kill(tmp_path, monkeypatch):
    photos = save_photos(tmp_path / "many", 10)
    with SlowFal() as service:
        connect(service, tmp_path / "data", monkeypatch)
        service.polls = 1000
        process = start(photos, tmp_path / "out", "--provider", "fal-rmbg-2.0", "--yes")

        def polled(job: dict) -> bool:
            return any(f"{job['id']}/status" in seen.path for seen in list(service.seen))

        # A job is polled after its handle has been stored.
        assert until(lambda: len(service.jobs) == 4 and all(polled(job) for job in service.jobs), 120)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for job in service.jobs:
            job["polls"] = 1
        service.polls = 1
        process = start(photos, tmp_path / "out", "--provider", "fal-rmbg-2.0", "--yes")
        err = process.communicate(timeout=300)[1].decode()
        assert process.returncode == 0, err
        assert len(service.jobs) == 10 and len(results(tmp_path / "out")) == 10 and service.cancelled == []


@pytest.mark.skipif(os.name == "nt", reason="requires SIGKILL")
def test_interrupted_call_that_cannot_be_resumed_is_not_repeated(tmp_path, monkeypatch, rmbg):
    photos = save_photos(tmp_path / "many", 6)
    with SlowRemoveBg() as service:
        connect(service, tmp_path / "data", monkeypatch)
        service.faults["stored"] = lambda s, x: x.hang()
        process = start(photos, tmp_path / "out", "--provider", "removebg", "--yes")
        assert until(lambda: len(service.jobs) == 4, 120)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        service.faults.clear()
        arguments = ("batch", photos, tmp_path / "out", "--provider", "removebg", "--yes", "--json")
        status, out, _ = rmbg(*arguments)
        figures = json.loads(out)
        assert status == 1 and len(service.jobs) == 6 and (figures["done"], figures["failed"]) == (2, 4)
        assert all("may have been charged" in failure["message"] for failure in figures["failures"])
        assert figures["cost"]["unknown"] == {"calls": 4, "usd": pytest.approx(0.2)}


@pytest.mark.skipif(os.name == "nt", reason="requires POSIX signals")
def test_interrupt_waits_for_paid_calls(runware, tmp_path):
    photos = save_photos(tmp_path / "many", 30)
    runware.seconds = 0.5
    patient = with_constants(batch__pipeline__PAID_GRACE_SECONDS=120)
    process = start(photos, tmp_path / "out", "--provider", "runware-rembg-1.4", "--yes", program=patient)
    assert until(lambda: len(runware.jobs) >= 4, 120)
    os.kill(process.pid, signal.SIGINT)
    err = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 130 and "Run the same command again" in sentence(err.strip().splitlines()[-1])
    sent = len(runware.jobs)
    assert sent < 30 and len(results(tmp_path / "out")) == sent
    process = start(photos, tmp_path / "out", "--provider", "runware-rembg-1.4", "--yes")
    err = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 0 and len(runware.jobs) == 30, err


# --- SpendingLimit -----------------------------------------------------------------------------------------------------


def test_limit_reserves_the_highest_price_so_far():
    limit = SpendingLimit(Decimal("1.00"), Decimal(0), Decimal("0.10"))
    limit.settle(limit.reserve(lambda: False), Cost(Decimal("0.40"), "charged"))
    assert limit.reserve(lambda: False) == Decimal("0.40")
    limit.settle(Decimal("0.40"), Cost(None, "unknown"))
    with pytest.raises(LimitReachedError, match=r"^The limit of \$1.00 is reached: \$0.80 are spent"):
        limit.reserve(lambda: False)


def test_limit_serializes_calls_near_the_limit():
    limit = SpendingLimit(Decimal("0.25"), Decimal(0), Decimal("0.10"))
    first = limit.reserve(lambda: False)
    got = []
    thread = threading.Thread(target=lambda: got.append(limit.reserve(lambda: False)))
    thread.start()
    time.sleep(0.3)
    assert got == []
    limit.settle(first, None)
    thread.join(120)
    assert got == [Decimal("0.10")] and limit.spent == 0
    with pytest.raises(CancelledError):
        limit.reserve(lambda: True)


def test_limit_allows_concurrent_calls_of_a_known_price_far_from_it():
    """Up to ten times the price, so that an increase is recorded before the next call is sent."""
    limit = SpendingLimit(Decimal("2.00"), Decimal(0), Decimal("0.10"))
    first = limit.reserve(lambda: True)
    with pytest.raises(CancelledError):  # it has to wait: the price is not known yet
        limit.reserve(lambda: True)
    limit.settle(first, Cost(Decimal("0.10"), "charged"))
    for _ in range(10):
        limit.reserve(lambda: True)
    with pytest.raises(CancelledError):
        limit.reserve(lambda: True)


@pytest.mark.parametrize("seed", range(2))
def test_limit_holds_for_many_threads(seed):
    random = np.random.default_rng(seed)
    price, maximum = Decimal("0.01"), Decimal("0.50")
    limit = SpendingLimit(maximum, Decimal(0), price)

    def call(number: int) -> None:
        try:
            reserved = limit.reserve(lambda: False)
        except LimitReachedError:
            return
        time.sleep(waits[number])
        limit.settle(reserved, Cost(price, "charged") if number % 5 else Cost(None, "unknown"))

    waits = random.uniform(0, 0.01, 100)
    threads = [threading.Thread(target=call, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Decimal("0.45") <= limit.spent <= maximum


def test_photo_replaced_under_the_same_name_is_sent_again(paid, runware, photos):
    assert paid("--yes")[0] == 0
    save_photo(photos / "a/0001.png", 77)
    status, _, err = paid()
    assert status == 2 and "$0.0013" in err
    assert paid("--yes")[0] == 0 and len(runware.jobs) == 9
