"""Guards, downloads, queue and disconnects of remove.bg's API, and its clients."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from rmbg import remove_background
from rmbg.errors import ServiceError
from rmbg.matting.matte import to_bytes
from rmbg.rest import app
from rmbg.rest.app import Call, Machine
from rmbg.rest.removebg import Answer
from rmbg.rest.result import answer
from rmbg.settings import Settings
from rmbg.ui.lanes import LOCAL
from tests.remote import environment
from tests.rest.conftest import HEIGHT, PHOTO, WIDTH, error, pixels
from tests.security.server import Server
from tests.servers.removebg import RemoveBg
from tests.servers.web import Exchange, Web, until

#: Limit of a photo on the servers of these tests in bytes.
MAX_BYTES = 1_000_000

JSON = {"Content_Type": "application/json"}


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("private"), RMBG_MAX_BYTES=str(MAX_BYTES)) as server:
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("shared"), RMBG_SHARED="1", RMBG_MAX_BYTES=str(MAX_BYTES)) as server:
        yield server


@pytest.fixture
def web(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server on this machine, from which the app may load photos."""
    routes = {
        "/photo.png": lambda x: x.send(200, PHOTO, "image/png"),
        "/page": lambda x: x.send(200, b"<!doctype html>", "text/html"),
    }
    with Web(routes) as server:
        monkeypatch.setenv("RMBG_PHOTO_HOSTS", f"127.0.0.1:{server.port}")
        yield server


def body(**fields: Any) -> bytes:
    return json.dumps({"image_file_b64": base64.b64encode(PHOTO).decode(), **fields}).encode()


def start(url: str, sent: bytes | None = None) -> socket.socket:
    """Send a request, with the photo by default, and return its connection without reading the response."""
    connection = socket.create_connection(("127.0.0.1", urlsplit(url).port or 80), timeout=60)
    sent = sent or body()
    head = f"POST /v1.0/removebg HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
    return connection


def test_foreign_hosts_and_origins_are_refused(private):
    own = {"Host": f"127.0.0.1:{private.port}"}
    assert private.raw("POST", "/v1.0/removebg", body(), **own, **JSON)[0] == 200
    assert private.raw("POST", "/v1.0/removebg", body(), **own, **JSON, Origin=private.url)[0] == 200
    for headers in (
        {"Host": f"rebound.example:{private.port}"},
        own | {"Origin": "http://evil.example"},
        own | {"Origin": "null"},
        own | {"Sec_Fetch_Site": "cross-site"},
    ):
        for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            status, sent, text = private.raw("POST", "/v1.0/removebg", body(), **headers, Content_Type=kind)
            assert status == 403 and "access-control-allow-origin" not in sent
            assert json.loads(text)["errors"][0]["title"]
        for path in ("/v1.0/account", "/v1.0/openapi.json"):
            assert private.raw("GET", path, **headers)[0] == 403


def test_large_bodies_are_refused_before_they_are_read(private):
    with socket.create_connection(("127.0.0.1", private.port), timeout=60) as connection:
        head = f"POST /v1.0/removebg HTTP/1.1\r\nHost: 127.0.0.1:{private.port}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {4 * MAX_BYTES}\r\n\r\n".encode())
        answer = connection.recv(65536).decode()  # nothing of the body was sent
    assert answer.startswith("HTTP/1.1 413")
    with private.client() as client:
        response = client.post(
            "/v1.0/removebg", content=iter([bytes(MAX_BYTES)] * 4), headers={"Content-Type": "application/json"}
        )
    assert error(response) == (413, "file_too_large")


def test_limit_of_a_file_is_below_that_of_the_body(private):
    with private.client() as client:
        response = client.post("/v1.0/removebg", files={"image_file": bytes(MAX_BYTES + 1)})
    assert error(response) == (400, "file_too_large")


def test_shared_servers_refuse_clients_without_a_key(shared):
    with shared.client() as client:
        for response in (
            client.post("/v1.0/removebg", files={"image_file": PHOTO}),
            client.post("/v1.0/removebg", files={"image_file": PHOTO}, headers={"X-Api-Key": "guessed"}),
            client.post("/v1.0/improve", files={"image_file": PHOTO}),
            client.get("/v1.0/account"),
        ):
            assert error(response) == (403, "auth_failed")
            assert response.json()["errors"][0]["detail"].count(".") == 1
        assert client.get("/v1.0/openapi.json").status_code == 200


def test_calls_of_a_network_are_limited_on_a_shared_server(shared):
    with shared.client() as client:
        response = next(found for _ in range(400) if (found := client.post("/v1.0/removebg", content=b"")).status_code != 403)
    assert error(response) == (429, "rate_limit_exceeded") and int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("field", ["image_url", "bg_image_url"])
def test_urls(client, web, field):
    fields = {field: f"{web.url}/photo.png"} | ({"image_file_b64": base64.b64encode(PHOTO).decode()} if "bg" in field else {})
    assert pixels(client.post("/v1.0/removebg", data=fields)).shape[:2] == (HEIGHT, WIDTH)
    code = "failed_bg_download" if "bg" in field else "failed_image_download"
    assert error(client.post("/v1.0/removebg", data=fields | {field: f"{web.url}/missing"})) == (400, code)
    assert error(client.post("/v1.0/removebg", data=fields | {field: f"{web.url}/page"})) == (400, "invalid_file_type")


