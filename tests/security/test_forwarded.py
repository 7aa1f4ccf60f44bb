"""Keys of a private server are not available to requests through a reverse proxy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.server import Running, Server
from tests.servers.removebg import RemoveBg

PROXIED = [
    {"X_Forwarded_For": "203.0.113.7"},
    {"X_Forwarded_Host": "localhost"},
    {"X_Forwarded_Proto": "https"},
    {"X_Real_IP": "203.0.113.7"},
    {"Forwarded": "for=203.0.113.7"},
    {"CF_Connecting_IP": "203.0.113.7"},
    {"Via": "1.1 proxy"},
]


def remove(server: Running, path: str, **headers: str) -> str:
    """Call the API with these headers and return the response as text."""
    image = {"path": path, "orig_name": "photo.png", "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [image, "removebg", "transparent", False, "png"]}).encode()
    sent = {"Host": f"127.0.0.1:{server.port}", "Content_Type": "application/json", **headers}
    status, _, text = server.raw("POST", "/gradio_api/call/remove_background", body, **sent)
    if status != 200:
        return text
    event = json.loads(text)["event_id"]
    return server.raw("GET", f"/gradio_api/call/remove_background/{event}", Host=f"127.0.0.1:{server.port}")[2]


@pytest.fixture
def private(app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Running, RemoveBg]]:
    """The app as a private server with a key, and the service."""
    with RemoveBg() as service:
        key = {"REMOVEBG_API_KEY": service.key, "RMBG_REMOVEBG_URL": f"{service.url}/v1.0"}
        for name, value in {**key, "RMBG_RESULT_HOSTS": "127.0.0.1", "RMBG_DATA": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RMBG_SHARED", "")  # recorded, so that the value set by the server is removed after the test
        monkeypatch.delenv("RMBG_SHARED")
        yield Running(app), service


@pytest.mark.parametrize("proxied", PROXIED, ids=lambda headers: next(iter(headers)))
def test_server_keys_are_refused_behind_a_proxy(private, proxied):
    server, service = private
    path = server.upload()
    answer = remove(server, path, **proxied)
    assert "your own key" in answer, answer
    assert service.jobs == []
    if proxied is PROXIED[0]:
        assert "your own key" in remove(server, path), "and from then on"


def test_server_keys_are_used_without_a_proxy(tmp_path):
    with RemoveBg() as service:
        env = {"REMOVEBG_API_KEY": service.key, "RMBG_REMOVEBG_URL": f"{service.url}/v1.0"}
        with Server(tmp_path, **env, RMBG_RESULT_HOSTS="127.0.0.1") as server:
            assert "complete" in remove(server, server.upload())
            assert len(service.jobs) == 1


def test_server_keys_can_be_enabled_behind_a_proxy(tmp_path):
    with RemoveBg() as service:
        env = {"REMOVEBG_API_KEY": service.key, "RMBG_REMOVEBG_URL": f"{service.url}/v1.0", "RMBG_SHARED": "0"}
        with Server(tmp_path, **env, RMBG_RESULT_HOSTS="127.0.0.1") as server:
            assert "complete" in remove(server, server.upload(), **PROXIED[0])
            assert len(service.jobs) == 1


def test_configured_host_name_works_behind_a_proxy(tmp_path):
    with RemoveBg() as service:
        env = {"REMOVEBG_API_KEY": service.key, "RMBG_REMOVEBG_URL": f"{service.url}/v1.0"}
        with Server(tmp_path, "--allow-host", "studio.example.org", **env, RMBG_RESULT_HOSTS="127.0.0.1") as server:
            assert "your own key" in remove(server, server.upload())
            assert service.jobs == []
