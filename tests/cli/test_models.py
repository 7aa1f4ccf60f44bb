"""``rmbg models``: the table, and the weights of a loopback hub that are downloaded, checked and deleted."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from rmbg.inference import inventory, weights
from rmbg.inference.catalog import DOWNLOADS, MODELS
from rmbg.settings import Settings
from tests.sentences import sentence
from tests.servers.hub import Hub
from tests.servers.web import Web

MODEL = MODELS["rmbg-1.4"]
DATA = save({"a": torch.arange(4000.0)})


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with Hub() as server:
        server.files = {MODEL.hub: {MODEL.file: DATA}}
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("RMBG_DATA", str(tmp_path / "data"))
        yield server


def listed(rmbg):
    status, out, error = rmbg("models", "--json")
    assert (status, error) == (0, "")
    result = json.loads(out)
    return {entry["id"]: entry for entry in result["models"]}, result["bytes"]


def test_list(rmbg, hub):
    status, out, error = rmbg("models")
    assert (status, error) == (0, "") and hub.requests == []
    header, *rows, total = out.splitlines()
    assert header.split("  ")[0] == "ID" and [row.split()[0] for row in rows] == list(DOWNLOADS)
    row = next(row for row in rows if row.startswith("rmbg-2.0 "))
    assert re.split("  +", row) == ["rmbg-2.0", MODELS["rmbg-2.0"].best_for, "885 MB", "CC BY-NC 4.0", "no"]
    assert total == f"0 of {len(DOWNLOADS)} networks are on this machine and use 0 MB."
    entries, size = listed(rmbg)
    assert entries["sam2"]["licence"] == MODELS["sam2"].license and entries["sam2"]["path"] is None and size == 0


def test_get_check_and_remove(rmbg, hub, tmp_path):
    status, out, error = rmbg("models", "get", "rmbg-1.4")
    assert status == 0 and "sha256 " in out, error
    entries, size = listed(rmbg)
    assert size == entries["rmbg-1.4"]["bytes"] == len(DATA) and entries["rmbg-1.4"]["path"] in out
    assert f"1 of {len(DOWNLOADS)} networks are on this machine and use 0.01607 MB." in rmbg("models")[1]

    status, out, error = rmbg("models", "check", "rmbg-1.4")
    assert (status, error) == (0, "") and "have the published checksum" in sentence(out.strip())
    settings = Settings.from_environ()
    path = weights.downloaded(MODEL, settings)
    path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    weights.remember(path, hashlib.sha256(DATA).hexdigest(), settings.data)  # is not used
    status, out, error = rmbg("models", "check", "rmbg-1.4")
    assert (status, out) == (1, "") and "are damaged" in sentence(error.strip()) and path.exists()

    status, out, error = rmbg("models", "remove", "rmbg-1.4")
    assert (status, out, error) == (0, "Deleted the weights of rmbg-1.4 (0.01607 MB).\n", "")
    assert not path.is_symlink() and json.loads((settings.data / weights.MANIFEST).read_text()) == {}
    assert listed(rmbg)[1] == 0
    for action in ("remove", "check"):
        status, out, error = rmbg("models", action, "rmbg-1.4")
        assert (status, out) == (1, "") and "are not on this machine." in sentence(error.strip())


def test_damage_without_a_manifest_is_found_by_the_name_of_the_file(rmbg, hub):
    rmbg("models", "get", "rmbg-1.4")
    settings = Settings.from_environ()
    (settings.data / weights.MANIFEST).unlink()
    assert rmbg("models", "check", "rmbg-1.4")[0] == 0
    weights.downloaded(MODEL, settings).write_bytes(DATA[:-1])
    status, _, error = rmbg("models", "check", "rmbg-1.4")
    assert status == 1 and "are damaged" in error


def test_checksum_that_is_not_available(rmbg, hub, monkeypatch):
    """A cache without symbolic links does not contain the checksum, and the hub is not asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    rmbg("models", "get", "rmbg-1.4")
    (Settings.from_environ().data / weights.MANIFEST).unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    requests = len(hub.requests)
    status, out, error = rmbg("models", "check", "rmbg-1.4")
    assert (status, error) == (0, "") and "is not published or cannot be requested" in out and len(hub.requests) == requests


