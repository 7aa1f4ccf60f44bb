"""rmbg.inference.weights and hub: folder, download, cache, manifest, and the message of each failure."""

import contextvars
import errno
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from rmbg.errors import ModelError, NotReadyError
from rmbg.inference import hub as hub_client
from rmbg.inference import weights
from rmbg.inference.catalog import MODELS
from rmbg.settings import Settings
from tests.sentences import sentence
from tests.servers.hub import COMMIT, Hub

MODEL = MODELS["rmbg-1.4"]
GATED = MODELS["rmbg-2.0"]
DATA = save({"a": torch.arange(4000.0)})


@pytest.fixture
def hub():
    with Hub() as server:
        server.files = {MODEL.hub: {MODEL.file: DATA}, GATED.hub: {GATED.file: DATA}}
        yield server


@pytest.fixture
def make(tmp_path, hub):
    """Factory of settings with an empty data folder and cache, and further variables."""

    def settings(**variables):
        return Settings.from_environ(
            {"RMBG_DATA": str(tmp_path / "data"), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, **variables}
        )

    return settings


@pytest.fixture(autouse=True)
def isolated_hub_client(monkeypatch):
    """Disable the retry delays of huggingface_hub and the token of this machine's user."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)


def fetch(settings, model=MODEL):
    return weights.fetch(model, settings, lambda fraction, text: None)


def check_message(error, model=MODEL):
    assert model.page in sentence(error)


def test_folder_has_precedence_and_sends_no_request(make, hub, tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "rmbg-1.4.safetensors")
    settings = make(RMBG_WEIGHTS=str(tmp_path))
    found = fetch(settings)
    assert found.path == weights.present(MODEL, settings) == tmp_path / "rmbg-1.4.safetensors"
    assert weights.read(found)["a"].tolist() == [1, 1, 1]
    assert hub.requests == []


def test_missing_folder(make):
    with pytest.raises(NotReadyError, match="RMBG_WEIGHTS is '/nowhere', which is not a folder"):
        fetch(make(RMBG_WEIGHTS="/nowhere"))


def test_unreadable_folder(make):
    settings = make(RMBG_WEIGHTS="x" * 300)  # too long for a file name
    for function in (fetch, lambda settings: weights.present(MODEL, settings)):
        with pytest.raises(NotReadyError, match=r"RMBG_WEIGHTS is 'x+\.\.\.', ") as raised:
            function(settings)
        sentence(raised.value)


def test_file_without_read_permission(make, tmp_path, monkeypatch):
    def fail(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    save_file({"a": torch.ones(3)}, tmp_path / "rmbg-1.4.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(weights, "open", fail, raising=False)
        with pytest.raises(ModelError, match=r"rmbg-1\.4\.safetensors cannot be read \(Permission denied\)"):
            fetch(make(RMBG_WEIGHTS=str(tmp_path)))
    assert fetch(make(RMBG_WEIGHTS=str(tmp_path)))


def test_download_once_with_progress(make, hub):
    settings = make()
    assert weights.present(MODEL, settings) is None
    reports = []
    found = weights.fetch(MODEL, settings, lambda fraction, text: reports.append((fraction, text)))
    assert (1.0, "Downloading rmbg-1.4 (176 MB)") in reports
    assert torch.equal(weights.read(found)["a"], torch.arange(4000.0))
    requests = len(hub.requests)
    assert fetch(settings) == found
    assert weights.present(MODEL, settings) == found.path
    assert len(hub.requests) == requests  # the recorded commit needs no request
    entry = json.loads((settings.data / weights.MANIFEST).read_text())["rmbg-1.4"]
    assert entry == {"hub": MODEL.hub, "revision": COMMIT, "sha256": found.sha256}


def test_progress_from_another_thread_runs_in_the_context_of_the_caller():
    session = contextvars.ContextVar("session", default=None)
    session.set("this")
    reports = []
    bar = hub_client.progress_bar("Downloading", lambda fraction, text: reports.append((session.get(), fraction)))(total=4)
    thread = threading.Thread(target=bar.update, args=(1,))
    thread.start()
    thread.join()
    assert reports == [("this", 0.25)]


@pytest.mark.parametrize("folder", ["~/hf", "$HOME/hf"])
def test_cache_in_the_home_folder(make, tmp_path, monkeypatch, folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # the variable on Windows
    settings = make(HF_HOME=folder)
    found = fetch(settings)
    assert found.path.is_relative_to(tmp_path / "hf" / "hub")
    assert weights.present(MODEL, settings) == found.path


def test_the_commit_of_the_first_download_is_kept(make, hub):
    settings = make()
    first = fetch(settings)
    hub.commit = "f" * 40
    shutil.rmtree(settings.environ["HF_HOME"])
    assert fetch(settings) == first and first.path.parent.name == COMMIT
    shutil.rmtree(settings.environ["HF_HOME"])
    hub.fault = "no revision"
    with pytest.raises(NotReadyError, match=r"no longer has the version 0123456789ab of rmbg-1\.4\. Try again"):
        fetch(settings)
    hub.fault = None
    assert fetch(settings).path.parent.name == hub.commit


def test_a_model_can_pin_a_commit(make, hub):
    pinned = replace(MODEL, revision="e" * 40)
    assert fetch(make(), pinned).path.parent.name == pinned.revision
    assert all(f"/resolve/{pinned.revision}/" in path for method, path, _ in hub.requests if "/resolve/" in path)


def test_cancelled_download(make):
    def cancel(fraction, text):
        raise NotReadyError("cancel")

    with pytest.raises(NotReadyError, match=r"^cancel$"):
        weights.fetch(MODEL, make(), cancel)
    fetch(make())


def test_interrupted_download_is_resumed(make, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # the incomplete chunk is discarded
    hub.fault = "interrupted"
    assert weights.read(fetch(make()))
    spans = [span for method, _, span in hub.requests if method == "GET" and span]
    assert spans == ["bytes=8000-"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("forbidden", r"refused the download \(HTTP 403\).*RMBG_WEIGHTS"),
        ("no repository", r"https://huggingface\.co/briaai/RMBG-1\.4 does not exist"),
        ("no revision", "no longer has the version main"),
        ("no file", r"has no file model\.safetensors"),
        ("broken", "responded with HTTP 500.*Try again later"),
        ("no hub", r"http://127\.0\.0\.1:[0-9]+ did not respond as a hub does\. Check HF_ENDPOINT"),
        ("truncated", "ended early and was discarded"),
        ("corrupt", "damaged.*They were deleted"),
    ],
)
def test_failures_have_a_message_and_the_next_try_works(make, hub, fault, words):
    hub.fault = fault
    with pytest.raises((NotReadyError, ModelError), match=words) as raised:
        fetch(make())
    check_message(raised.value)
    hub.fault = None
    assert weights.read(fetch(make()))


def test_gated_without_and_with_a_token(make, hub):
    hub.gated = True
    with pytest.raises(NotReadyError, match=r"needs a Hugging Face token\. Accept") as raised:
        fetch(make(), GATED)
    check_message(raised.value, GATED)
    with pytest.raises(NotReadyError, match="has not accepted the license") as raised:
        fetch(make(HF_TOKEN="hf_secret"), GATED)
    check_message(raised.value, GATED)
    assert "hf_secret" not in str(raised.value)
    assert fetch(make(HF_TOKEN="accepted"), GATED)


def test_offline(make):
    with pytest.raises(NotReadyError, match="HF_HUB_OFFLINE is set") as raised:
        fetch(make(HF_HUB_OFFLINE="1"))
    check_message(raised.value)
    found = fetch(make())
    assert fetch(make(HF_HUB_OFFLINE="1")) == found


def test_unreachable_hub(make):
    with pytest.raises(NotReadyError, match="could not be reached") as raised:
        fetch(make(HF_ENDPOINT="http://127.0.0.1:1"))
    check_message(raised.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "reason"), r"disk is full\. .* 176 MB"),
        (RuntimeError(f"IO error: No space left on device (os error {errno.ENOSPC})"), r"disk is full\. .* 176 MB"),
        (OSError(errno.EROFS, "reason"), r"could not be stored \(reason\)"),
    ],
)
def test_disk_errors(make, monkeypatch, error, words):
    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.hf_hub_download", fail)
        with pytest.raises(NotReadyError, match=words) as raised:
            fetch(make())
    check_message(raised.value)
    assert fetch(make())


def test_damaged_download_is_deleted_and_downloaded_again(make):
    found = fetch(make())
    blob = found.path.resolve()
    blob.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(ModelError, match="damaged"):
        fetch(make())
    assert fetch(make()) == found


def test_file_in_the_store_that_repositories_share(make):
    """huggingface_hub moves downloads from Xet storage there, under a name that is another checksum."""
    settings = make()
    found = fetch(settings)
    blob = found.path.parent / found.path.readlink()
    shared = Path(settings.environ["HF_HOME"], "hub", "blobs", "ab", "ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(shared)
    (settings.data / weights.MANIFEST).unlink()
    assert fetch(settings) == found
    shared.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(ModelError, match="damaged"):
        fetch(settings)
    assert not shared.exists()  # the next download would link to it again
    assert fetch(settings) == found


def test_system_without_symbolic_links(make, hub, monkeypatch):
    """The cache does not contain the checksum there, so it is requested from the hub once."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    hub.fault = "corrupt"
    with pytest.raises(ModelError, match="damaged"):
        fetch(make())
    hub.fault = None
    found = fetch(make())
    assert not found.path.is_symlink()
    requests = len(hub.requests)
    assert fetch(make()) == found and len(hub.requests) == requests
    (make().data / weights.MANIFEST).unlink()
    assert fetch(make(HF_HUB_OFFLINE="1")) == found


def test_truncated_and_foreign_files(make, tmp_path):
    for content in (DATA[: len(DATA) // 2], b"<html>not found</html>", b""):
        (tmp_path / "rmbg-1.4.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match=r"rmbg-1\.4\.safetensors cannot be read as weights"):
            weights.read(fetch(make(RMBG_WEIGHTS=str(tmp_path))))


def test_concurrent_updates_of_the_manifest(make):
    settings = make()
    names = [f"model-{number}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: weights._update_manifest(settings, name, weights.Download("hub", COMMIT, "0" * 64)), names))
    assert sorted(json.loads((settings.data / weights.MANIFEST).read_text())) == sorted(names)
    assert [path.name for path in settings.data.iterdir()] == [weights.MANIFEST]


def test_unwritable_manifest_is_ignored(make):
    settings = make()
    settings.data.write_text("a file where a folder should be")
    assert fetch(settings) == fetch(settings)


def test_damaged_manifest_is_rebuilt(make):
    settings = make()
    settings.data.mkdir()
    (settings.data / weights.MANIFEST).write_text("[1")
    found = fetch(settings)
    assert json.loads((settings.data / weights.MANIFEST).read_text())["rmbg-1.4"]["sha256"] == found.sha256
