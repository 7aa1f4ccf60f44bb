"""Hostile requests to remove.bg's API of a shared server: bodies, pictures, URLs, keys, paths and fields."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from rmbg.billing.client_keys import ClientKeys
from rmbg.rest.app import MAX_FIELDS
from rmbg.settings import Settings
from rmbg.ui.guard.limits import CALLS_AT_ONCE
from tests.processes import with_constants
from tests.rest.conftest import error
from tests.security import picture_bombs as bombs
from tests.security.server import Server, picture
from tests.security.test_slow_clients import connected, ending
from tests.servers.service import bomb
from tests.servers.web import Web

#: Limit of a photo in bytes, and deadline of a body in seconds.
MAX_BYTES, GRACE = 1_000_000, 3

KINDS = {
    "multipart": ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'),
    "JSON": ("application/json", b'{"image_file_b64": "'),
    "urlencoded": ("application/x-www-form-urlencoded", b"image_file_b64="),
}

PHOTO = picture()

#: Calls with local providers at a time.
CALLS = 4

#: Of the networks of the tests.
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    constants = with_constants(ui__guard__body__GRACE_SECONDS=GRACE)
    folder = tmp_path_factory.mktemp("server")
    options = {"RMBG_SHARED": "1", "RMBG_MAX_BYTES": str(MAX_BYTES), "RMBG_LOG_LEVEL": "info"}
    with Server(folder, entry=(*constants, "serve"), **options) as server:
        yield server
        assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return key_of(server)


def key_of(server: Server) -> str:
    return ClientKeys(Settings.from_environ(server.env)).create("acme")


@pytest.fixture
def client(server: Server, key: str) -> Iterator[httpx.Client]:
    """A client with a key, in a network of its own."""
    with server.client(**{"X-Api-Key": key, "X-Forwarded-For": f"203.0.113.{next(NUMBERS)}"}) as client:
        yield client


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_bodies_are_refused_before_their_end(server, key, kind, framing):
    content_type, start = KINDS[kind]
    frame = f"Content-Length: {4 * MAX_BYTES}" if framing == "length" else "Transfer-Encoding: chunked"
    client = connected(server, head(server, key, content_type, frame))
    if framing == "chunked":
        sent = start + b"A" * 4 * MAX_BYTES
        client.sendall(f"{len(sent):x}\r\n".encode() + sent + b"\r\n")  # the last chunk is missing
    answer = b""
    while b"file_too_large" not in answer:
        received = client.recv(65_536)
        assert received, answer
        answer += received
    assert answer.startswith(b"HTTP/1.1 413")
    client.close()


def test_bodies_that_do_not_arrive_are_refused(server, key):
    clients = [connected(server, head(server, key, kind, "Content-Length: 1000") + start) for kind, start in KINDS.values()]
    for client in clients:
        answer = ending(client)
        assert answer.count(b"HTTP/1.1") == 1 and answer.startswith(b"HTTP/1.1 408"), answer
        client.close()


def head(server: Server, key: str, content_type: str, *more: str) -> bytes:
    lines = ["POST /v1.0/removebg HTTP/1.1", f"Host: 127.0.0.1:{server.port}", f"X-Api-Key: {key}"]
    return "\r\n".join([*lines, f"Content-Type: {content_type}", *more, "", ""]).encode()


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        (bomb(), {"resolution_too_high"}),
        (bombs.jpeg(3000), {"failed_to_read_image"}),
        (bombs.jpeg(header=b"\xff" * 700_000), {"failed_to_read_image"}),
        (PHOTO[: len(PHOTO) // 2], {"failed_to_read_image"}),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), {"failed_to_read_image", "invalid_file_type"}),
    ],
    ids=["pixels", "scans", "padding", "half", "zeros"],
)
def test_picture_bombs_and_damaged_pictures_are_one_error(client, data, codes):
    photo = ("photo.png", PHOTO)
    for files in (
        {"image_file": ("a", data)},
        {"image_file_b64": (None, base64_of(data))},
        {"image_file": photo, "bg_image_file": ("a", data)},
    ):
        response = client.post("/v1.0/removebg", files=files)
        status, code = error(response)
        assert status == 400 and code in codes and len(response.content) < 1000, response.text
    assert client.post("/v1.0/removebg", files={"image_file": photo}).status_code == 200


@pytest.mark.parametrize("field", ["image_url", "bg_image_url"])
def test_urls_of_other_forms_are_refused_without_a_connection(client, field):
    with Web({"/a.png": lambda exchange: exchange.send(200, PHOTO, "image/png")}) as web:
        download = "failed_bg_download" if field == "bg_image_url" else "failed_image_download"
        for url, code in (
            (f"http://2130706433:{web.port}/a.png", download),
            (f"http://0x7f.1:{web.port}/a.png", download),
            (f"http://[::1]:{web.port}/a.png", download),
            (f"http://0.0.0.0:{web.port}/a.png", download),
            ("http://[fd00:ec2::254]/latest/meta-data", download),
            ("http://metadata.google.internal/computeMetadata/v1/", download),
            (f"http://user:password@127.0.0.1:{web.port}/a.png", f"invalid_{field}"),
            (f"http://example.com@127.0.0.1:{web.port}/a.png", f"invalid_{field}"),
            ("file:///etc/passwd", f"invalid_{field}"),
            ("data:image/png;base64,AAAA", f"invalid_{field}"),
            (f"http://127.0.0.1:{web.port}/a.png\0", f"invalid_{field}"),
        ):
            photo = {} if field == "image_url" else {"image_file_b64": base64_of(PHOTO)}
            assert error(client.post("/v1.0/removebg", data={**photo, field: url})) == (400, code), url
        assert not web.seen


def test_redirects_to_private_addresses_are_refused(tmp_path):
    """Only the first of two servers on this machine is one from which photos may be loaded."""
    with Web() as web, Web({"/a.png": lambda exchange: exchange.send(200, PHOTO, "image/png")}) as other:
        targets = (
            f"{other.url}/a.png",
            "file:///etc/passwd",
            f"http://a:b@127.0.0.1:{web.port}/a.png",
            "http://169.254.169.254/",
        )
        for number, target in enumerate(targets):
            web.routes[f"/{number}"] = lambda exchange, target=target: exchange.send(302, Location=target)
        with Server(tmp_path, RMBG_PHOTO_HOSTS=f"127.0.0.1:{web.port}") as server, server.client() as client:
            for number in range(len(targets)):
                for field, code in (("image_url", "failed_image_download"), ("bg_image_url", "failed_bg_download")):
                    photo = {} if field == "image_url" else {"image_file_b64": base64_of(PHOTO)}
                    response = client.post("/v1.0/removebg", data={**photo, field: f"{web.url}/{number}"})
                    assert error(response) == (400, code), response.text
        assert len(web.seen) == 2 * len(targets) and not other.seen


def test_a_thousand_wrong_keys(server, key):
    wrong = [f"{key[:-4]}{number:04d}" for number in range(1000)]
    with server.client() as client:
        for number, guess in enumerate(wrong):
            address = f"198.51.100.{number // (CALLS_AT_ONCE - 50)}"
            response = client.post("/v1.0/removebg", headers={"X-Api-Key": guess, "X-Forwarded-For": address})
            assert error(response) == (403, "auth_failed"), response.text
        response = client.post("/v1.0/removebg", files={"image_file": PHOTO}, headers={"X-Api-Key": key})
        assert response.status_code == 200
    assert key[:-4] not in server.log.read_text()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_wrong_keys_of_a_network_are_limited_on_all_routes(server, method):
    path = "/v1.0/account" if method == "GET" else "/v1.0/removebg"
    with server.client(**{"X-Api-Key": "guessed", "X-Forwarded-For": f"192.0.2.{len(method)}"}) as client:
        statuses = [client.request(method, path).status_code for _ in range(2 * CALLS_AT_ONCE)]
    assert set(statuses) == {405 if method == "PUT" else 403, 429}


def test_other_paths_and_methods_are_not_routes(client):
    photo = {"image_file_b64": base64_of(PHOTO)}
    for path in (
        "/v1.0//removebg",
        "/v1.0/removebg/",
        "/v1.0/./x/removebg",
        "/V1.0/removebg",
        "/v1.0/removebg%00",
        "/v1.0%2f..%2fremovebg",
        "/v1.0/removebg;a",
        "/v1.0/removebg%0a",
        "/gradio_api/v1.0/removebg",
        "/gradio_api/mcp/v1.0/removebg",  # a route of Gradio, which does not count as a call
        "/gradio_api/run/v1.0/removebg",
        "/x/gradio_api/mcp/v1.0/removebg",
    ):
        response = client.post(path, json=photo)
        assert response.status_code in (404, 405) and "x-credits-charged" not in response.headers, (path, response.status_code)
    for path in ("/gradio_api/file=/v1.0/account", "/gradio_api/file=x/v1.0/account"):
        assert "credits" not in client.get(path).text, path
    assert client.post("/x/v1.0/removebg", json=photo).status_code == 200, "a proxy may add a prefix"
    for method in ("HEAD", "OPTIONS", "TRACE", "DELETE"):
        response = client.request(method, "/v1.0/removebg", headers={"Access-Control-Request-Method": "POST"})
        assert response.status_code == 405 and not any(name.startswith("access-control") for name in response.headers)


def test_fields_cannot_add_headers(client):
    for name in ("type", "type_level", "bg_color", "format", "size", "rmbg_provider", "roi", "crop_margin"):
        for text in ("car\r\nX-Evil: 1", "car\nX-Evil: 1", "car\0", "\ud800"):
            body = json.dumps({"image_file_b64": base64_of(PHOTO), name: text})
            response = client.post("/v1.0/removebg", content=body, headers={"Content-Type": "application/json"})
            assert error(response) == (400, f"invalid_{name}") and "x-evil" not in response.headers, response.text


def test_unusual_fields(client):
    photo = {"image_file_b64": base64_of(PHOTO)}
    for body, status in (
        ({"data": photo | {"x" * 500_000: "1"}}, 200),
        ({"json": photo | {"x" * 500_000: "1"}}, 200),
        ({"files": {"image_file": PHOTO, "x" * 5000: b"1"}}, 400),
        ({"data": {f"x{number}": "1" for number in range(10_000)} | photo}, 400),
        ({"json": {f"x{number}": "1" for number in range(10_000)} | photo}, 200),
        ({"files": {f"x{number}": (None, "1") for number in range(MAX_FIELDS + 1)}}, 400),
        ({"files": [("image_file", PHOTO)] * 5}, 400),
        ({"files": [("image_file", b"no picture"), ("image_file", PHOTO)]}, 200),
        ({"data": {**photo, "size": ["bad", "preview"]}}, 200),
        ({"data": {**photo, "size\0": "bad"}}, 200),
        ({"data": {"image_file_b64": "\0"}}, 400),
        ({"json": {**photo, "shadow_opacity": 10**400}}, 400),
        ({"json": {**photo, "rmbg_quality": 10**400}}, 400),
        ({"json": {**photo, "rmbg_quality": 1.5}}, 400),
    ):
        response = client.post("/v1.0/removebg", **body)
        assert response.status_code == status, (list(body), response.text)
        assert status == 200 or error(response)
    for text in ("NaN", "Infinity", "1e999", "-0.0001"):
        body = f'{{"image_file_b64": "{photo["image_file_b64"]}", "shadow_opacity": {text}}}'
        response = client.post("/v1.0/removebg", content=body, headers={"Content-Type": "application/json"})
        assert error(response) == (400, "invalid_shadow_opacity"), text


def test_zip_of_a_photo_without_a_subject_is_an_error(client):
    black = io.BytesIO()
    Image.new("RGB", (50, 50)).save(black, "PNG")
    for fields in ({}, {"channels": "alpha"}, {"bg_color": "red"}):
        response = client.post("/v1.0/removebg", files={"image_file": black.getvalue()}, data={"format": "zip", **fields})
        assert error(response) == (400, "unknown_foreground")


def test_interleaved_requests_get_their_own_pictures(server, key):
    """Each photo has another size and color. As many are sent at a time as may wait for one key."""

    def send(number: int) -> None:
        color, size = (5 * number, 255 - 5 * number, 40), (60 + 2 * number, 50 + 3 * number)
        pixels = np.full((size[1], size[0], 3), 230, np.uint8)
        pixels[15:-15, 15:-15] = color
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        with server.client(**{"X-Api-Key": key, "X-Forwarded-For": f"198.51.101.{number}"}) as client:
            response = client.post("/v1.0/removebg", files={"image_file": out.getvalue()}, data={"format": "png"})
        assert response.status_code == 200, response.text
        result = Image.open(io.BytesIO(response.content))
        assert result.size == size
        middle = np.asarray(result)[size[1] // 2, size[0] // 2]
        assert np.abs(middle[:3].astype(int) - color).max() < 12 and middle[3] == 255, (number, middle)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(send, range(24)))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_memory_of_concurrent_uploads_is_bounded(tmp_path, monkeypatch):
    """That of one call at full size, and of each other call that runs at the same time twice its decoded photo and its body."""
    width, height, count = 6000, 4000, 32
    out = io.BytesIO()
    Image.open(io.BytesIO(picture(400, 600))).resize((width, height)).save(out, "JPEG", quality=70)
    monkeypatch.setattr("tests.processes.FORK", False)  # the process of the server is the one that is started
    with Server(tmp_path, RMBG_SHARED="1") as server:
        key = key_of(server)

        def send(size: str) -> httpx.Response:
            with server.client(**{"X-Api-Key": key}) as client:
                return client.post("/v1.0/removebg", files={"image_file": out.getvalue()}, data={"size": size, "format": "jpg"})

        assert send("full").status_code == 200
        one = peak(server)
        with ThreadPoolExecutor(count) as pool:
            responses = list(pool.map(send, ["full", *["preview"] * (count - 1)]))
        for response in responses:
            assert response.status_code == 200 or (response.status_code == 429 and int(response.headers["Retry-After"]) > 0)
        assert {response.status_code for response in responses} == {200, 429}
        bound = one + (CALLS - 1) * 2 * width * height * 3 + count * len(out.getvalue())
        assert peak(server) < bound


def peak(server: Server) -> int:
    """Return the largest number of bytes that the server has had in memory."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024
