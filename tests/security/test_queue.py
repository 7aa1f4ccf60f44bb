"""Limits of the queue and of direct calls, for all routes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.security.server import Server, Visitor, picture


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


def test_direct_calls_are_limited_in_number(server):
    """Direct calls may decode a background picture; forty concurrent ones would take gigabytes."""
    path = server.upload(picture(1500, 2000))
    image = {"path": path, "orig_name": "b.png", "meta": {"_type": "gradio.FileData"}}
    answers: list[int] = []
    with Visitor(server.url, "many") as visitor:
        visitor.remove(server.upload())
        show = visitor.event({"view", "background", "background-picture"}, {"result"}, queue=False)
        body = visitor.body(show, {"background": "image", "background-picture": image, "view": "cutout", "margin": 5})

        together = threading.Barrier(60)

        def request() -> None:
            with httpx.Client(base_url=server.url, trust_env=False, timeout=120) as client:
                client.get("/gradio_api/app_id")  # connects before the concurrent calls start
                together.wait(120)
                answers.append(client.post("/gradio_api/run/predict", json=body).status_code)

        threads = [threading.Thread(target=request) for _ in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert len(answers) == 60 and set(answers) <= {200, 429}
    assert answers.count(429) >= 5 and answers.count(200) >= 4, answers


def test_one_address_cannot_fill_the_queue(server):
    """Other addresses can still join."""
    image = {"path": server.upload(picture(1500, 2000)), "orig_name": "photo.png", "meta": {"_type": "gradio.FileData"}}
    body = {"data": [image, "builtin", "transparent", False, "png"]}
    with server.client() as client:
        answers = [client.post("/gradio_api/call/remove_background", json=body) for _ in range(30)]
        codes = [answer.status_code for answer in answers]
        assert codes.count(429) >= 8, codes
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert "try again" in refused.text
        other = client.post("/gradio_api/call/remove_background", json=body, headers={"X-Forwarded-For": "203.0.113.9"})
        assert other.status_code == 200, "another visitor behind the proxy on this machine"


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
