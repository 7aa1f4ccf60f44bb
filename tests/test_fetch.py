"""Downloads: what is let through, what is refused, and in which words."""

from __future__ import annotations

import gzip
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from rmbg import network
from rmbg.errors import CancelledError, InputError, RmbgError, ServiceError
from rmbg.fetch import fetch, matches, parse
from tests.servers.web import Exchange, Web

BODY = b"\x89PNG" + bytes(2000)
HERE = ("127.0.0.1",)


def get(url: str, **options) -> bytes:
    return fetch(url, **{"max_bytes": 100_000, "loopback_hosts": HERE, "deadline": 3.0, **options})


@pytest.fixture
def web():
    with Web({"/photo.png": lambda x: x.send(200, BODY, "image/png")}) as server:
        yield server


def route(web: Web, path: str, answer) -> str:
    web.routes[path] = answer
    return web.url + path


def test_bytes_arrive(web):
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
def test_only_web_addresses(url):
    with pytest.raises(InputError, match="no web address"):
        get(url)


def test_no_passwords_in_addresses():
    with pytest.raises(InputError, match="password") as caught:
        get("https://user:geheim@example.com/")
    assert "geheim" not in str(caught.value)


PRIVATE = """127.0.0.1 127.9.9.9 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1 255.255.255.255
    2130706433 0x7f.1 [::1] [::] [fe80::1] [fc00::1] [::ffff:127.0.0.1] [::ffff:10.0.0.1] [64:ff9b::7f00:1] [2002:7f00:1::]
    [fec0::1] [ff02::1] localhost"""


@pytest.mark.parametrize("host", PRIVATE.split())
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_private_addresses_are_refused(host, scheme):
    with pytest.raises(InputError, match=r"private network|no web address"):
        get(f"{scheme}://{host}/", loopback_hosts=(), plain_http=True)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses_are_public(address):
    assert network.is_public(address)


def test_plain_http_only_where_said(web):
    with pytest.raises(InputError, match="only https"):
        get("http://example.com/a.png")
    with pytest.raises(InputError, match="only https"):
        get(web.url + "/photo.png", loopback_hosts=())
    with pytest.raises(InputError, match="this machine only"):
        get("http://example.com/a.png", loopback_hosts=("example.com",))


def test_hosts_are_matched_exactly():
    hosts = (".fal.media", "im.runware.ai", "storage.googleapis.com/falserverless/", "127.0.0.1:8080")
    for good in ("https://v3.fal.media/x", "https://im.runware.ai/a", "https://storage.googleapis.com/falserverless/a.png",
                 "http://127.0.0.1:8080/a"):  # fmt: skip
        assert matches(parse(good), hosts), good
    for bad in ("https://fal.media.example.com/", "https://evilfal.media/", "https://runware.ai/", "https://x.im.runware.ai/",
                "https://storage.googleapis.com/other/a", "https://storage.googleapis.com/falserverless/../other/a",
                "https://storage.googleapis.com/falserverless/%2e%2e/other/a", "http://127.0.0.1:8081/a"):  # fmt: skip
        assert not matches(parse(bad), hosts), bad


def test_another_host_is_refused(web):
    with pytest.raises(InputError, match=r"127\.0\.0\.1 is not one of the hosts"):
        get(web.url + "/photo.png", hosts=("v3.fal.media",))
    assert not web.seen


def test_redirects_are_followed_and_checked(web):
    here = route(web, "/here", lambda x: x.send(302, Location="/photo.png"))
    assert get(here) == BODY
    inside = route(web, "/inside", lambda x: x.send(301, Location="http://192.168.0.1/"))
    with pytest.raises(InputError, match="private network"):
        get(inside, plain_http=True)
    elsewhere = route(web, "/elsewhere", lambda x: x.send(301, Location="https://example.com/"))
    with pytest.raises(InputError, match=r"example\.com is not one of"):
        get(elsewhere, hosts=HERE)
    file = route(web, "/file", lambda x: x.send(301, Location="file:///etc/passwd"))
    with pytest.raises(InputError, match="no web address"):
        get(file)