@pytest.mark.parametrize("field", ["image_url", "bg_image_url"])
def test_private_addresses_are_refused(client, web, field, disc):
    others = Web({"/photo.png": lambda x: x.send(200, PHOTO, "image/png")})

    def redirect(exchange: Exchange) -> None:
        exchange.send(302, Location=f"{others.url}/photo.png")

    web.routes["/redirect"] = redirect
    code = "failed_bg_download" if "bg" in field else "failed_image_download"
    with others:
        for url in (
            f"{others.url}/photo.png",
            f"{others.url.replace('127.0.0.1', 'localhost')}/photo.png",
            f"http://[::ffff:127.0.0.1]:{others.port}/photo.png",
            "http://10.0.0.1/photo.png",
            "http://169.254.169.254/latest/meta-data",
            f"{web.url}/redirect",
        ):
            fields = {"image_file_b64": base64.b64encode(PHOTO).decode()} if "bg" in field else {}
            assert error(client.post("/v1.0/removebg", data=fields | {field: url})) == (400, code), url
        assert not others.seen and not disc.calls


def test_full_queue_is_answered_at_once(client, remove, disc, monkeypatch):
    monkeypatch.setattr("rmbg.ui.lanes.MAX_WAITING", 1)
    disc.seconds = 600
    connections = [start(str(client.base_url)) for _ in range(5)]
    try:
        assert until(lambda: len(disc.calls) == 4 and LOCAL.waiting == 1, 60)
        response = remove()
        assert error(response) == (429, "rate_limit_exceeded") and response.headers["retry-after"] == "10"
    finally:
        for connection in connections:
            connection.close()
    assert until(lambda: disc._concurrent == LOCAL.waiting == 0, 60)
    disc.seconds = 0
    assert remove().status_code == 200


def test_disconnect_cancels_the_call(client, disc):
    disc.seconds = 600
    with start(str(client.base_url)):
        assert until(lambda: disc._concurrent == 1, 60)
    assert until(lambda: disc._concurrent == 0, 60)


def test_disconnect_cancels_a_download(client, disc, monkeypatch):
    begun, ended = threading.Event(), []

    def endless(url: str, *, cancelled: Any, **limits: Any) -> bytes:
        begun.set()
        ended.append(until(cancelled, 60))
        raise ServiceError("Stopped.")

    monkeypatch.setattr("rmbg.rest.app.fetch", endless)
    with start(str(client.base_url), json.dumps({"image_url": "https://example.com/a.png"}).encode()):
        assert begun.wait(60)
    assert until(lambda: ended == [True], 60)
    assert not disc.calls


def test_paid_provider_uses_the_owners_key_and_keeps_its_result(client, remove, tmp_path, monkeypatch):
    with RemoveBg() as service:
        for name, value in environment(service, tmp_path, RMBG_MAX_BYTES="40_000_000").items():
            monkeypatch.setenv(name, value)
        assert pixels(remove(rmbg_provider="removebg")).shape == (HEIGHT, WIDTH, 4)
        assert len(service.jobs) == 1
        # The encoder fails after the call was paid.
        monkeypatch.setattr("rmbg.rest.app.answer", lambda *_, **__: 1 / 0)
        assert error(remove(rmbg_provider="removebg"))[0] == 500
        assert len(list((tmp_path / "recovered").glob("*.png"))) == 1
        monkeypatch.setenv("REMOVEBG_API_KEY", "wrong")
        response = remove(rmbg_provider="removebg")
        assert error(response) == (502, "provider_failed") and "rejected the API key" in response.text


def test_paid_result_of_a_client_that_has_disconnected_is_kept(client, tmp_path, monkeypatch):
    tokens, rendering, original = [], threading.Event(), app._made

    def made(data: bytes, backdrop: bytes | None, call: Call, machine: Machine) -> Answer:
        tokens.append(call.token)
        return original(data, backdrop, call, machine)

    def late(*arguments: Any, **options: Any) -> Answer:
        rendering.set()
        assert until(tokens[0].cancelled, 60)
        return answer(*arguments, **options)

    monkeypatch.setattr(app, "_made", made)
    monkeypatch.setattr(app, "answer", late)
    with RemoveBg() as service:
        for name, value in environment(service, tmp_path).items():
            monkeypatch.setenv(name, value)
        with start(str(client.base_url), body(rmbg_provider="removebg")):
            assert rendering.wait(60)
        assert until(lambda: len(list((tmp_path / "recovered").glob("*.png"))) == 1, 60)


@pytest.mark.parametrize("channels", ["rgba", "alpha"])
def test_own_provider_gets_the_matte_of_a_direct_call(app, channels, tmp_path):
    environ = {"RMBG_REMOVEBG_URL": f"{app}/v1.0", "REMOVEBG_API_KEY": "none", "RMBG_DATA": str(tmp_path)}
    settings = Settings.from_environ(environ)
    cutout = remove_background(PHOTO, "removebg", {"channels": channels}, settings=settings)
    assert (to_bytes(cutout.matte) == to_bytes(remove_background(PHOTO, "builtin").matte)).all()
    assert cutout.cost.usd == 0


def test_published_package(client, web, tmp_path, monkeypatch):
    removebg = pytest.importorskip("removebg.removebg")
    monkeypatch.setattr(removebg, "API_ENDPOINT", f"{client.base_url}/v1.0/removebg")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(PHOTO)
    package = removebg.RemoveBg("none", "errors.log")
    package.remove_background_from_img_file("photo.png", bg_color="00f")
    package.remove_background_from_img_url(f"{web.url}/photo.png", new_file_name="url.png")
    package.remove_background_from_base64_img(base64.b64encode(PHOTO).decode(), new_file_name="base64.png")
    assert Image.open("photo.png_no_bg.png").mode == "RGB"
    assert (np.asarray(Image.open("url.png")) == np.asarray(Image.open("base64.png"))).all()
    assert Image.open("url.png").mode == "RGBA"
    with pytest.raises(Exception, match="400"):
        package.remove_background_from_base64_img("", new_file_name="none.png")
    assert not (tmp_path / "none.png").exists()
