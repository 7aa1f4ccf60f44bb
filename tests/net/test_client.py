"""The service client: retries, deadlines, cancellation, size limits, redaction."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import threading
import time
from dataclasses import replace

import pytest

from rmbg.errors import CancelledError, OptionError, ServiceError
from rmbg.net import client, transport
from rmbg.net.client import Request, ServiceClient, redact, retry_after, retry_hint, service_url
from rmbg.settings import Settings
from tests.servers.web import Exchange, Web

KEY = "abcd1234-ef:0123456789abcdef"


@pytest.fixture
def waits(monkeypatch):
    """Record the requested delays without sleeping."""
    requested: list[float] = []
    monkeypatch.setattr(transport.Exchange, "sleep", lambda self, seconds: requested.append(seconds))
    return requested


@pytest.fixture
def web():
    with Web() as server:
        yield server


def session(**options) -> ServiceClient:
    exchange = transport.Exchange(options.pop("seconds", 30.0), options.pop("cancelled", lambda: False), guarded=False)
    return ServiceClient("fal", exchange, key=KEY, max_bytes=options.pop("max_bytes", 100_000))


def serve(web: Web, *responses) -> str:
    """Serve the responses in order and repeat the last one; returns the URL."""
    left = list(responses)
    web.routes["/job"] = lambda x: (left.pop(0) if len(left) > 1 else left[0])(x)
    return web.url + "/job"


def ok(x: Exchange) -> None:
    x.send_json(200, {"cost": 0.018})


def status(code: int, **headers):
    return lambda x: x.send(code, b"", **headers)


def post(url: str, *, pays: bool = True, **more) -> Request:
    return Request("POST", url, {"Authorization": f"Key {KEY}"}, json={"image": "x"}, pays=pays, **more)


def test_request_and_response(web):
    with session() as fal:
        response = fal.send(post(serve(web, ok)))
    assert response.ok and str(response.json()["cost"]) == "0.018"
    assert web.seen[0].json == {"image": "x"} and web.seen[0].headers["authorization"] == f"Key {KEY}"
    assert fal.cost.basis == "unknown"  # until the provider sets the reported cost
    assert KEY not in repr(post("http://x", pays=True)) + repr(response)


@pytest.mark.parametrize(
    "fault", [Exchange.drop, lambda x: x.cut(b"{", "application/json"), lambda x: x.wfile.write(b"bad\r\n\r\n")]
)
def test_paid_request_is_not_retried_after_a_connection_error(web, waits, fault):
    with session() as fal, pytest.raises(ServiceError, match=r"was lost|stopped"):
        fal.send(post(serve(web, fault)))
    assert len(web.seen) == 1 and fal.cost.basis == "unknown"


@pytest.mark.parametrize("code", [500, 502, 503, 504, 408, 409])
def test_paid_request_is_not_retried_after_an_error_status(web, waits, code):
    with session() as fal:
        assert fal.send(post(serve(web, status(code)))).status == code
    assert len(web.seen) == 1


def test_free_request_is_retried_with_backoff(web, waits):
    url = serve(web, Exchange.drop, status(503), status(502), ok)
    with session(seconds=20) as fal:
        assert fal.send(post(url, pays=False)).ok
    assert len(web.seen) == 4 and fal.cost is None
    assert waits == sorted(waits) and 0.5 <= waits[0] <= 1


def test_number_of_attempts_is_limited(web, waits):
    with session() as fal, pytest.raises(ServiceError) as caught:
        fal.send(post(serve(web, Exchange.drop), pays=False))
    assert len(web.seen) == client.ATTEMPTS and "was lost" in str(caught.value)


def test_429_is_retried_for_free_requests_only(web, waits):
    url = serve(web, status(429, Retry_After="3"), status(429), ok)
    with session(seconds=10) as fal:
        assert fal.send(post(url, pays=False)).ok
    assert waits[0] == 3.0 and len(waits) == 2
    with session() as fal:
        response = fal.send(post(serve(web, status(429, Retry_After="3"), ok)))
    assert response.status == 429 and retry_hint(response) == "try again in 3 s"


def test_repeatable_paid_request_is_retried(web, waits):
    url = serve(web, Exchange.drop, status(503), status(401))
    with session() as fal:
        assert fal.send(replace(post(url), repeatable=True)).status == 401
        fal.mark_rejected()
    assert len(web.seen) == 3 and fal.cost.basis == "unknown"  # the first attempt may have been accepted
    with session() as fal:
        assert fal.send(replace(post(serve(web, Exchange.drop, status(401))), repeatable=True)).status == 401
        fal.mark_rejected()
    assert fal.cost.basis == "unknown"
    with session() as fal:
        fal.send(post(serve(web, status(401))))
        fal.mark_rejected()
    assert fal.cost is None


@pytest.mark.parametrize("pays", [True, False])
def test_429_with_seconds_is_awaited_within_the_deadline_if_it_is_free(web, waits, pays):
    url = serve(web, status(429, Retry_After="60"), status(429, Retry_After="3"), ok)
    with session(seconds=90) as fal:
        assert fal.send(post(url, pays=pays, free_if_busy=True)).ok
    assert waits == [60.0, 3.0] and len(web.seen) == 3


@pytest.mark.parametrize(
    ("header", "free"), [({}, True), ({"Retry_After": "Sun, 22 Nov 2026 10:00:00 GMT"}, True), ({"Retry_After": "3"}, False)]
)
def test_paid_request_is_not_retried_after_any_other_429(web, waits, header, free):
    with session(seconds=90) as fal:
        assert fal.send(post(serve(web, status(429, **header), ok), free_if_busy=free)).status == 429
    assert len(web.seen) == 1


def test_wait_after_a_429_costs_nothing(web, monkeypatch):
    def stop(self, seconds):
        raise CancelledError("Stopped.")

    monkeypatch.setattr(transport.Exchange, "sleep", stop)
    with session(seconds=90) as fal, pytest.raises(CancelledError):
        fal.send(post(serve(web, status(429, Retry_After="3"), ok), free_if_busy=True))
    assert len(web.seen) == 1 and fal.cost is None


@pytest.mark.parametrize("code", [500, 502, 503, 504, 520, 599])
def test_result_is_fetched_again_after_any_5xx(web, waits, code):
    url = serve(web, *[status(code)] * 6, ok)
    with session(seconds=90) as fal:
        assert fal.fetch_result(Request("GET", url)).ok
    assert len(web.seen) == 7 and max(waits) <= 2 * client.MAX_BACKOFF and waits[3] > waits[0]


def test_fetching_a_result_ends(web, waits):
    url = serve(web, status(500))
    with session(seconds=900) as fal:
        assert fal.fetch_result(Request("GET", url)).status == 500
    assert len(web.seen) == client.RESULT_ATTEMPTS
    with session(seconds=900) as fal:
        assert fal.fetch_result(Request("GET", url), lambda response: True).status == 500
    assert len(web.seen) == client.RESULT_ATTEMPTS + 1, "the response is the final state of the job"
    with session(seconds=0.2) as fal:
        assert fal.fetch_result(Request("GET", url)).status == 500, "the deadline would pass before the next attempt"


def test_long_retry_after_is_reported_instead_of_awaited(web, waits):
    with session() as fal:
        response = fal.send(post(serve(web, status(429, Retry_After="3600")), pays=False))
    assert response.status == 429 and retry_hint(response) == "try again in 60 minutes"
    assert not waits


def test_failed_connection_is_retried_and_costs_nothing(waits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with session() as fal, pytest.raises(ServiceError, match="fal cannot be reached") as caught:
        fal.send(post(f"http://127.0.0.1:{port}/"))
    assert len(waits) == client.ATTEMPTS - 1 and fal.cost is None and "cannot be reached" in str(caught.value)


def test_deadline_and_cancellation_end_a_request(web):
    completed = threading.Event()
    url = serve(web, lambda x: (x.hang(), completed.set()))
    with session(seconds=0.3) as fal, pytest.raises(ServiceError, match=r"did not answer within 0\.3 seconds"):
        fal.send(post(url))
    assert fal.cost.basis == "unknown"
    with session(cancelled=lambda: len(web.seen) > 1) as fal, pytest.raises(CancelledError):
        fal.send(post(url))
    assert fal.cost.basis == "unknown" and not completed.is_set()


@pytest.mark.parametrize("end", ["deadline", "cancellation"])
def test_deadline_and_cancellation_end_a_slow_upload(end):
    """The socket accepts data throughout, but slowly."""
    done, begun, size = threading.Event(), threading.Event(), 20_000_000
    received = [0]
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        server.bind(("127.0.0.1", 0))
        server.listen()

        def read_slowly() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                while not done.wait(0.02) and (data := connection.recv(20_000)):
                    received[0] += len(data)
                    begun.set()

        threading.Thread(target=read_slowly, daemon=True).start()
        request = Request("POST", f"http://127.0.0.1:{server.getsockname()[1]}/", content=bytes(size), pays=True)
        ends = {
            "deadline": {"seconds": 0.5},
            "cancellation": {"cancelled": begun.is_set, "seconds": 120},
        }
        with session(**ends[end]) as fal, pytest.raises((ServiceError, CancelledError), match=r"within 0\.5 seconds|Stopped"):
            fal.send(request)
        assert received[0] < size and fal.cost.basis == "unknown"
        done.set()


def test_response_larger_than_the_limit_is_rejected(web):
    with session() as fal, pytest.raises(ServiceError, match=r"more than 0\.1 MB"):
        fal.send(post(serve(web, lambda x: x.send(200, bytes(200_000)))))
    assert fal.cost.basis == "unknown"


def test_redirects_are_not_followed(web):
    with session() as fal:
        assert fal.send(post(serve(web, status(307, Location="/other")))).status == 307
    assert len(web.seen) == 1


def test_body_that_is_not_json_is_none(web):
    for body in (b"<html>", b"", b"\xff\xfe", b"[" * 100_000):
        with session(max_bytes=10**6) as fal:
            assert fal.send(post(serve(web, lambda x, body=body: x.send(200, body)))).json() is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("5", 5), ("0", 0), ("2.5", 2.5), (email.utils.formatdate(1000 + 7, usegmt=True), 7), (email.utils.formatdate(900), 0),
     ("", None), (None, None), ("soon", None), ("-3", None), ("nan", None), ("Wed, 99 Foo 2026 25:00:00 GMT", None)],
)  # fmt: skip
def test_retry_after_is_parsed(value, seconds):
    assert retry_after(value, 1000.0) == seconds


def test_redaction_removes_keys_images_and_markup():
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 30
    message = f'<p>Bad key {KEY},\n or 0123456789abcdef? input: "{picture}" or {"QUJD" * 40}</p><script>x()</script>'
    text = redact(message, [KEY], 400)
    assert text == 'Bad key [key], or [key]? input: "[picture]" or [data]'
    assert redact("x" * 30, limit=10) == "x" * 9 + "…"
    started = time.thread_time()
    assert redact("Too much: " + "<" * 100_000).startswith("Too much: <<<")
    assert time.thread_time() - started < 1


def test_error_detail_ends_the_sentence():
    with session() as fal:
        ends = [
            fal.error_detail(text) for text in ("", None, " \n", "no runner", "Too large.", "Why?", f"bad {KEY}", "so " * 99)
        ]
    assert ends[:6] == [".", ".", ".", ": no runner.", ": Too large.", ": Why?"]
    assert ends[6] == ": bad [key]." and ends[7].endswith("…")


def test_service_urls_require_https_or_loopback():
    def at(value: str) -> str:
        return service_url(Settings.from_environ({"RMBG_FAL_URL": value}), "RMBG_FAL_URL", "https://fal.run")

    assert at("") == "https://fal.run"
    assert at(" http://127.0.0.1:8000/ ") == "http://127.0.0.1:8000"
    assert at("http://localhost:8000") == "http://localhost:8000"
    for bad in ("http://example.com", "fal.run", "ftp://x"):
        with pytest.raises(OptionError, match="RMBG_FAL_URL"):
            at(bad)
