"""rmbg.inference.release: weights from a URL, with their checksum, resumption, and the message of each failure."""

import errno
import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rmbg.errors import CancelledError, ModelError, NotReadyError
from rmbg.inference import release, weights
from rmbg.inference.catalog import MODELS
from rmbg.providers.local import LocalNetwork
from rmbg.settings import Settings
from tests.sentences import sentence
from tests.servers.web import Web

DATA = bytes(range(256)) * 2000
CHECKSUMS = [f"md5:{hashlib.md5(DATA).hexdigest()}", f"sha256:{hashlib.sha256(DATA).hexdigest()}"]


class Release(Web):
    """Server of one file, which it redirects to, as GitHub does; `fault` is that of the next answer.

    Attributes
    ----------
    ranges : list of str or None
        Range header of each request for the file.
    """

    def __init__(self):
        super().__init__()
        self.fault = None
        self.ranges = []

    def answer(self, exchange):
        if exchange.path == "/releases/u2net.onnx":
            exchange.send(302, Location=f"{self.url}/stored")
            return
        span, fault = exchange.seen.headers.get("range"), self.fault
        self.ranges.append(span)
        self.fault = None
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        content = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
        match fault:
            case "cut":
                exchange.cut(DATA[:200_000], length=len(DATA))
            case "damaged":
                exchange.send(200, DATA[:-1] + b"?")
            case "other part":
                exchange.send(206, DATA, Content_Range="bytes 0-511999/512000")
            case "whole file":
                exchange.send(200, DATA)
            case "no such part":
                exchange.send(416)
            case "larger":
                exchange.send(200, DATA * 4)
            case "dropped":
                exchange.drop()
            case int():
                exchange.send(fault)
            case _ if span:
                exchange.send(206, DATA[start:], Content_Range=content)
            case _:
                exchange.send(200, DATA)


@pytest.fixture
def web():
    with Release() as server:
        yield server


@pytest.fixture
def model(web):
    url = f"{web.url}/releases/u2net.onnx"
    return replace(MODELS["rmbg-1.4"], id="u2net", hub="", url=url, checksum=CHECKSUMS[0], megabytes=1)


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environ({"RMBG_DATA": str(tmp_path / "data")})


def fetch(model, settings, progress=lambda fraction, text: None):
    return weights.fetch(model, settings, progress)


@pytest.mark.parametrize("checksum", CHECKSUMS, ids=["md5", "sha256"])
def test_download_once_with_progress(model, settings, web, checksum):
    model = replace(model, checksum=checksum)
    assert weights.present(model, settings) is None
    reports = []
    found = fetch(model, settings, lambda fraction, text: reports.append((fraction, text)))
    assert found.path == weights.present(model, settings) == settings.data / "weights" / "u2net.onnx"
    assert found.path.read_bytes() == DATA and found.sha256 == hashlib.sha256(DATA).hexdigest()
    fractions = [fraction for fraction, text in reports if text == "Downloading u2net (1 MB)"]
    assert fractions[-1] == 1.0 and fractions == sorted(fractions)
    assert fetch(model, settings) == found and len(web.seen) == 2
    entry = json.loads((settings.data / weights.MANIFEST).read_text())["u2net"]
    assert entry == {"hub": model.url, "revision": "", "sha256": found.sha256}


def test_folder_has_precedence(model, settings, tmp_path, web):
    (tmp_path / "u2net.onnx").write_bytes(DATA)
    own = Settings.from_environ({**settings.environ, "RMBG_WEIGHTS": str(tmp_path)})
    assert fetch(model, own).path == weights.present(model, own) == tmp_path / "u2net.onnx" and web.seen == []


@pytest.mark.parametrize(
    ("fault", "ranges"),
    [
        (None, [None, "bytes=200000-"]),
        ("whole file", [None, "bytes=200000-"]),
        ("other part", [None, "bytes=200000-", None]),
        ("no such part", [None, "bytes=200000-", None]),
    ],
)
def test_interrupted_download_is_continued(model, settings, web, fault, ranges):
    web.fault = "cut"
    with pytest.raises(NotReadyError, match=r"The connection to 127\.0\.0\.1 was lost .* Try again later, or download http"):
        fetch(model, settings)
    assert weights.present(model, settings) is None
    web.fault = fault
    assert fetch(model, settings).path.read_bytes() == DATA
    assert web.ranges == ranges


def test_cancelled_download_is_continued(model, settings, web):
    def cancel(fraction, text):
        if fraction is not None and fraction > 0.5:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        fetch(model, settings, cancel)
    assert fetch(model, settings).path.read_bytes() == DATA
    assert web.ranges[1] is not None


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (404, r"has no file at this address \(HTTP 404\)"),
        (503, r"failed \(HTTP 503\)"),
        ("dropped", "connection to .* was lost"),
        ("larger", "is larger than the limit"),
        ("damaged", "are damaged: .* They were deleted"),
    ],
)
def test_failures_have_a_message_and_the_next_try_works(model, settings, web, fault, words):
    web.fault = fault
    with pytest.raises((NotReadyError, ModelError), match=words) as raised:
        fetch(model, settings)
    assert model.url in sentence(raised.value)
    assert fetch(model, settings).path.read_bytes() == DATA


def test_damage_after_the_download_is_noticed(model, settings):
    path = fetch(model, settings).path
    path.write_bytes(DATA[:-1] + b"?")
    with pytest.raises(ModelError, match="are damaged"):
        fetch(model, settings)
    assert fetch(model, settings).path.read_bytes() == DATA
    (settings.data / weights.MANIFEST).unlink()
    path.write_bytes(DATA[:-1] + b"?")
    with pytest.raises(ModelError, match="are damaged"):
        fetch(model, settings)


def test_offline(model, settings, web):
    offline = Settings.from_environ({**settings.environ, "HF_HUB_OFFLINE": "1"})
    with pytest.raises(NotReadyError, match="HF_HUB_OFFLINE is set") as raised:
        fetch(model, offline)
    assert model.url in sentence(raised.value) and web.seen == []
    found = fetch(model, settings)
    assert fetch(model, offline) == found


@pytest.mark.parametrize(
    ("error", "words"),
    [(errno.ENOSPC, r"disk is full\. .* need 1 MB"), (errno.EROFS, r"could not be stored in .* \(reason\)\. Set RMBG_DATA")],
)
def test_disk_errors(model, settings, monkeypatch, error, words):
    def fail(self, target):
        raise OSError(error, "reason")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(NotReadyError, match=words) as raised:
            fetch(model, settings)
    sentence(raised.value)
    assert fetch(model, settings)


def test_concurrent_calls_download_once(model, settings, web, monkeypatch):
    monkeypatch.setattr(release, "POLL_INTERVAL", 0.01)
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(model, settings))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1 and web.ranges == [None]


def test_provider_names_the_host(model, settings):
    info = LocalNetwork(replace(model, url="https://github.com/owner/name/releases/download/v1/u2net.onnx")).info
    assert info.model == "github.com/owner/name: IS-Net, 44 million parameters"
    assert info.pixels.endswith("The weights are downloaded once from github.com.")
