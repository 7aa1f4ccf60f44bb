"""Downloads: allowed and rejected URLs, limits, deadlines, error messages."""

from __future__ import annotations

import gzip
import re
import shutil
import socket
import threading

import pytest

from rmbg.errors import CancelledError, InputError, RmbgError, ServiceError
from rmbg.net import transport
from rmbg.net.download import fetch, matches, parse
from tests.servers.web import Exchange, Web, tls_contexts

BODY = b"\x89PNG" + bytes(2000)


def server_of(url: str) -> tuple[str, ...]:
    """Host and port of a test server."""
    match = re.match(r"https?://(127\.0\.0\.1:[0-9]+)/", url)
    return (match[1],) if match else ()


def get(url: str, **options) -> bytes:
    return fetch(url, **{"max_bytes": 100_000, "loopback_hosts": server_of(url), "deadline": 30.0, **options})


@pytest.fixture
def web():
    with Web({"/photo.png": lambda x: x.send(200, BODY, "image/png")}) as server:
        yield server


def route(web: Web, path: str, response) -> str:
    web.routes[path] = response
    return web.url + path


def test_body_is_returned(web):
    assert get(web.url + "/photo.png") == BODY
    assert web.seen[0].headers["accept-encoding"] == "identity"


def test_proxy_settings_are_ignored(web, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert get(web.url + "/photo.png") == BODY


@pytest.mark.parametrize(
    "url",
    [
        "",
        "photo.jpg",
        "file:///etc/passwd",
        "ftp://example.com/a",
        "data:image/png;base64,AAAA",
        "http://",
        "https://[::1",
        "//a/b",
    ],
)
def test_other_schemes_and_invalid_urls_are_rejected(url):
    with pytest.raises(InputError, match="not a valid web address"):
        get(url)


def test_url_with_a_password_is_rejected_without_repeating_it():
    with pytest.raises(InputError, match="password") as caught:
        get("https://user:secret-word@example.com/")
    assert "secret-word" not in str(caught.value)


PRIVATE = """127.0.0.1 127.9.9.9 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1 255.255.255.255
    2130706433 0x7f.1 [::1] [::] [fe80::1] [fc00::1] [::ffff:127.0.0.1] [::ffff:10.0.0.1] [64:ff9b::7f00:1] [2002:7f00:1::]
    [fec0::1] [ff02::1] localhost 100.100.100.200 100.127.255.255 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.51.100.1
    203.0.113.1 168.63.129.16 240.0.0.1 [2002:101:101::1] [2002:a00:1::] [2001::1] [2001:0:53aa:64c::1] [2001:10::1]
    [2001:db8::1] [3fff::1] [5f00::1] [100::1] [64:ff9b::101:101] [64:ff9b:1::1] [::ffff:1.1.1.1] [::1.1.1.1] [fd00:ec2::254]
    [fd20:ce::254]"""


@pytest.mark.parametrize("host", PRIVATE.split())
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_private_addresses_are_rejected(host, scheme):
    with pytest.raises(InputError, match=r"private network|not a valid web address"):
        get(f"{scheme}://{host}/", loopback_hosts=(), plain_http=True)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::1"])
def test_public_addresses_are_accepted(address):
    assert transport.is_public(address)


def test_plain_http_is_limited_to_allowed_loopback_hosts(web):
    with pytest.raises(InputError, match="Use an https address"):
        get("http://example.com/a.png")
    with pytest.raises(InputError, match="Use an https address"):
        get(web.url + "/photo.png", loopback_hosts=())
    with pytest.raises(InputError, match="this machine only"):
        get("http://example.com/a.png", loopback_hosts=("example.com",))


def test_hosts_and_path_prefixes_are_matched_exactly():
    hosts = (".fal.media", "im.runware.ai", "storage.googleapis.com/falserverless/", "127.0.0.1:8080")
    for good in ("https://v3.fal.media/x", "https://im.runware.ai/a", "https://storage.googleapis.com/falserverless/a.png",
                 "http://127.0.0.1:8080/a"):  # fmt: skip
        assert matches(parse(good), hosts), good
    for bad in ("https://fal.media.example.com/", "https://evilfal.media/", "https://runware.ai/", "https://x.im.runware.ai/",
                "https://storage.googleapis.com/other/a", "https://storage.googleapis.com/falserverless/../other/a",
                "https://storage.googleapis.com/falserverless/%2e%2e/other/a", "http://127.0.0.1:8081/a"):  # fmt: skip
        assert not matches(parse(bad), hosts), bad


def test_redirect_targets_are_checked(web):
    here = route(web, "/here", lambda x: x.send(302, Location="/photo.png"))
    assert get(here) == BODY
    inside = route(web, "/inside", lambda x: x.send(301, Location="http://192.168.0.1/"))
    with pytest.raises(InputError, match="private network"):
        get(inside, plain_http=True)
    file = route(web, "/file", lambda x: x.send(301, Location="file:///etc/passwd"))
    with pytest.raises(InputError, match="not a valid web address"):
        get(file)


def test_number_of_redirects_is_limited(web):
    with pytest.raises(ServiceError, match="more than 5 times"):
        get(route(web, "/round", lambda x: x.send(302, Location="/round")))
    assert len(web.seen) == 6


@pytest.mark.parametrize("announced", [True, False])
def test_body_larger_than_the_limit_is_rejected(web, announced):
    def endless(x: Exchange) -> None:
        if announced:
            x.start(200, 10**9, "image/png")
        else:
            x.send_response(200)
            x.end_headers()
            x.close_connection = True
        while not web.closing.is_set():
            x.wfile.write(bytes(65536))

    with pytest.raises(InputError, match=r"larger than the limit of 0\.1 MB"):
        get(route(web, "/endless", endless))


def test_compressed_body_is_rejected(web):
    bomb = gzip.compress(bytes(10**6))
    with pytest.raises(ServiceError, match="compressed"):
        get(route(web, "/bomb", lambda x: x.send(200, bomb, "image/png", Content_Encoding="gzip")))


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (lambda x: x.send(404), "has no file at this address"),
        (lambda x: x.send(403), "denied access"),
        (lambda x: x.send(401), "requires a login"),
        (lambda x: x.send(418), "refused the request"),
        (lambda x: x.send(503, b"<html>"), "failed"),
        (lambda x: x.cut(BODY), "was lost during the download"),
        (lambda x: x.drop(), "was lost during the download"),
        (lambda x: x.wfile.write(b"220 ftp ready\r\n\r\n"), "was lost during the download"),
        (lambda x: x.send(302, Location="https://example.com:99999999/"), "not a valid web address"),
    ],
)
def test_failure_is_one_sentence(web, response, message):
    with pytest.raises(RmbgError, match=message) as caught:
        get(route(web, "/x", response))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_refused_connection():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServiceError, match="refused the connection"):
        get(f"http://127.0.0.1:{port}/")


