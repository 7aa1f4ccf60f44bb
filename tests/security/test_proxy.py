"""The server behind nginx with the configuration in docs: root path, uploads, events, limits, metrics and logs."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from tests.mcp_client import with_session
from tests.pictures import scene
from tests.security.server import PATIENCE, Running, Server, free_port, picture
from tests.servers.removebg import RemoveBg
from tests.servers.web import until

ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

KEY = "key-of-the-owner"

#: Limit of an upload in this test, in megabytes.
LIMIT_MB = 3


class Proxied(Running):
    """The server, and nginx in front of it at ``url``."""

    def __init__(self, server: Server, port: int, service: RemoveBg) -> None:
        super().__init__(f"http://127.0.0.1:{port}")
        self.server, self.service = server, service
        self.page = f"http://127.0.0.1:{port}/studio/"

    def entries(self) -> list[dict[str, object]]:
        """Return the entries of the server's log."""
        return [json.loads(line) for line in self.server.log.read_text().splitlines() if line.startswith("{")]


def configuration(folder: Path, port: int, upstream: int) -> str:
    """Return the configuration of the documentation with other ports and folders."""
    text = (ROOT / "docs/nginx.conf").read_text()
    for old, new in (
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("127.0.0.1:7860", f"127.0.0.1:{upstream}"),
        ("server_name studio.example.org;", "server_name _;"),
        ("$host;", "$http_host;"),  # with the port, which is not the default one here
    ):
        assert old in text
        text = text.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return f"""
        daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
        events {{ worker_connections 128; }}
        http {{ access_log off; {temporary} {text} }}
    """


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("proxied")
    port = free_port()
    with RemoveBg() as service:
        env = {
            "REMOVEBG_API_KEY": KEY,
            "RMBG_REMOVEBG_URL": f"{service.url}/v1.0",
            "RMBG_RESULT_HOSTS": "127.0.0.1",
            "RMBG_BATCH_MB": str(LIMIT_MB),
            "RMBG_MAX_BYTES": str(LIMIT_MB * 1_000_000),
            "RMBG_LOG_LEVEL": "info",
            "RMBG_LOG_FORMAT": "json",
        }
        with Server(folder, "--root-path", "/studio", **env) as server:
            (folder / "nginx.conf").write_text(configuration(folder, port, server.port))
            with open(folder / "nginx.log", "wb") as log:
                nginx = subprocess.Popen([str(NGINX), "-p", str(folder), "-c", "nginx.conf"], stderr=log)
            try:
                running = Proxied(server, port, service)
                started = until(lambda: nginx.poll() is not None or _answers(f"{running.page}healthz"), PATIENCE)
                assert started and nginx.poll() is None, (folder / "nginx.log").read_text()
                yield running
            finally:
                nginx.terminate()
                nginx.wait(PATIENCE)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def client(proxied: Proxied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = Client(proxied.page, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))
    yield client
    client.close()


def test_calls_uploads_and_events(proxied, client, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(scene(300, 400)[0]).save(path)
    result = client.predict(image=handle_file(str(path)), api_name="/remove_background")
    with Image.open(result) as cutout:
        assert cutout.size == (400, 300) and cutout.mode == "RGBA"
    job = client.submit(images=[handle_file(str(path))] * 2, api_name="/batch")
    table, _ = job.result(timeout=PATIENCE)
    assert [row["state"] for row in table] == ["done", "done"]
    assert any(file is None for _, file in job.outputs()), "the table is streamed"


def test_mcp(proxied):
    pytest.importorskip("mcp")
    image = {"image": f"data:image/png;base64,{base64.b64encode(picture()).decode()}"}
    result = with_session(f"{proxied.page}gradio_api/mcp/", lambda session: session.call_tool("remove_background", image))
    assert not result.isError, result.content
    assert result.content[1].text.startswith(f"Image URL: {proxied.page}gradio_api/file=")


def test_visitors_are_not_the_owner(proxied, client, tmp_path):
    """The server listens on 127.0.0.1, and the proxy connects from there."""
    path = tmp_path / "photo.png"
    path.write_bytes(picture())
    with pytest.raises(Exception, match="your own key"):
        client.predict(image=handle_file(str(path)), provider="removebg", api_name="/remove_background")
    assert not proxied.service.jobs


def test_urls_have_the_root_path_and_the_name_of_the_proxy(proxied):
    with proxied.client() as http:
        assert http.get("/studio/v1.0/openapi.json").raise_for_status().json()["openapi"] == "3.1.0"
        config = http.get("/studio/config").raise_for_status().json()
        assert config["root"] == proxied.page.rstrip("/")
        # Under https the links are https ones.
        config = http.get("/studio/config", headers={"X-Forwarded-Proto": "http"}).json()
        assert config["root"].startswith("http://")


def test_too_large_upload_gets_a_sentence(proxied):
    with proxied.client() as http:
        response = http.post("/studio/gradio_api/upload", files={"files": ("a.png", b"0" * (LIMIT_MB + 3) * 1_000_000)})
    assert response.status_code == 413 and "Send fewer or smaller photos" in response.json()["detail"]


def test_metrics_are_for_this_machine(proxied, client, tmp_path):
    path = tmp_path / "secret-name.png"
    path.write_bytes(picture())
    client.predict(image=handle_file(str(path)), api_name="/remove_background")
    with proxied.client() as http, proxied.server.client() as local:
        assert http.get("/studio/healthz").json() == {"status": "ok"}
        assert http.get("/studio/metrics").status_code == 404
        assert local.get("/metrics", headers={"X-Forwarded-For": "203.0.113.1"}).status_code == 404, "without the rule of nginx"
        assert local.get("/metrics", headers={"Host": "evil.example", "Origin": "http://evil.example:1"}).status_code == 403
        text = local.get("/metrics").raise_for_status().text
        assert local.get("/healthz", headers={"Host": "10.0.0.1"}).status_code == 200, "as load balancers send it"
    values = dict(re.findall(r"^(rmbg_\w+(?:\{[^}]*\})?) ([0-9.e+-]+)$", text, re.MULTILINE))
    assert float(values['rmbg_removals_total{outcome="done",provider="builtin"}']) >= 1
    assert float(values['rmbg_cost_dollars_total{basis="estimated",provider="builtin"}']) > 0
    assert {"queue", "inference", "post-processing"} <= set(re.findall(r'rmbg_phase_seconds_count\{phase="([\w-]+)"', text))
    assert "rmbg_queue_length" in values and "process_resident_memory_bytes" in text
    assert "secret-name" not in text and "203.0.113" not in text


def test_log_has_calls_without_keys_and_names(proxied, client, tmp_path):
    path = tmp_path / "secret-name.png"
    path.write_bytes(picture())
    before = len(proxied.entries())
    client.predict(image=handle_file(str(path)), api_name="/remove_background")
    calls = [entry for entry in proxied.entries()[before:] if entry["logger"] == "rmbg.calls"]
    assert [(entry["provider"], entry["outcome"]) for entry in calls] == [("builtin", "done")]
    assert calls[0]["basis"] == "estimated" and calls[0]["level"] == "info"
    log = proxied.server.log.read_text()
    assert KEY not in log and "secret-name" not in log
