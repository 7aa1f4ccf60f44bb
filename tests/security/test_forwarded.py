"""Keys of a private server are not available to requests through a reverse proxy."""

from __future__ import annotations

import json

import pytest

from tests.security.server import Server
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


def remove(server: Server, path: str, **headers: str) -> str:
    """Call the API with these headers and return the response as text."""
    image = {"path": path, "orig_name": "photo.png", "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [image, "removebg", "transparent", False, "png"]}).encode()
    sent = {"Host": f"127.0.0.1:{server.port}", "Content_Type": "application/json", **headers}
    status, _, text = server.raw("POST", "/gradio_api/call/remove_background", body, **sent)
    if status != 200:
        return text
    event = json.loads(text)["event_id"]
    return server.raw("GET", f"/gradio_api/call/remove_background/{event}", Host=f"127.0.0.1:{server.port}")[2]


@pytest.mark.parametrize("proxied", PROXIED, ids=lambda headers: next(iter(headers)))
def test_server_keys_are_refused_behind_a_proxy(tmp_path, proxied):
    with RemoveBg() as service:
        env = {"REMOVEBG_API_KEY": service.key, "RMBG_REMOVEBG_URL": f"{service.url}/v1.0"}
        with Server(tmp_path, **env, RMBG_RESULT_HOSTS="127.0.0.1") as server:
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
