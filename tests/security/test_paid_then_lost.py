"""Paid calls: checks before the payment, and recovery of paid results after any failure."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.conftest import select_providers
from tests.remote import environment, picture
from tests.security.paid import LIMIT, calls, run, start, strip
from tests.sentences import sentence
from tests.servers.fal import Fal
from tests.servers.removebg import RemoveBg
from tests.servers.runware import Runware
from tests.servers.service import KEY
from tests.servers.web import until

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")


def error_line(error: str) -> str:
    """Return the only line on standard error."""
    assert error.startswith("rmbg: ") and error.count("\n") == 1, error
    return error.strip()


# Before the payment


def test_remove_checks_the_format_limit_before_paying(fal, tmp_path):
    (tmp_path / "long.png").write_bytes(strip())
    out = tmp_path / "out.webp"
    status, _, err = run(
        fal, tmp_path / "data", "remove", tmp_path / "long.png", out, "--format", "webp-lossy", "--provider", "fal-rmbg-2.0"
    )
    assert status == 2 and "16383 pixels" in error_line(err), err
    assert not fal.seen and not out.exists()


def test_replace_checks_the_format_limit_before_paying(fal, tmp_path):
    (tmp_path / "long.png").write_bytes(strip())
    words = ["replace", tmp_path / "long.png", tmp_path / "out.webp", "--prompt", "a wall"]
    status, _, err = run(fal, tmp_path / "data", *words)
    assert status == 2 and "16383 pixels" in error_line(err), err
    assert not fal.seen


def test_crop_of_a_photo_above_the_format_limit(fal, tmp_path):
    """The size of a crop is unknown before the payment; a result above the limit is saved as PNG."""
    (tmp_path / "long.png").write_bytes(strip())
    words = ["remove", tmp_path / "long.png", tmp_path / "out.webp", "--provider", "fal-rmbg-2.0", "--crop", "0"]
    assert run(fal, tmp_path / "data", *words)[0] == 0
    assert max(Image.open(tmp_path / "out.webp").size) < 16_383
    status, _, err = run(fal, tmp_path / "data", *words[:-1], "0.5")
    assert status == 1 and "$0.018" in error_line(err) and "16383" in err
    (kept,) = (tmp_path / "data" / "recovered").iterdir()
    assert str(kept) in err and Image.open(kept).size == (17_000, 20)


@pytest.fixture
def visitor(app: str, fal: Fal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    for name, value in environment(fal, tmp_path / "data", RMBG_REMOTE_SECONDS="60").items():
        monkeypatch.setenv(name, value)
    return Client(app, verbose=False, download_files=str(tmp_path))


def test_api_checks_the_format_limit_before_paying(visitor, fal, tmp_path):
    (tmp_path / "long.png").write_bytes(strip())
    with pytest.raises(AppError, match="16383 pixels"):
        visitor.predict(
            image=handle_file(str(tmp_path / "long.png")), provider="fal-rmbg-2.0", format="webp", api_name="/remove_background"
        )
    assert not fal.seen


# After the payment


@needs_full
@pytest.mark.parametrize("words", [["remove", "--provider", "fal-rmbg-2.0"], ["replace", "--prompt", "a wall"]])
def test_paid_picture_is_saved_when_the_disk_is_full(fal, photo, tmp_path, words):
    data = tmp_path / "data"
    command, *options = words
    status, _, err = run(fal, data, command, photo, FULL, *options)
    assert status == 1 and os.strerror(errno.ENOSPC) in error_line(err)
    (kept,) = (data / "recovered").iterdir()
    assert str(kept) in err and re.search(r"\$0\.0\d+", err), err
    assert Image.open(kept).size == (96, 64) and kept.stat().st_mode & 0o077 == 0
    assert len(fal.jobs) == 1


@needs_full
def test_paid_picture_is_saved_when_standard_output_is_full(fal, photo, tmp_path):
    with FULL.open("wb") as full:
        status, _, err = run(
            fal, tmp_path / "data", "remove", photo, "-", "--provider", "fal-rmbg-2.0", stdout=full, PYTHONUNBUFFERED=""
        )
    assert status == 1 and "$0.018" in error_line(err)
    (kept,) = (tmp_path / "data" / "recovered").iterdir()
    assert str(kept) in err and Image.open(kept).mode == "RGBA"


def test_paid_picture_is_saved_after_a_broken_pipe(fal, photo, tmp_path):
    process = start(fal, tmp_path / "data", "remove", photo, "-", "--provider", "fal-rmbg-2.0")
    process.stdout.close()
    process.wait(LIMIT)
    err = process.stderr.read()
    assert process.returncode == 1 and "$0.018" in error_line(err)
    (kept,) = (tmp_path / "data" / "recovered").iterdir()
    assert str(kept) in err


@needs_full
def test_paid_picture_is_saved_in_the_temporary_folder(fal, photo, tmp_path):
    """RMBG_DATA/recovered cannot be created, as a file has its name."""
    data, temporary = tmp_path / "data", tmp_path / "temporary"
    for folder in (data, temporary):
        folder.mkdir()
    (data / "recovered").write_bytes(b"")
    status, _, err = run(fal, data, "remove", photo, FULL, "--provider", "fal-rmbg-2.0", TMPDIR=temporary)
    assert status == 1
    (kept,) = [path for path in temporary.rglob("*.png")]
    assert str(kept) in error_line(err) and Image.open(kept).size == (96, 64)


def test_free_picture_is_not_saved_for_recovery(fal, photo, tmp_path):
    if FULL.exists():
        status, _, err = run(fal, tmp_path / "data", "remove", photo, FULL, "--provider", "builtin")
        assert status == 1 and "cannot be written" in error_line(err)
        assert not (tmp_path / "data" / "recovered").exists()


def test_compare_saves_paid_cutouts_when_its_folder_is_lost(fal, photo, tmp_path):
    """The folder is replaced by a file while fal processes the photo; every paid cutout is saved."""
    out = tmp_path / "out"
    ids = "fal-rmbg-2.0,builtin"
    fal.polls = 1_000_000
    process = start(fal, tmp_path / "data", "compare", photo, "--providers", ids, "--out", out, "--yes")
    assert until(lambda: bool(fal.jobs) and any(out.glob("*builtin.png")), LIMIT)
    for path in out.iterdir():
        path.unlink()
    out.rmdir()
    out.write_bytes(b"")
    fal.jobs[0]["polls"] = 1
    err = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 1 and "$0.018" in err, err
    kept = [path for path in (tmp_path / "data" / "recovered").iterdir() if "fal" in path.name]
    assert len(kept) == 1 and str(kept[0]) in err


def test_benchmark_saves_a_paid_matte_it_cannot_write(fal, tmp_path):
    """The folder of the mattes cannot be created, as a file has its name."""
    out, set_ = tmp_path / "out", tmp_path / "set" / "things"
    for kind in ("im", "gt"):
        (set_ / kind).mkdir(parents=True)
    (set_ / "im" / "a.png").write_bytes(picture())
    Image.fromarray(np.full((64, 96), 255, np.uint8)).save(set_ / "gt" / "a.png")
    fal.polls = 1_000_000
    words = ["benchmark", tmp_path / "set", "--providers", "fal-rmbg-2.0", "--out", out, "--yes"]
    process = start(fal, tmp_path / "data", *words)
    assert until(lambda: bool(fal.jobs), LIMIT)
    (out / "mattes").write_bytes(b"")
    fal.jobs[0]["polls"] = 1
    err = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 1 and "$0.018" in error_line(err)
    (kept,) = (tmp_path / "data" / "recovered").iterdir()
    assert str(kept) in err and Image.open(kept).size == (96, 64)
    (out / "mattes").unlink()
    status, _, err = run(fal, tmp_path / "data", *words)
    assert status == 1 and len(fal.jobs) == 1, "a paid picture is not paid for again"


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Limit the files of this process to 100 kB, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_api_saves_a_paid_picture_it_cannot_return(visitor, fal, tmp_path, request):
    """The photo is noise, so that the file of the result exceeds the limit of the disk."""
    noise = np.random.default_rng(5).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.jpg", quality=30)
    assert (tmp_path / "noise.jpg").stat().st_size < 100_000
    image = handle_file(str(tmp_path / "noise.jpg"))
    request.getfixturevalue("full_disk")
    with pytest.raises(AppError) as caught:
        visitor.predict(image=image, provider="fal-rmbg-2.0", api_name="/remove_background")
    text = str(caught.value)
    assert len(fal.jobs) <= 1
    if fal.jobs:
        assert "$0.018" in text and "large" in text, text


@pytest.mark.browser
@pytest.mark.parametrize("tab", ["remove", "compare", "replace"])
def test_page_shows_and_saves_results_when_the_disk_is_full(shared_page, visitor, fal, tmp_path, request, tab):
    """A result that cannot be written to disk stays in memory and is shown with a message."""
    from tests.ui.test_page import WAIT

    page = shared_page
    noise = np.random.default_rng(5).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.jpg", quality=30)
    if tab == "remove":
        page.set_input_files("#photo input[type=file]", str(tmp_path / "noise.jpg"))
        page.wait_for_selector("#photo img", timeout=WAIT)
        page.click("#provider input")
        page.click("#provider li:has-text('fal: RMBG 2.0')")
        page.wait_for_selector("#key input[type=password]", timeout=WAIT)
        request.getfixturevalue("full_disk")
        page.click("#start")
        page.click("#remove-yes", timeout=WAIT)
        page.wait_for_selector("#result .stage", timeout=WAIT)
        page.wait_for_selector("#message .notice", timeout=WAIT)
        text = page.inner_text("#message .notice")
        assert "memory" in text and "our fault" not in text.lower()
        sentence(text)
        assert "$0.018 charged" in page.inner_text("#total")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        with page.expect_download(timeout=WAIT) as waiting:
            page.click("#save")
        waiting.value.save_as(tmp_path / "saved.png")
        assert Image.open(tmp_path / "saved.png").size == (400, 300)
    elif tab == "replace":
        page.get_by_role("tab", name="Replace").click()
        page.set_input_files("#replace-photo input[type=file]", str(tmp_path / "noise.jpg"))
        page.wait_for_selector("#replace-photo img", timeout=WAIT)
        page.fill("#replace-prompt textarea", "a wooden table")
        page.wait_for_timeout(800)
        request.getfixturevalue("full_disk")
        page.click("#replace-start")
        page.click("#replace-yes", timeout=WAIT)
        page.wait_for_selector("#replace-facts a[download] img", timeout=WAIT)
        sentence(page.inner_text("#replace-message .notice"))
        assert "paid for" in page.inner_text("#replace-message .notice")
        assert "$0.018 charged" in page.inner_text("#replace-total")
    else:
        page.get_by_role("tab", name="Compare").click()
        page.set_input_files("#compare-photo input[type=file]", str(tmp_path / "noise.jpg"))
        page.wait_for_selector("#compare-photo img", timeout=WAIT)
        page.click("#compare-keys button")
        page.fill("#compare-key-FAL_KEY input", KEY)
        select_providers(page, "compare", "builtin", "fal-rmbg-2.0")
        request.getfixturevalue("full_disk")
        page.click("#compare-start")
        page.wait_for_selector("#compare-yes", timeout=WAIT)
        page.click("#compare-yes")
        page.wait_for_selector(".panes img[alt^='Cutout']", timeout=WAIT)
        page.wait_for_function("document.querySelector('#compare-message').innerText.includes('memory')", timeout=WAIT)
    assert len(fal.jobs) == 1


# Ctrl-C


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize("command", ["remove", "compare", "benchmark"])
def test_interrupt_reports_the_charge(fal, photo, tmp_path, command):
    fal.polls = 1_000_000
    out, data = tmp_path / "out.png", tmp_path / "data"
    words = {
        "remove": ["remove", photo, out, "--provider", "fal-rmbg-2.0"],
        "compare": ["compare", photo, "--providers", "fal-rmbg-2.0,removebg", "--out", tmp_path / "folder", "--yes"],
        "benchmark": ["benchmark", tmp_path / "set", "--providers", "fal-rmbg-2.0", "--out", tmp_path / "folder", "--yes"],
    }[command]
    for kind in ("im", "gt"):
        (tmp_path / "set" / "things" / kind).mkdir(parents=True)
        picture_or_matte = Image.open(photo) if kind == "im" else Image.fromarray(np.full((64, 96), 255, np.uint8))
        picture_or_matte.save(tmp_path / "set" / "things" / kind / "a.png")
    if command == "remove direct":
        fal.faults["stored"] = lambda service, exchange: exchange.hang()
    with RemoveBg() as other:
        other.faults["stored"] = lambda service, exchange: exchange.hang()
        process = start(fal, data, *words, RMBG_REMOVEBG_URL=f"{other.url}/v1.0")
        # A job is polled after the command has received its id.
        awaited = [lambda: bool(fal.jobs), lambda: any("/status" in seen.path for seen in list(fal.seen))]
        if command == "compare":
            awaited.append(lambda: bool(other.jobs))
        assert until(lambda: all(condition() for condition in awaited), LIMIT), process.stderr.read()
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 130, err
    assert "Traceback" not in err and "may have been charged" in err, err
    assert "$0.018" in err
    if command == "compare":
        assert "$0.05" in err and err.count("may have been charged") == 2
    else:
        error_line(err)
    assert {state for state, _ in calls(data)} == {"unknown"}
    assert until(lambda: len(fal.cancelled) == 1)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_interrupt_before_sending_is_not_charged(photo, tmp_path):
    """The service accepts the connection and reads nothing, so the photo is not sent completely."""
    import socket

    with socket.socket() as silent, Fal() as fal:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        words = ["remove", photo, tmp_path / "out.png", "--provider", "gigarouter-rmbg-1.4"]
        process = start(fal, tmp_path / "data", *words, RMBG_GIGAROUTER_URL=f"{url}/v1")
        silent.settimeout(LIMIT)
        connection, _ = silent.accept()
        with connection:
            until(lambda: False, 0.5)
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 130 and error_line(err) == "rmbg: Stopped. Nothing was charged."
    assert calls(tmp_path / "data") == [("nothing", None)]


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_second_interrupt_exits_immediately(fal, photo, tmp_path):
    """The second interrupt does not wait for the cancellation request; the ledger counts the call."""
    fal.polls = 1_000_000
    fal.faults["cancel"] = lambda service, exchange: exchange.hang()
    process = start(fal, tmp_path / "data", "remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0")
    assert until(lambda: bool(fal.jobs), LIMIT)
    until(lambda: False, 0.5)
    process.send_signal(signal.SIGINT)
    until(lambda: any(seen.method == "PUT" for seen in fal.seen), 10)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 130 and "Traceback" not in err
    assert calls(tmp_path / "data")[0][0] in ("unknown", "pending")


# Retries of result requests


#: Short delays between retries and polls.
QUICK = {
    "net__client__BACKOFF": 0.05,
    "providers__service__POLL_INTERVAL": 0.1,
    "providers__runware__POLL_INTERVAL": 0.1,
}


def times(number: int, step: str):
    """Return a fault that ends after `number` requests; `tests/net/test_client.py` has other statuses than 500."""
    left = [number]

    def fault(service, exchange):
        left[0] -= 1
        if left[0] <= 0:
            del service.faults[step]
        exchange.send(500, b"<html>Bad gateway</html>", "text/html")

    return fault


@pytest.mark.parametrize("step", ["result", "picture"])
def test_result_request_to_fal_is_retried(fal, photo, tmp_path, step):
    fal.faults[step] = times(3, step)
    words = ["remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0", "--option", "sync_mode=false"]
    code, _, err = run(fal, tmp_path / "data", *words, constants=QUICK)
    assert code == 0, err
    assert len(fal.jobs) == 1


@pytest.mark.parametrize("step", ["status", "picture"])
def test_result_request_to_runware_is_retried(photo, tmp_path, step):
    with Runware() as service:
        service.faults[step] = times(3, step)
        words = ["remove", photo, tmp_path / "o.png", "--provider", "runware-rmbg-2.0"]
        words += ["--option", "deliveryMethod=async", "--option", "outputType=URL"]
        code, _, err = run(service, tmp_path / "data", *words, constants=QUICK)
        assert code == 0, err
        assert len(service.jobs) == 1


@pytest.mark.parametrize("step", ["status", "result"])
def test_result_request_to_hugging_face_is_retried(photo, tmp_path, step):
    from tests.servers.huggingface import TOKEN, Router

    with Router() as service:
        service.faults[step] = times(2, step)
        words = ["remove", photo, tmp_path / "o.png", "--provider", "hf-rmbg-2.0"]
        more = {"RMBG_HF_URL": service.url, "HF_TOKEN": TOKEN, "constants": QUICK}
        code, _, err = run(service, tmp_path / "data", *words, **more)
        assert code == 0, err
        assert len(service.jobs) == 1


@pytest.mark.parametrize("mode", ["queue", "direct"])
def test_price_request_to_fal_is_retried(fal, photo, tmp_path, mode):
    fal.faults["price"] = times(1, "price")
    words = ["remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0", "--option", f"mode={mode}"]
    code, _, err = run(fal, tmp_path / "data", *words, constants=QUICK)
    assert code == 0, err
    assert [state for state, _ in calls(tmp_path / "data")] == ["charged"]


def test_error_of_a_job_that_is_gone_at_the_next_request_is_not_its_result(fal, photo, tmp_path):
    """The result request of a complete job gets the response of a failed job once."""

    def fault(service, exchange):
        del service.faults["result"]
        service.refuse(exchange, 500, "Internal error", "internal_error")

    fal.faults["result"] = fault
    words = ["remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0"]
    code, _, err = run(fal, tmp_path / "data", *words, constants=QUICK)
    assert code == 0, err
    assert len(fal.jobs) == 1 and [state for state, _ in calls(tmp_path / "data")] == ["charged"]


def test_result_of_a_failed_job_is_not_retried(fal, photo, tmp_path):
    fal.job_error = (500, {"detail": "Internal error", "error_type": "internal_error"})
    status, _, err = run(fal, tmp_path / "data", "remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0")
    assert status == 1 and "Nothing was charged" in error_line(err)
    assert len([seen for seen in fal.seen if seen.path.rpartition("/")[2].startswith("00000000")]) == 1


def test_fal_request_is_retried_after_429(fal, photo, tmp_path):
    def busy(service, exchange):
        del service.faults["submit"]
        service.refuse(exchange, 429, "Too many requests", Retry_After="1")

    fal.faults["submit"] = busy
    words = ["remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0"]
    status, _, err = run(fal, tmp_path / "data", *words)
    assert status == 0, err
    assert len(fal.jobs) == 1 and [state for state, _ in calls(tmp_path / "data")] == ["charged"]


def test_retry_after_beyond_the_deadline_fails_immediately(fal, photo, tmp_path):
    fal.faults["submit"] = lambda service, exchange: service.refuse(exchange, 429, "Too many", Retry_After="600")
    words = ["remove", photo, tmp_path / "o.png", "--provider", "fal-rmbg-2.0"]
    status, _, err = run(fal, tmp_path / "data", *words)
    assert status == 1 and "10 minutes" in error_line(err) and "Nothing was charged" in err
    assert len([seen for seen in fal.seen if seen.method == "POST"]) == 1


def test_full_disk_has_exit_status_1(fal, photo, tmp_path):
    if FULL.exists():
        process = start(fal, tmp_path / "data", "remove", photo, FULL, "--provider", "fal-rmbg-2.0", stderr=subprocess.DEVNULL)
        assert process.wait(LIMIT) == 1
