"""The client for services: what is tried again, what never, how long, and what does not get out."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import threading
import time
from dataclasses import replace

import pytest

from rmbg import http, network
from rmbg.errors import CancelledError, OptionError, ServiceError
from rmbg.http import Request, Session, address, later, redact, retry_after
from rmbg.network import Trip
from rmbg.settings import Settings
from tests.servers.web import Exchange, Web

KEY = "abcd1234-ef:0123456789abcdef"


@pytest.fixture
def waits(monkeypatch):
    """The pauses that were asked for; none is made."""
    asked: list[float] = []
    monkeypatch.setattr(network.Trip, "sleep", lambda self, seconds: asked.append(seconds))
    return asked


@pytest.fixture
def web():
    with Web() as server:
        yield server


def session(**options) -> Session:
    trip = Trip(options.pop("seconds", 3.0), options.pop("cancelled", lambda: False), guarded=False)
    return Session("fal", trip, key=KEY, max_bytes=options.pop("max_bytes", 100_000))


def serve(web: Web, *answers) -> str:
    """Answers one after the other, the last one for ever."""
    left = list(answers)
    web.routes["/job"] = lambda x: (left.pop(0) if len(left) > 1 else left[0])(x)
    return web.url + "/job"


def ok(x: Exchange) -> None:
    x.send_json(200, {"cost": 0.018})


def status(code: int, **headers):
    return lambda x: x.send(code, b"", **headers)


def post(url: str, *, pays: bool = True) -> Request:
    return Request("POST", url, {"Authorization": f"Key {KEY}"}, json={"image": "x"}, pays=pays)


def test_a_request_and_its_answer(web):
    with session() as fal:
        response = fal.send(post(serve(web, ok)))
    assert response.ok and str(response.json()["cost"]) == "0.018"
    assert web.seen[0].json == {"image": "x"} and web.seen[0].headers["authorization"] == f"Key {KEY}"
    assert fal.cost.basis == "unknown"  # until the provider has read what it says
    assert KEY not in repr(post("http://x", pays=True)) + repr(response)


@pytest.mark.parametrize(
    "fault", [Exchange.drop, lambda x: x.cut(b"{", "application/json"), lambda x: x.wfile.write(b"bad\r\n\r\n")]
)
def test_what_pays_is_posted_once(web, waits, fault):
    with session() as fal, pytest.raises(ServiceError, match=r"broke off|stopped"):
        fal.send(post(serve(web, fault)))
    assert len(web.seen) == 1 and fal.cost.basis == "unknown"


@pytest.mark.parametrize("code", [500, 502, 503, 504, 408, 409])
def test_what_pays_is_not_posted_again_after_an_error(web, waits, code):
    with session() as fal:
        assert fal.send(post(serve(web, status(code)))).status == code
    assert len(web.seen) == 1


def test_what_costs_nothing_is_tried_again(web, waits):
    url = serve(web, Exchange.drop, status(503), status(502), ok)
    with session() as fal:
        assert fal.send(post(url, pays=False)).ok
    assert len(web.seen) == 4 and fal.cost is None
    assert waits == sorted(waits) and 0.5 <= waits[0] <= 1


def test_trying_again_ends(web, waits):
    with session() as fal, pytest.raises(ServiceError) as caught:
        fal.send(post(serve(web, Exchange.drop), pays=False))
    assert len(web.seen) == http.ATTEMPTS and caught.value.fault == "connection"


def test_too_many_requests(web, waits):
    url = serve(web, status(429, Retry_After="3"), status(429), ok)
    with session(seconds=10) as fal:
        assert fal.send(post(url, pays=False)).ok
    assert waits[0] == 3.0 and len(waits) == 2
    with session() as fal:
        response = fal.send(post(serve(web, status(429, Retry_After="3"), ok)))
    assert response.status == 429 and later(response) == "try again in 3 s"


def test_what_the_service_knows_again_is_sent_again_although_it_pays(web, waits):
    url = serve(web, Exchange.drop, status(503), status(401))
    with session() as fal:
        assert fal.send(replace(post(url), repeatable=True)).status == 401
        fal.refused()
    assert len(web.seen) == 3 and fal.cost.basis == "unknown"  # the first may have been taken
    with session() as fal:
        fal.send(post(serve(web, status(401))))
        fal.refused()
    assert fal.cost is None


def test_nobody_is_waited_for_for_ever(web, waits):
    with session() as fal:
        response = fal.send(post(serve(web, status(429, Retry_After="3600")), pays=False))
    assert response.status == 429 and later(response) == "try again in 60 minutes"
    assert not waits


def test_a_connection_that_fails_before_anything_is_sent(waits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with session() as fal, pytest.raises(ServiceError, match="fal cannot be reached") as caught:
        fal.send(post(f"http://127.0.0.1:{port}/"))
    assert len(waits) == http.ATTEMPTS - 1 and fal.cost is None and caught.value.fault == "connection"


def test_the_deadline_and_the_stop_button(web):
    url = serve(web, Exchange.hang)
    started = time.monotonic()
    with session(seconds=0.3) as fal, pytest.raises(ServiceError, match=r"did not answer within 0\.3 seconds"):
        fal.send(post(url))
    assert fal.cost.basis == "unknown"
    stop = time.monotonic() + 0.1
    with session(cancelled=lambda: time.monotonic() > stop) as fal, pytest.raises(CancelledError):
        fal.send(post(url))
    assert fal.cost.basis == "unknown" and time.monotonic() - started < 2


@pytest.mark.parametrize("end", ["deadline", "stop"])
def test_a_slow_line_for_a_large_photo(end):
    """Bytes leave all the time, but not fast enough."""
    done = threading.Event()
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        server.bind(("127.0.0.1", 0))
        server.listen()

        def read_slowly() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                while not done.wait(0.02) and connection.recv(20_000):
                    pass

        threading.Thread(target=read_slowly, daemon=True).start()
        request = Request("POST", f"http://127.0.0.1:{server.getsockname()[1]}/", content=bytes(20_000_000), pays=True)
        started = time.monotonic()
        ends = {"deadline": {"seconds": 0.5}, "stop": {"cancelled": lambda: time.monotonic() > started + 0.5, "seconds": 60}}
        with session(**ends[end]) as fal, pytest.raises((ServiceError, CancelledError), match=r"within 0\.5 seconds|Stopped"):
            fal.send(request)
        assert time.monotonic() - started < 3 and fal.cost.basis == "unknown"
        done.set()


def test_a_huge_answer_is_cut_short(web):
    with session() as fal, pytest.raises(ServiceError, match="more than 0 MB"):
        fal.send(post(serve(web, lambda x: x.send(200, bytes(200_000)))))
    assert fal.cost.basis == "unknown"


def test_redirects_are_not_followed(web):
    with session() as fal:
        assert fal.send(post(serve(web, status(307, Location="/other")))).status == 307
    assert len(web.seen) == 1


def test_answers_that_are_no_json(web):
    for body in (b"<html>", b"", b"\xff\xfe", b"[" * 100_000):
        with session(max_bytes=10**6) as fal:
            assert fal.send(post(serve(web, lambda x, body=body: x.send(200, body)))).json() is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("5", 5), ("0", 0), ("2.5", 2.5), (email.utils.formatdate(1000 + 7, usegmt=True), 7), (email.utils.formatdate(900), 0),
     ("", None), (None, None), ("soon", None), ("-3", None), ("nan", None), ("Wed, 99 Foo 2026 25:00:00 GMT", None)],
)  # fmt: skip
def test_retry_after(value, seconds):
    assert retry_after(value, 1000.0) == seconds


def test_redaction():
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 30
    said = f'<p>Bad key {KEY},\n or 0123456789abcdef? input: "{picture}" or {"QUJD" * 40}</p><script>x()</script>'
    text = redact(said, [KEY], 400)
    assert text == 'Bad key [key], or [key]? input: "[picture]" or [data]'
    assert redact("x" * 30, limit=10) == "x" * 9 + "…"
    started = time.monotonic()
    assert redact("Too much: " + "<" * 100_000).startswith("Too much: <<<")
    assert time.monotonic() - started < 1


def test_words_of_a_service_end_a_sentence():
    with session() as fal:
        ends = [fal.said(words) for words in ("", None, " \n", "no runner", "Too large.", "Why?", f"bad {KEY}", "so " * 99)]
    assert ends[:6] == [".", ".", ".", ": no runner.", ": Too large.", ": Why?"]
    assert ends[6] == ": bad [key]." and ends[7].endswith("…")


def test_addresses():
    def at(value: str) -> str:
        return address(Settings.from_environ({"RMBG_FAL_URL": value}), "RMBG_FAL_URL", "https://fal.run")

    assert at("") == "https://fal.run"
    assert at(" http://127.0.0.1:8000/ ") == "http://127.0.0.1:8000"
    assert at("http://localhost:8000") == "http://localhost:8000"
    for bad in ("http://example.com", "fal.run", "ftp://x"):
        with pytest.raises(OptionError, match="RMBG_FAL_URL"):
            at(bad)