def test_network_that_is_not_on_the_hub(rmbg, hub, monkeypatch):
    with Web({"/net.safetensors": lambda exchange: exchange.send(200, DATA)}) as server:
        checksum = f"md5:{hashlib.md5(DATA).hexdigest()}"
        monkeypatch.setitem(
            DOWNLOADS, "other", replace(MODEL, id="other", hub="", url=f"{server.url}/net.safetensors", checksum=checksum)
        )
        assert rmbg("models", "get", "other")[0] == 0
    assert listed(rmbg)[0]["other"]["bytes"] == len(DATA)
    path = weights.downloaded(DOWNLOADS["other"], Settings.from_environ())
    for stage in ("recorded", "published"):
        path.write_bytes(DATA)
        assert rmbg("models", "check", "other")[0] == 0, stage
        path.write_bytes(DATA[:-1])
        assert rmbg("models", "check", "other")[0] == 1, stage
        (Settings.from_environ().data / weights.MANIFEST).unlink(missing_ok=True)
    assert rmbg("models", "remove", "other")[1].startswith("Deleted the weights of other") and not path.exists()


def test_file_that_cannot_be_deleted(rmbg, hub, monkeypatch):
    def fail(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    rmbg("models", "get", "rmbg-1.4")
    with monkeypatch.context() as patch:
        patch.setattr(weights.hub, "delete", fail)
        status, out, error = rmbg("models", "remove", "rmbg-1.4")
    assert (status, out) == (1, "") and "cannot be deleted (Permission denied)" in error
    assert rmbg("models", "check", "rmbg-1.4")[0] == 0


def test_file_of_the_user_is_never_deleted(rmbg, hub, tmp_path, monkeypatch):
    own = tmp_path / "own/rmbg-1.4.safetensors"
    own.parent.mkdir()
    own.write_bytes(DATA)
    rmbg("models", "get", "rmbg-1.4")
    monkeypatch.setenv("RMBG_WEIGHTS", str(own.parent))
    status, out, error = rmbg("models", "check", "rmbg-1.4")
    assert (status, error) == (0, "") and f"your own file {own} without" in out
    assert rmbg("models", "remove", "rmbg-1.4")[1].startswith("Deleted"), "the download"
    status, out, error = rmbg("models", "remove", "rmbg-1.4")
    assert (status, out) == (1, "") and error == f"rmbg: The weights of rmbg-1.4 are your own file {own}. Delete it yourself.\n"
    assert own.read_bytes() == DATA and listed(rmbg)[0]["rmbg-1.4"]["path"] == str(own)
    monkeypatch.setenv("RMBG_WEIGHTS", str(tmp_path / "missing"))
    status, out, error = rmbg("models")
    assert (status, out) == (1, "") and "which is not a folder" in sentence(error.strip())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["get"], "get needs the id of a network; choose from rmbg-1.4"),
        (["get", "u3net"], "'u3net' has no weights to download; choose from u2net, u2netp"),
        (["check", "sam2", "--json"], "--json is for the list"),
        (["sam2"], "invalid choice: 'sam2'"),
    ],
)
def test_wrong_usage(rmbg, hub, arguments, expected):
    status, out, error = rmbg("models", *arguments)
    assert (status, out) == (2, "") and expected in error and error.count("\n") == 1


def test_seconds_of_the_last_run(rmbg, hub, tmp_path):
    settings = Settings.from_environ()
    assert listed(rmbg)[0]["birefnet"]["seconds"] is None
    inventory.record_seconds("birefnet", 9.1234, settings)
    inventory.record_seconds("sam2", 3.0, settings)
    written = (settings.data / inventory.SECONDS).stat().st_mtime_ns
    inventory.record_seconds("sam2", 3.3, settings)  # about the same
    assert (settings.data / inventory.SECONDS).stat().st_mtime_ns == written
    assert {name: entry["seconds"] for name, entry in listed(rmbg)[0].items() if entry["seconds"]} == {
        "birefnet": 9.123,
        "sam2": 3.0,
    }
    assert " 9.12\n" in rmbg("models")[1]
    inventory.record_seconds("sam2", 1.5, settings)
    assert listed(rmbg)[0]["sam2"]["seconds"] == 1.5
    (settings.data / inventory.SECONDS).write_text("[1")
    assert listed(rmbg)[0]["sam2"]["seconds"] is None
    inventory.record_seconds("sam2", 1.5, settings)
    assert listed(rmbg)[0]["sam2"]["seconds"] == 1.5
    inventory.record_seconds("sam2", 9.0, Settings(data=tmp_path / "data" / inventory.SECONDS))  # not a folder; ignored