def test_redirects_end(web):
    with pytest.raises(ServiceError, match="more than 5 times"):
        get(route(web, "/round", lambda x: x.send(302, Location="/round")))
    assert len(web.seen) == 6


@pytest.mark.parametrize("announced", [True, False])
def test_too_much_is_refused_while_it_arrives(web, announced):
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


def test_compressed_bodies_are_refused(web):
    bomb = gzip.compress(bytes(10**6))
    with pytest.raises(ServiceError, match="compressed"):
        get(route(web, "/bomb", lambda x: x.send(200, bomb, "image/png", Content_Encoding="gzip")))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: x.send(404), "nothing there"),
        (lambda x: x.send(403), "does not give it out"),
        (lambda x: x.send(401), "wants a login"),
        (lambda x: x.send(418), "refuses to send it"),
        (lambda x: x.send(503, b"<html>"), "failed"),
        (lambda x: x.cut(BODY), "broke off"),
        (lambda x: x.drop(), "broke off"),
        (lambda x: x.wfile.write(b"220 ftp ready\r\n\r\n"), "broke off"),
        (lambda x: x.send(302, Location="https://example.com:99999999/"), "no web address"),
    ],
)
def test_failures_are_one_sentence(web, answer, words):
    with pytest.raises(RmbgError, match=words) as caught:
        get(route(web, "/x", answer))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServiceError, match="accepts no connection"):
        get(f"http://127.0.0.1:{port}/")


def test_no_such_name(monkeypatch):
    def missing(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(network, "getaddrinfo", missing)
    with pytest.raises(ServiceError, match=r"no machine named nowhere\.example"):
        get("https://nowhere.example/")


@pytest.mark.parametrize("slow", ["body", "head", "silent", "resolver"])
def test_the_deadline_holds_for_everything(web, slow, monkeypatch):
    def head(x: Exchange) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
            if web.closing.wait(0.02):
                break
            x.wfile.write(bytes([byte]))

    answers = {"body": lambda x: x.drip(BODY, 0.02), "head": head, "silent": Exchange.hang, "resolver": Exchange.hang}
    url = route(web, "/slow", answers[slow])
    if slow == "resolver":
        monkeypatch.setattr(network, "getaddrinfo", lambda *_, **__: time.sleep(1) or [])
    started = time.monotonic()
    with pytest.raises(ServiceError, match=r"too slow: There was no full answer within 0\.3 seconds"):
        get(url, deadline=0.3)
    assert time.monotonic() - started < 0.8


def test_it_can_be_stopped(web):
    stop = time.monotonic() + 0.1
    with pytest.raises(CancelledError):
        get(route(web, "/slow", Exchange.hang), cancelled=lambda: time.monotonic() > stop)
    assert time.monotonic() - stop < 0.8


def test_the_checked_address_is_the_one_connected_to(web, monkeypatch):
    """A name that points to a harmless machine when asked first and inside when asked again."""
    asked = []

    def rebinding(host, port, **_):
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1" if len(asked) == 1 else "10.0.0.1", port))]

    monkeypatch.setattr(network, "getaddrinfo", rebinding)
    url = f"http://photos.example:{web.port}/photo.png"
    assert get(url, loopback_hosts=("photos.example",), plain_http=True) == BODY
    assert asked == ["photos.example"]
    assert web.seen[0].headers["host"] == f"photos.example:{web.port}"


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command to make a certificate")
def test_the_certificate_is_checked_against_the_name(tmp_path, monkeypatch):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=photos.example", "-addext", "subjectAltName=DNS:photos.example", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(network, "getaddrinfo", lambda h, p, **_: [(2, 1, 6, "", ("127.0.0.1", p))])
    with Web({"/a": lambda x: x.send(200, BODY)}, tls=server) as web:
        good, bad = f"https://photos.example:{web.port}/a", f"https://other.example:{web.port}/a"
        hosts = ("photos.example", "other.example")
        with pytest.raises(ServiceError, match="certificate does not hold"):
            get(good, loopback_hosts=hosts)
        monkeypatch.setattr(network, "_tls", lambda: trusting)
        assert get(good, loopback_hosts=hosts) == BODY
        with pytest.raises(ServiceError, match="certificate does not hold"):
            get(bad, loopback_hosts=hosts)
