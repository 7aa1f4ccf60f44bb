"""One visitor or address cannot displace others from the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.processes import with_constants
from tests.security.server import Server, Visitor, picture
from tests.servers.web import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    entry = (*with_constants(ui__server__MAX_VISITORS=60), "serve")
    with Server(tmp_path_factory.mktemp("server"), entry=entry, RMBG_SHARED="1") as server:
        yield server


@pytest.mark.slow
def test_forged_sessions_do_not_evict_active_ones(server):
    """Each new session hash creates a session; the server keeps 60."""
    with Visitor(server.url, "real", **{"X-Forwarded-For": "203.0.113.1"}) as real:
        real.remove(server.upload(picture(200, 300)))
        cancel = real.event(set(), {"start", "cancel", "message", "total"}, queue=False)

        def invent(number: int) -> int:
            body = {"session_hash": f"invented{number}", "fn_index": cancel["id"], "data": [None]}
            sent = {"X-Forwarded-For": f"203.0.113.{2 + number % 2}"}
            return httpx.post(
                f"{server.url}/gradio_api/run/predict", json=body, headers=sent, timeout=120, trust_env=False
            ).status_code

        with ThreadPoolExecutor(4) as pool:
            codes = list(pool.map(invent, range(80)))
        assert set(codes) <= {200, 429, 503}
        message = real.download()
        assert message["success"], message


def test_open_pages_of_an_address_are_limited(server):
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        client._transport = httpx.HTTPTransport(limits=httpx.Limits(max_connections=400))  # type: ignore[attr-defined]
        sent = {"X-Forwarded-For": "203.0.113.77"}
        streams = [client.stream("GET", f"/gradio_api/heartbeat/name{number}", headers=sent) for number in range(200)]
        codes = [stream.__enter__().status_code for stream in streams]
        try:
            assert codes.count(429) >= 50, codes.count(429)
            assert client.get("/config", headers={"X-Forwarded-For": "203.0.113.78"}).status_code == 200
        finally:
            for stream in streams:
                stream.__exit__(None, None, None)
        assert until(lambda: client.get("/config", headers=sent).status_code == 200, 30), "closed pages must not count"


def test_concurrent_downloads_have_separate_files(server):
    with Visitor(server.url, "twice") as visitor:
        visitor.remove(server.upload(picture(900, 1200)))

        def path_of(message: dict) -> str:
            assert message["success"], message
            return message["output"]["data"][0]["value"]["path"]

        event = visitor.event({"format", "quality", "view"}, {"file"})
        options = {"quality": 90, "view": "cutout", "background": "transparent", "margin": 5}
        joined = []
        for form in ("png", "webp", "jpeg", "png"):
            body = visitor.body(event, {**options, "format": form})
            answer = visitor.client.post("/gradio_api/queue/join", json=body).raise_for_status()
            joined.append(answer.json()["event_id"])
        paths: dict[str, str] = {}
        with visitor.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "twice"}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    paths[message["event_id"]] = path_of(message)
                    if len(paths) == len(joined):
                        break
        assert len(set(paths.values())) == 4
        for path in paths.values():
            answer = visitor.client.get(f"/gradio_api/file={path}")
            assert answer.status_code == 200 and len(answer.content) > 100, path
            assert Path(path).name.startswith("photo-cutout")


def test_state_of_a_visitor_does_not_contain_shown_values():
    from rmbg.ui import app
    from rmbg.ui.gradio_overrides import Visitors

    blocks = app.build()
    visitors = Visitors(2, 3600, lambda state: False)
    visitors.set_blocks(blocks)
    state = visitors["one"]
    result = next(block for block in blocks.blocks.values() if block.elem_id == "result")
    state[result._id] = result
    state._update_config(result._id)
    state._update_value_in_config(result._id, "x" * 1_000_000)
    assert not state.config_values
    assert state[result._id] is result
