"""Weights from a folder and from a hub: each failure says what to do, and the next try works."""

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

from rmbg.engines import weights
from rmbg.engines.models import MODELS
from rmbg.errors import ModelError, NotReadyError
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
    """Settings for a fresh machine, with further variables."""

    def settings(**more):
        return Settings.from_environ(
            {"RMBG_DATA": str(tmp_path / "data"), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, **more}
        )

    return settings


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The library waits longer from try to try; not here. Nor does it find a token of this machine's user."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)


def fetch(settings, model=MODEL):
    return weights.fetch(model, settings, lambda fraction, text: None)


def check_sentence(error, model=MODEL):
    assert model.page in sentence(error)


def test_folder_comes_first_and_needs_no_hub(make, hub, tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "rmbg-1.4.safetensors")
    settings = make(RMBG_WEIGHTS=str(tmp_path))
    found = fetch(settings)
    assert found.path == weights.present(MODEL, settings) == tmp_path / "rmbg-1.4.safetensors"
    assert weights.read(found)["a"].tolist() == [1, 1, 1]
    assert hub.asked == []


def test_folder_that_is_not_there(make):
    with pytest.raises(NotReadyError, match="RMBG_WEIGHTS is '/nowhere'"):
        fetch(make(RMBG_WEIGHTS="/nowhere"))


def test_folder_that_cannot_be_looked_into(make):
    settings = make(RMBG_WEIGHTS="x" * 300)  # longer than the name of a file may be
    for look in (fetch, lambda settings: weights.present(MODEL, settings)):
        with pytest.raises(NotReadyError, match=r"RMBG_WEIGHTS is 'x+\.\.\.', ") as raised:
            look(settings)
        sentence(raised.value)


def test_file_that_may_not_be_read(make, tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    save_file({"a": torch.ones(3)}, tmp_path / "rmbg-1.4.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(weights, "open", refuse, raising=False)
        with pytest.raises(ModelError, match=r"rmbg-1\.4\.safetensors cannot be read \(Permission denied\)"):
            fetch(make(RMBG_WEIGHTS=str(tmp_path)))
    assert fetch(make(RMBG_WEIGHTS=str(tmp_path)))


def test_download_once_with_progress(make, hub):
    settings = make()
    assert weights.present(MODEL, settings) is None
    told = []
    found = weights.fetch(MODEL, settings, lambda fraction, text: told.append((fraction, text)))
    assert (1.0, "Downloading rmbg-1.4 (176 MB)") in told
    assert torch.equal(weights.read(found)["a"], torch.arange(4000.0))
    asked = len(hub.asked)
    assert fetch(settings) == found
    assert weights.present(MODEL, settings) == found.path
    assert len(hub.asked) == asked  # the commit is remembered, so the hub need not be asked
    record = json.loads((settings.data / weights.MANIFEST).read_text())["rmbg-1.4"]
    assert record == {"hub": MODEL.hub, "revision": COMMIT, "sha256": found.sha256}


def test_progress_of_a_download_in_another_thread_is_that_of_this_page():
    page = contextvars.ContextVar("page", default=None)
    page.set("this")
    told = []
    bar = weights._bar("Downloading", lambda fraction, text: told.append((page.get(), fraction)))(total=4)
    thread = threading.Thread(target=bar.update, args=(1,))
    thread.start()
    thread.join()
    assert told == [("this", 0.25)]


@pytest.mark.parametrize("folder", ["~/hf", "$HOME/hf"])
def test_cache_in_the_home_folder_is_found_again(make, tmp_path, monkeypatch, folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # what it is called on Windows
    settings = make(HF_HOME=folder)
    found = fetch(settings)
    assert found.path.is_relative_to(tmp_path / "hf" / "hub")
    assert weights.present(MODEL, settings) == found.path


def test_the_version_of_the_first_download_stays(make, hub):
    settings = make()
    first = fetch(settings)
    hub.commit = "f" * 40
    shutil.rmtree(settings.environ["HF_HOME"])
    assert fetch(settings) == first and first.path.parent.name == COMMIT
    shutil.rmtree(settings.environ["HF_HOME"])
    hub.fault = "no revision"
    with pytest.raises(NotReadyError, match=r"no longer has the version 0123456789ab of rmbg-1\.4; try again"):
        fetch(settings)
    hub.fault = None
    assert fetch(settings).path.parent.name == hub.commit


def test_a_version_can_be_pinned(make, hub):
    pinned = replace(MODEL, revision="e" * 40)
    assert fetch(make(), pinned).path.parent.name == pinned.revision
    assert all(f"/resolve/{pinned.revision}/" in path for method, path, _ in hub.asked if "/resolve/" in path)


def test_stopping_a_download(make):
    def stop(fraction, text):
        raise NotReadyError("stop")

    with pytest.raises(NotReadyError, match=r"^stop$"):
        weights.fetch(MODEL, make(), stop)
    fetch(make())


def test_interrupted_download_goes_on_where_it_stopped(make, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # what is cut off is one piece at most
    hub.fault = "interrupted"
    assert weights.read(fetch(make()))
    spans = [span for method, _, span in hub.asked if method == "GET" and span]
    assert spans == ["bytes=8000-"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("forbidden", r"refused the download \(403\).*RMBG_WEIGHTS"),
        ("no repository", r"There is no https://huggingface\.co/briaai/RMBG-1\.4"),
        ("no revision", "no longer has the version main"),
        ("no file", r"has no file model\.safetensors"),
        ("broken", "answered 500.*try again later"),
        ("no hub", r"http://127\.0\.0\.1:[0-9]+ does not answer as a hub does; check HF_ENDPOINT"),
        ("truncated", "broke off before its end"),
        ("corrupt", "damaged.*deleted"),
    ],
)
def test_each_failure_has_its_sentence_and_the_next_try_works(make, hub, fault, words):
    hub.fault = fault
    with pytest.raises((NotReadyError, ModelError), match=words) as raised:
        fetch(make())
    check_sentence(raised.value)
    hub.fault = None
    assert weights.read(fetch(make()))


def test_gated_without_and_with_a_token(make, hub):
    hub.gated = True
    with pytest.raises(NotReadyError, match="needs a Hugging Face token: ") as raised:
        fetch(make(), GATED)
    check_sentence(raised.value, GATED)
    with pytest.raises(NotReadyError, match="has not been accepted") as raised:
        fetch(make(HF_TOKEN="hf_secret"), GATED)
    check_sentence(raised.value, GATED)
    assert "hf_secret" not in str(raised.value)
    assert fetch(make(HF_TOKEN="accepted"), GATED)


def test_offline(make):
    with pytest.raises(NotReadyError, match="HF_HUB_OFFLINE is set") as raised:
        fetch(make(HF_HUB_OFFLINE="1"))
    check_sentence(raised.value)
    found = fetch(make())
    assert fetch(make(HF_HUB_OFFLINE="1")) == found


def test_hub_that_cannot_be_reached(make):
    with pytest.raises(NotReadyError, match="could not be reached") as raised:
        fetch(make(HF_ENDPOINT="http://127.0.0.1:1"))
    check_sentence(raised.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "reason"), "disk is full: .* 176 MB"),
        (RuntimeError(f"IO error: No space left on device (os error {errno.ENOSPC})"), "disk is full: .* 176 MB"),
        (OSError(errno.EROFS, "reason"), r"could not be stored \(reason\)"),
    ],
)
def test_disk(make, monkeypatch, error, words):
    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.hf_hub_download", fail)
        with pytest.raises(NotReadyError, match=words) as raised:
            fetch(make())
    check_sentence(raised.value)
    assert fetch(make())


