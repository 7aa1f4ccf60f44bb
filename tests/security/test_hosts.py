"""Host and Origin checks of a private server, over raw sockets and from real web pages."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.processes import python
from tests.security.server import ROOT, Server, picture, raw
from tests.servers.web import Web, until


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("private")) as server:
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Server on all addresses of the machine, with a configured public name."""
    folder = tmp_path_factory.mktemp("shared")
    with Server(folder, "--allow-host", "studio.example.org", host="0.0.0.0") as server:
        yield server


def foreign_names(port: int) -> list[str]:
    return [
        f"localhost.:{port}",
        f"x.localhost:{port}",
        f"rebound.example:{port}",
        f"127.0.0.1.nip.io:{port}",
        f"127.0.0.2:{port}",
        f"2130706433:{port}",
        f"0x7f.0.0.1:{port}",
        f"0.0.0.0:{port}",
        f"[::ffff:127.0.0.1]:{port}",
        f"localhost@rebound.example:{port}",
        f"rebound.example#localhost:{port}",
        "localhost:",
        "localhost:x",
        "",
    ]


@pytest.mark.parametrize("place", range(14))
def test_foreign_host_names_are_rejected(private, place):
    name = foreign_names(private.port)[place]
    for path in ("/", "/config", "/gradio_api/info", "/nothing"):
        status, _, text = private.raw("GET", path, Host=name)
        assert status in (400, 403), (name, path)
        if status == 403:
            assert "--allow-host" in text and text.count("\n") <= 1, "one sentence"
    status, _, _ = private.raw("POST", "/gradio_api/queue/join", b"{}", Host=name, Content_Type="application/json")
    assert status in (400, 403)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "LOCALHOST"])
def test_own_names_are_accepted(private, name):
    assert private.raw("GET", "/", Host=f"{name}:{private.port}")[0] == 200
    assert private.raw("GET", "/config", Host=name)[0] == 200, "a tunnel has another port"
    assert private.raw("GET", "/config", Host=f"{name}:9000", Origin=f"http://{name.lower()}:9000")[0] == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://rebound.example",
        "http://localhost.:{port}",
        "http://x.localhost:{port}",
        "http://localhost:3000",
        "http://127.0.0.1:3000",  # another server of the same machine
        "http://127.0.0.1:{port}.evil.example",
        "http://localhost:{port}",  # the page of the same machine under its other name
        "null",
        "file://",
        "chrome-extension://abcdef",
        "",
    ],
)
def test_foreign_origins_are_rejected(private, origin):
    sent = {"Host": f"127.0.0.1:{private.port}", "Origin": origin.format(port=private.port)}
    body = json.dumps({"data": [], "fn_index": 0, "session_hash": "x"}).encode()
    for path in ("/gradio_api/run/predict", "/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/cancel"):
        status, headers, _ = private.raw("POST", path, body, Content_Type="application/json", **sent)
        assert status == 403, path
        assert "access-control-allow-origin" not in headers
    for method in ("GET", "OPTIONS"):
        status, headers, _ = private.raw(method, "/config", **sent, Access_Control_Request_Method="POST")
        assert status == 403 and "access-control-allow-origin" not in headers


def test_cross_site_requests_without_origin_are_rejected(private):
    """Requests of images and scripts have no Origin header; browsers mark them in Sec-Fetch-Site."""
    for site in ("cross-site", "same-site"):
        sent = {"Host": f"localhost:{private.port}", "Sec_Fetch_Site": site}
        assert private.raw("GET", "/config", **sent, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="script")[0] == 403
        assert private.raw("GET", "/", **sent, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")[0] == 200, "a link"
        assert private.raw("GET", "/", **sent, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe")[0] == 403


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", None]
)
def test_state_changing_requests_must_be_json(private, kind):
    body = json.dumps({"data": [], "fn_index": 0, "session_hash": "x"}).encode()
    sent = {} if kind is None else {"Content_Type": kind}
    for path in ("/gradio_api/run/predict", "/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/component_server"):
        status, _, text = private.raw("POST", path, body, Host=f"127.0.0.1:{private.port}", **sent)
        assert status in (404, 415), path
        assert status == 404 or "application/json" in text
    for method in ("PUT", "PATCH", "DELETE"):
        assert private.raw(method, "/gradio_api/cancel", body, Host=f"127.0.0.1:{private.port}", **sent)[0] in (404, 405, 415)


def test_uploads_must_be_multipart(private):
    assert private.raw("POST", "/gradio_api/upload", b"{}", Host="localhost", Content_Type="application/json")[0] == 415
    assert private.upload().endswith("photo.png")


def test_websockets_are_rejected(private):
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "x" * 22 + "==",
    }
    for name in ("rebound.example", "localhost"):
        assert private.raw("GET", "/gradio_api/queue/join", Host=name, **upgrade)[0] in (400, 403, 404, 405)


