"""Limits of the queue and of direct calls, for all routes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from rmbg.providers import PROVIDERS
from rmbg.ui.guard.limits import DIRECT_PER_NETWORK, QUEUED_PER_NETWORK
from rmbg.ui.session import Session
from tests.security.server import Server, Visitor, picture
from tests.servers.web import until
from tests.ui.test_queue import BlockingProvider


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), RMBG_SHARED="1", RMBG_MAX_BYTES="2000000", RMBG_BATCH_MB="2") as server:
        yield server


@pytest.mark.parametrize("route", ["run", "api"])
@pytest.mark.parametrize("name", ["remove_background", "compare"])
def test_queued_functions_cannot_be_called_directly(server, route, name):
    image = {"path": server.upload(), "orig_name": "photo.png", "meta": {"_type": "gradio.FileData"}}
    with server.client() as client:
        for tail in ("", "/"):
            answer = client.post(f"/gradio_api/{route}/{name}{tail}", json={"data": [image]})
            assert answer.status_code == 404, answer.text[:200]


def test_queued_events_cannot_be_called_by_number(server):
    """The page calls events without a queue by their number."""
    with Visitor(server.url, "direct") as visitor:
        queued = [event for event in visitor.events if event["queue"] is not False]
        assert queued
        for event in queued:
            if event["backend_fn"]:
                assert visitor.call(event, {}).status_code in (400, 404), event


def test_direct_calls_are_limited_in_number(app, monkeypatch):
    """Direct calls may decode a background picture; forty concurrent ones would take gigabytes."""
    held, answers, decode = threading.Event(), [], Session.background

    def background(self: Session, path: str) -> Any:
        assert held.wait(300)
        return decode(self, path)

    monkeypatch.setenv("RMBG_SHARED", "1")
    monkeypatch.setattr(Session, "background", background)
    with Visitor(app, "many") as visitor:
        (path,) = visitor.client.post("/gradio_api/upload", files={"files": ("b.png", picture())}).raise_for_status().json()
        visitor.remove(path)
        image = {"path": path, "orig_name": "b.png", "meta": {"_type": "gradio.FileData"}}
        show = visitor.event({"view", "background", "background-picture"}, {"result"}, queue=False)
        body = visitor.body(show, {"background": "image", "background-picture": image, "view": "cutout", "margin": 5})

        def request() -> None:
            answers.append(httpx.post(f"{app}/gradio_api/run/predict", json=body, timeout=400, trust_env=False).status_code)

        threads = [threading.Thread(target=request) for _ in range(60)]
        for thread in threads:
            thread.start()
        try:
            assert until(lambda: len(answers) == 60 - DIRECT_PER_NETWORK, 120), answers
            assert set(answers) == {429}
        finally:
            held.set()
        for thread in threads:
            thread.join(300)
    assert answers.count(200) == DIRECT_PER_NETWORK


def test_one_address_cannot_fill_the_queue(app, monkeypatch):
    """Other addresses can still join."""
    blocking = BlockingProvider()
    monkeypatch.setenv("RMBG_SHARED", "1")
    monkeypatch.setitem(PROVIDERS, "builtin", blocking)
    with httpx.Client(base_url=app, trust_env=False, timeout=300) as client:
        (path,) = client.post("/gradio_api/upload", files={"files": ("photo.png", picture())}).raise_for_status().json()
        image = {"path": path, "orig_name": "photo.png", "meta": {"_type": "gradio.FileData"}}
        body = {"data": [image, "builtin", "transparent", False, "png"]}
        try:
            answers = [client.post("/gradio_api/call/remove_background", json=body) for _ in range(QUEUED_PER_NETWORK + 4)]
            assert [answer.status_code for answer in answers] == [200] * QUEUED_PER_NETWORK + [429] * 4
            assert "try again" in answers[-1].text
            other = client.post("/gradio_api/call/remove_background", json=body, headers={"X-Forwarded-For": "203.0.113.9"})
            assert other.status_code == 200, "another visitor behind the proxy on this machine"
        finally:
            blocking.release.set()
        done = client.get(f"/gradio_api/call/remove_background/{other.json()['event_id']}").text
    assert "event: complete" in done, "the queue is empty again"


def test_request_bodies_are_limited(server):
    big = "x" * 4_000_000
    with server.client(**{"X-Forwarded-For": "203.0.113.50"}) as client:
        for path in ("/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/call/remove_background"):
            assert client.post(path, json={"data": [big], "session_hash": "big", "fn_index": 0}).status_code == 413

        def pieces() -> Iterator[bytes]:
            yield b'{"data": ["'
            for _ in range(4):
                yield b"x" * 1_000_000
            yield b'"]}'

        headers = {"Content-Type": "application/json"}
        assert client.post("/gradio_api/queue/join", content=pieces(), headers=headers).status_code == 413
        # Each file is below the limit, their sum above it.
        files = [("files", (f"{number}.png", b"x" * 1_000_000)) for number in range(8)]
        assert client.post("/gradio_api/upload", files=files).status_code == 413
    assert not any(name.endswith(".png") and name[-5].isdigit() for name in server.files()), "rejected files are not stored"


@pytest.mark.parametrize(
    "path",
    [
        "file=http://127.0.0.1:1/x.png",
        "file=https://example.org/x.png",
        "proxy=https://x.hf.space/",
        "deep_link?session_hash=x",
        "component_server",
        "process_recording",
        "vibe-edit",
        "vibe-code",
        "../monitoring",
        "../monitoring/summary",
        "../login",
        "stream/x",
        "run-history/connect",
        "dev/reload",
        "../docs",
        "../openapi.json",
    ],
)
def test_unused_routes_are_disabled(server, path):
    with server.client() as client:
        for method in ("GET", "POST"):
            answer = client.request(method, f"/gradio_api/{path}".replace("gradio_api/../", ""), json={})
            assert answer.status_code in (404, 405), (method, answer.status_code, answer.text[:200])