def test_file_that_changed_after_the_download(make):
    found = fetch(make())
    blob = found.path.resolve()
    blob.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(ModelError, match="damaged"):
        fetch(make())
    assert fetch(make()) == found


def test_file_in_the_store_that_repositories_share(make):
    """The hub's library moves what it has from its storage called Xet there, under a name that is another checksum."""
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
    assert not shared.exists()  # or the next download would link to it again
    assert fetch(settings) == found


def test_system_without_links(make, hub, monkeypatch):
    """There the cache does not know the checksum, so the hub is asked for it once."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    hub.fault = "corrupt"
    with pytest.raises(ModelError, match="damaged"):
        fetch(make())
    hub.fault = None
    found = fetch(make())
    assert not found.path.is_symlink()
    asked = len(hub.asked)
    assert fetch(make()) == found and len(hub.asked) == asked
    (make().data / weights.MANIFEST).unlink()
    assert fetch(make(HF_HUB_OFFLINE="1")) == found


def test_half_a_file_and_no_weights_at_all(make, tmp_path):
    for content in (DATA[: len(DATA) // 2], b"<html>not found</html>", b""):
        (tmp_path / "rmbg-1.4.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match=r"rmbg-1\.4\.safetensors cannot be read as weights"):
            weights.read(fetch(make(RMBG_WEIGHTS=str(tmp_path))))


def test_manifest_of_several_downloads_at_once(make):
    settings = make()
    names = [f"model-{number}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: weights._remember(settings, name, weights.Record("hub", COMMIT, "0" * 64)), names))
    assert sorted(json.loads((settings.data / weights.MANIFEST).read_text())) == sorted(names)
    assert [path.name for path in settings.data.iterdir()] == [weights.MANIFEST]


def test_manifest_that_cannot_be_written_is_no_reason_to_fail(make):
    settings = make()
    settings.data.write_text("a file where a folder should be")
    assert fetch(settings) == fetch(settings)


def test_manifest_that_cannot_be_read_is_made_anew(make):
    settings = make()
    settings.data.mkdir()
    (settings.data / weights.MANIFEST).write_text("[1")
    found = fetch(settings)
    assert json.loads((settings.data / weights.MANIFEST).read_text())["rmbg-1.4"]["sha256"] == found.sha256