def test_public_server_accepts_its_names(shared):
    for name in ("studio.example.org", "studio.example.org:443", f"localhost:{shared.port}", f"127.0.0.1:{shared.port}"):
        assert shared.raw("GET", "/config", Host=name)[0] == 200, name
    for name in ("rebound.example", "x.studio.example.org", "studio.example.org."):
        assert shared.raw("GET", "/config", Host=name)[0] == 403, name
    for origin in ("https://studio.example.org", "http://studio.example.org:8443"):
        assert shared.raw("GET", "/config", Host="localhost", Origin=origin)[0] == 200, origin
    assert shared.raw("GET", "/config", Host="studio.example.org", Origin="https://evil.example")[0] == 403


def own_address() -> str | None:
    """Return a non-loopback address of this machine, without sending a packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


def test_public_server_accepts_the_address_of_the_connection(shared):
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    import httpx

    with httpx.Client(trust_env=False, timeout=60) as client:
        assert client.get(f"http://{address}:{shared.port}/config").status_code == 200


def test_a_public_server_without_names_accepts_all_but_foreign_origins(tmp_path):
    with Server(tmp_path, host="0.0.0.0") as server:
        assert server.raw("GET", "/config", Host="whatever.example")[0] == 200
        assert server.raw("GET", "/config", Host="whatever.example", Origin="https://whatever.example")[0] == 200
        assert server.raw("GET", "/config", Host="whatever.example", Origin="https://evil.example")[0] == 403
        proxied = {"Host": "127.0.0.1:9", "X_Forwarded_Host": "whatever.example", "Origin": "https://whatever.example"}
        assert server.raw("GET", "/config", **proxied)[0] == 200


def test_hosts_of_the_environment_are_accepted(tmp_path):
    with Server(tmp_path, entry=("app.py",), RMBG_ALLOW_HOSTS="studio.test, [2001:db8::1]:8080") as server:
        assert server.raw("GET", "/config", Host="studio.test")[0] == 200
        assert server.raw("GET", "/config", Host="[2001:db8::1]:8080")[0] == 200
        assert server.raw("GET", "/config", Host="evil.test")[0] == 403


@pytest.mark.parametrize("name", ["http://studio.example.org/", "studio.example.org:0"])
def test_invalid_host_is_wrong_usage(name):
    command = python("-m", "rmbg", "serve", "--allow-host", name)
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and "Traceback" not in ran.stderr, ran.stderr


def test_unknown_address_is_not_reported_as_a_port_error():
    command = python("-m", "rmbg", "serve", "--host", "256.1.1.1")
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 1
    assert "256.1.1.1" in ran.stderr and "port" not in ran.stderr and ran.stderr.count("\n") == 1, ran.stderr


def test_port_in_use_is_reported():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = python("-m", "rmbg", "serve", "--port", port)
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 1 and str(port) in ran.stderr and ran.stderr.count("\n") == 1, ran.stderr


@pytest.fixture
def browser(chromium: Any) -> Any:
    """Chromium, which resolves every name under ``example`` to this machine, as DNS rebinding does."""
    return chromium


@pytest.mark.browser
@pytest.mark.parametrize("name", ["rebound.example", "x.localhost", "localhost."])
def test_rebound_name_does_not_open_the_page(private, browser, name):
    context = browser.new_context()
    page = context.new_page()
    response = page.goto(f"http://{name}:{private.port}/")
    assert response.status == 403
    assert "Host" in page.content()
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize("name", ["127.0.0.1", "x.localhost", "rebound.example"])
def test_foreign_page_reaches_no_handler(private, browser, name):
    """A page of another site sends the requests that need no CORS preflight: text, forms, images."""
    target = f"http://{name}:{private.port}"
    script = f"""
      const body = JSON.stringify({{session_hash: "stolen", fn_index: 0, data: []}});
      const tries = [];
      for (const path of ["/gradio_api/run/predict", "/gradio_api/queue/join"])
        for (const type of ["text/plain", "application/json"])
          for (const mode of ["no-cors", "cors"])
            tries.push(fetch("{target}" + path, {{method: "POST", mode, headers: {{"Content-Type": type}}, body}})
              .then(r => r.type + r.status, e => "failed"));
      tries.push(fetch("{target}/config").then(r => "read" + r.status, e => "failed"));
      Promise.all(tries).then(all => document.title = "done " + all.join(" "));
    """
    page_text = f"<!doctype html><title>wait</title><script>{script}</script>".encode()
    with Web({"/": lambda exchange: exchange.send(200, page_text, "text/html")}) as web:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://attacker.example:{web.port}/")
        assert until(lambda: page.title().startswith("done"), 60)
        assert "read" not in page.title(), "the answer was shown to a foreign page"
        context.close()
    # A request that had reached its handler would have created the session, which a deep link would open.
    with private.client() as client:
        deep = client.get("/gradio_api/deep_link", params={"session_hash": "stolen"})
    assert deep.status_code == 404 or deep.text.strip('"') == ""


@pytest.mark.browser
def test_foreign_page_cannot_frame_the_app(private, browser):
    frame = f'<!doctype html><iframe src="http://localhost:{private.port}/"></iframe>'.encode()
    with Web({"/": lambda exchange: exchange.send(200, frame, "text/html")}) as web:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://attacker.example:{web.port}/")
        page.wait_for_timeout(3000)
        assert all(child.query_selector("#photo") is None for child in page.frames if child is not page.main_frame)
        context.close()


@pytest.mark.browser
def test_own_page_works_in_a_browser(private, browser):
    context = browser.new_context()
    page = context.new_page()
    failed: list[str] = []
    page.on("response", lambda r: failed.append(f"{r.status} {r.url}") if r.status in (403, 413, 415, 429) else None)
    page.goto(f"http://localhost:{private.port}/")
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=60_000)
    page.set_input_files("#photo input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": picture()})
    page.click("#start")
    page.wait_for_selector("#result .viewer:not(.empty) img", timeout=120_000)
    page.wait_for_selector("#save:not([disabled])", timeout=60_000)
    with page.expect_download(timeout=60_000) as download:
        page.click("#save")
    assert download.value.suggested_filename == "a-cutout.png"
    assert failed == []
    context.close()


def test_headers(private):
    for path in ("/", "/config", "/gradio_api/info", "/theme.css", "/nothing"):
        _, headers, _ = raw(private.port, "GET", path)
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_hub_may_frame_a_space(tmp_path):
    with Server(tmp_path, entry=("app.py",), SPACE_ID="someone/studio", SPACE_HOST="someone-studio.hf.space") as server:
        _, headers, _ = server.raw("GET", "/", Host="someone-studio.hf.space")
        assert "x-frame-options" not in headers
        assert "frame-ancestors 'self' https://huggingface.co" in headers["content-security-policy"]
        sent = {"Host": "10.0.0.7:7860", "Origin": "https://someone-studio.hf.space"}
        assert server.raw("GET", "/config", **sent)[0] == 200
        assert server.raw("GET", "/config", Host="10.0.0.7:7860", Origin="https://other.hf.space")[0] == 403


def test_server_paths_are_not_disclosed(private):
    for path in ("/config", "/"):
        _, _, text = raw(private.port, "GET", path)
        assert str(private.temporary) not in text and str(ROOT) not in text, path
