"""Clients that send, read or finish nothing hold nothing that others need, and are disconnected."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from rmbg.ui.guard.body import GuardedResponse, LimitedBody
from rmbg.ui.guard.connections import IDLE_PER_NETWORK
from rmbg.ui.guard.limits import UNFINISHED_PER_NETWORK
from tests.processes import with_constants
from tests.security.server import Server, Visitor, picture
from tests.servers.web import until

#: Deadlines of the server under test in seconds.
HEADERS, GRACE = 3, 4

#: Seconds within which a connection with a deadline ends on a busy machine.
PATIENCE = 60

#: Routes that take a body.
ROUTES = {
    "run/predict": "application/json",
    "queue/join": "application/json",
    "call/remove_background": "application/json",
    "draft": "application/json",
    "mcp/": "application/json",
    "upload": "multipart/form-data; boundary=x",
}

ATTACKER = "203.0.113.66"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    constants = with_constants(
        ui__guard__connections__HEADER_SECONDS=HEADERS,
        ui__guard__connections__GRACE_SECONDS=GRACE,
        ui__guard__body__GRACE_SECONDS=GRACE,
    )
    with Server(tmp_path_factory.mktemp("server"), entry=(*constants, "serve"), RMBG_SHARED="1") as server:
        yield server


def connected(server: Server, sent: bytes, *, buffer: int | None = None) -> socket.socket:
    """Return a connection on which these bytes were sent."""
    client = socket.socket()
    client.settimeout(PATIENCE)
    if buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.connect(("127.0.0.1", server.port))
    client.sendall(sent)
    return client


def head(server: Server, route: str, *, method: str = "POST", length: int = 100, address: str = ATTACKER) -> bytes:
    """Return the start of a request: all of its headers, and nothing of its body."""
    lines = [f"{method} {route} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", f"X-Forwarded-For: {address}"]
    if method == "POST":
        lines += [f"Content-Type: {ROUTES[route.rpartition('/gradio_api/')[2]]}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


def post(server: Server, route: str, **options: object) -> socket.socket:
    return connected(server, head(server, f"/gradio_api/{route}", **options))  # type: ignore[arg-type]


def ending(client: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := client.recv(65_536):
            received += data
    return received


def use(server: Server) -> None:
    """Use the page as a visitor does: upload, direct event, queued event."""
    with Visitor(server.url, f"other{time.monotonic_ns()}", **{"X-Forwarded-For": "203.0.113.1"}) as visitor:
        visitor.client.timeout = httpx.Timeout(PATIENCE)
        message = visitor.remove(server.upload(picture()))
        assert message["success"], message
        cancel = visitor.event(set(), {"start", "cancel", "message", "total"}, queue=False)
        visitor.call(cancel, {}).raise_for_status()


def test_bodies_that_never_arrive_delay_no_one_and_are_refused(server):
    """From one network for each route: the first one would otherwise reach its limit."""
    clients = [post(server, route, address=f"203.0.113.{2 + number // 20}") for number, route in enumerate([*ROUTES] * 20)]
    use(server)
    for client in clients:
        answer = ending(client)
        assert answer.startswith(b"HTTP/1.1 408") and b"did not arrive in time" in answer, answer
        client.close()


@pytest.mark.parametrize("route", ["run/predict", "upload"])
def test_body_of_a_byte_a_second_is_refused(server, route):
    client, stopped = post(server, route, length=10_000), threading.Event()
    client.sendall(b'--x\r\nContent-Disposition: form-data; name="files"; filename="photo.png"\r\n\r\n')

    def trickle() -> None:
        with contextlib.suppress(OSError):
            while not stopped.wait(1):
                client.send(b" ")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        answer = ending(client)
        assert b"HTTP/1.1 408" in answer, answer
    finally:
        stopped.set()
        thread.join()
        client.close()


def test_bodies_that_are_cut_leave_nothing_behind(server):
    for route in ROUTES:
        for _ in range(UNFINISHED_PER_NETWORK + 8):
            client = post(server, route)
            client.sendall(b'{"data"')
            client.close()
        assert until(lambda: not _is_refused(server), PATIENCE), f"requests of {route} still count"
    use(server)
    assert "Traceback" not in server.log.read_text()


def _is_refused(server: Server) -> bool:
    client = post(server, "run/predict", length=2)
    client.sendall(b"{}")
    answer = client.recv(100)
    client.close()
    return answer.startswith(b"HTTP/1.1 429")


def test_body_that_arrives_in_pieces_is_accepted(server):
    body = b'{"data": ["", "auto"], "session_hash": "pieces"}'
    client = post(server, "call/remove_background", length=len(body))
    for start in range(0, len(body), 16):
        time.sleep(0.2)
        client.sendall(body[start : start + 16])
    answer = b""
    while b"event_id" not in answer:
        answer += client.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    client.close()


def test_body_without_a_length_is_limited():
    parts: list[Any] = [{"type": "http.request", "body": bytes(60), "more_body": more} for more in (True, True, False)]
    sent: list[Any] = []

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def read() -> list[str]:
        body = LimitedBody(receive, 100, 100, Headers({}), GuardedResponse(send, False), None)
        return [(await body())["type"] for _ in range(2)]

    with ThreadPoolExecutor() as pool:  # Playwright runs an event loop in this thread
        assert pool.submit(asyncio.run, read()).result() == ["http.request", "http.disconnect"]
    assert sent[0]["status"] == 413 and not parts, "the rest is discarded"


def test_unfinished_requests_of_a_network_are_limited(server):
    """Two addresses of one /64 are one network, and the limit of a /48 is twice that of a /64."""
    sent = [f"2001:db8:7::{number:x}" for number in range(UNFINISHED_PER_NETWORK)]
    clients = [post(server, "run/predict", address=address) for address in sent]
    for address, status in (("2001:db8:7::ffff", 429), ("2001:db8:7:1::1", 408), ("2001:db8:8::1", 408)):
        client = post(server, "run/predict", address=address)
        assert ending(client).startswith(f"HTTP/1.1 {status}".encode()) if status == 408 else b" 429 " in client.recv(1000)
        client.close()
    for client in clients:
        client.close()


def test_connections_without_complete_headers_are_closed(server):
    """Without a byte, with a part of the headers, with a byte a second, and after a first request."""
    clients = [connected(server, sent) for sent in (b"", b"GET / HTTP/1.1\r\nHost: 127.0", b"GET / HTTP/1.1\r\nX-Slow: ")]
    second = connected(server, head(server, "/gradio_api/app_id", method="GET"))
    assert second.recv(10_000).startswith(b"HTTP/1.1 200")
    second.sendall(b"GET / HTTP/1.1\r\n")
    with contextlib.suppress(OSError):
        for _ in range(PATIENCE):
            clients[-1].send(b"x")
            time.sleep(1)
        raise AssertionError("the connection is still open")
    assert b"HTTP/1.1" not in ending(second)
    assert [ending(client) for client in clients[:2]] == [b""] * 2
    for client in (*clients, second):
        client.close()


def test_answers_that_are_never_read_are_dropped(server):
    """Of one request for a large file, and of many on one connection for small ones."""
    large = server.upload(picture(1500, 1500) + bytes(20_000_000))
    heads = (head(server, f"/gradio_api/file={large}", method="GET"), head(server, "/", method="GET") * 40)
    clients = [connected(server, sent, buffer=4096) for sent in heads]
    use(server)
    time.sleep(GRACE + 3)
    for client in clients:
        assert until(lambda client=client: _is_reset(client), PATIENCE)
        client.close()


def _is_reset(client: socket.socket) -> bool:
    """True if the server has dropped the connection, seen without reading from it."""
    try:
        for _ in range(2):  # the first byte is answered with a reset
            client.send(b" ")
            time.sleep(0.05)
    except OSError:
        return True
    return False


def test_answer_that_is_read_slowly_arrives(server):
    """The rate is above the minimum, and the whole takes longer than the deadlines."""
    large = server.upload(picture(1500, 1500) + bytes(400_000))
    client = connected(server, head(server, f"/gradio_api/file={large}", method="GET"), buffer=4096)
    received, started = 0, time.monotonic()
    while received < 400_000:
        received += len(client.recv(16_384))
        if time.monotonic() - started < GRACE + 1:
            time.sleep(0.25)
    assert time.monotonic() - started > GRACE
    client.close()


def test_connections_of_a_network_without_a_request_are_limited(tmp_path):
    with Server(tmp_path, RMBG_SHARED="1", RMBG_TRUSTED_PROXIES="192.0.2.1") as server:
        assert until(lambda: _closed_of(server, IDLE_PER_NETWORK + 60) >= 50, PATIENCE), "the limit applies after the start"
        assert until(lambda: _answers(server), PATIENCE)


def _closed_of(server: Server, number: int) -> int:
    """Open connections without a request and return how many of them the server closes at once."""
    clients = [connected(server, b"") for _ in range(number)]
    time.sleep(1)
    closed = sum(_is_closed(client) for client in clients)
    for client in clients:
        client.close()
    return closed


def _is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _answers(server: Server) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{server.url}/gradio_api/app_id", trust_env=False, timeout=30).is_success
    return False