def test_unknown_host_name(monkeypatch):
    def missing(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(transport, "getaddrinfo", missing)
    with pytest.raises(ServiceError, match=r"host name nowhere\.example cannot be resolved"):
        get("https://nowhere.example/")


@pytest.mark.parametrize("slow", ["body", "head", "no response", "resolver"])
def test_deadline_covers_every_phase(web, slow, monkeypatch):
    def head(x: Exchange) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
            if web.closing.wait(0.02):
                break
            x.wfile.write(bytes([byte]))

    completed = threading.Event()

    def respond(x: Exchange) -> None:
        {"body": lambda x: x.drip(BODY, 0.02), "head": head}.get(slow, Exchange.hang)(x)
        completed.set()

    def resolve(*_, **__):
        web.closing.wait(60)
        completed.set()
        return []

    if slow == "resolver":
        monkeypatch.setattr(transport, "getaddrinfo", resolve)
    with pytest.raises(ServiceError, match=r"too slow: No complete response arrived within 0\.3 seconds"):
        get(route(web, "/slow", respond), deadline=0.3)
    assert not completed.is_set()


def test_download_can_be_cancelled(web):
    completed = threading.Event()
    url = route(web, "/slow", lambda x: (x.hang(), completed.set()))
    with pytest.raises(CancelledError):
        get(url, cancelled=lambda: bool(web.seen))
    assert not completed.is_set()


def test_connection_uses_the_checked_address(web, monkeypatch):
    """DNS rebinding: the name resolves to an allowed address first and to a private one later."""
    resolved = []

    def rebinding(host, port, **_):
        resolved.append(host)
        return [(2, 1, 6, "", ("127.0.0.1" if len(resolved) == 1 else "10.0.0.1", port))]

    monkeypatch.setattr(transport, "getaddrinfo", rebinding)
    url = f"http://photos.example:{web.port}/photo.png"
    assert get(url, loopback_hosts=(f"photos.example:{web.port}",), plain_http=True) == BODY
    assert resolved == ["photos.example"]
    assert web.seen[0].headers["host"] == f"photos.example:{web.port}"


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command to make a certificate")
def test_certificate_is_verified_against_the_host_name(tmp_path, monkeypatch):
    server, trusted_context = tls_contexts(tmp_path, "photos.example")
    monkeypatch.setattr(transport, "getaddrinfo", lambda h, p, **_: [(2, 1, 6, "", ("127.0.0.1", p))])
    with Web({"/a": lambda x: x.send(200, BODY)}, tls=server) as web:
        good, bad = f"https://photos.example:{web.port}/a", f"https://other.example:{web.port}/a"
        hosts = (f"photos.example:{web.port}", f"other.example:{web.port}")
        with pytest.raises(ServiceError, match="certificate is invalid or not trusted"):
            get(good, loopback_hosts=hosts)
        monkeypatch.setattr(transport, "_tls", lambda: trusted_context)
        assert get(good, loopback_hosts=hosts) == BODY
        with pytest.raises(ServiceError, match="certificate is invalid or not trusted"):
            get(bad, loopback_hosts=hosts)
