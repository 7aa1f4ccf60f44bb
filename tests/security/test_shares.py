"""One client has a share of the places, the device and the memory, and waits in turn with all others."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import pytest

from rmbg.batch.plan import Recipe
from rmbg.batch.processes import result_in_background
from rmbg.cutout import Cutout
from rmbg.errors import CancelledError
from rmbg.images.photo import Photo, open_photo
from rmbg.providers import PROVIDERS
from rmbg.providers.base import RequestContext
from rmbg.ui.components.inputs import Upload
from rmbg.ui.guard.checks import Refused
from rmbg.ui.guard.connections import CLIENT, networks_of
from rmbg.ui.guard.limits import Limits
from rmbg.ui.lanes import LARGE_PIXELS, Client, Lane, memory_for
from tests.mcp_client import with_session
from tests.processes import with_constants
from tests.security.server import Running, Server, Visitor, picture
from tests.ui import test_queue
from tests.ui.test_mcp import URI
from tests.ui.test_queue import BlockingProvider

TIMEOUT = 120

IMAGE = {"url": URI, "orig_name": "photo.png", "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    ("address", "networks"),
    [
        ("203.0.113.7", {"203.0.113.7": 1}),
        ("::ffff:203.0.113.7", {"203.0.113.7": 1}),
        ("2001:db8:1:2:3:4:5:6", {"2001:db8:1:2::/64": 1, "2001:db8:1::/48": 2}),
        ("fe80::1%eth0", {"fe80::/64": 1, "fe80::/48": 2}),
        ("", {"": 1}),
        ("testclient", {"testclient": 1}),
    ],
)
def test_networks_of_an_address(address, networks):
    assert networks_of(address) == networks


def test_uploads_of_a_network_are_limited_together(monkeypatch):
    monkeypatch.setenv("RMBG_SHARED", "1")
    limits = Limits(100, list)
    limits.count_upload("203.0.113.7", 90)
    with pytest.raises(Refused, match="upload limit"):
        limits.count_upload("203.0.113.7", 20)
    limits.count_upload("203.0.113.7", 10)
    limits.count_upload("203.0.113.8", 90)
    monkeypatch.setattr("rmbg.ui.guard.limits.UPLOAD_WINDOW", -1)  # the earlier ones have expired
    limits.count_upload("203.0.113.7", 90)


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    entry = (*with_constants(ui__server__MAX_VISITORS=24), "serve")
    with Server(tmp_path_factory.mktemp("server"), entry=entry, RMBG_SHARED="1") as server:
        yield server


def test_sessions_from_a_network_of_ipv6_do_not_take_all_places(small_server):
    """From five addresses, each session with an event and an open heartbeat; the server has 24 places."""
    with Visitor(small_server.url, "other", **{"X-Forwarded-For": "2001:db8:2::1"}) as other, contextlib.ExitStack() as stack:
        assert other.remove(small_server.upload(picture()))["success"]
        cancel = other.event(set(), {"start", "cancel", "message", "total"}, queue=False)
        client = httpx.Client(
            base_url=small_server.url, trust_env=False, timeout=TIMEOUT, limits=httpx.Limits(max_connections=90)
        )
        stack.enter_context(client)
        for number in range(60):
            sent = {"X-Forwarded-For": f"2001:db8:66:1::{number % 5 + 1:x}"}
            stack.enter_context(client.stream("GET", f"/gradio_api/heartbeat/many{number}", headers=sent))
            body = {"session_hash": f"many{number}", "fn_index": cancel["id"], "data": [None]}
            client.post("/gradio_api/run/predict", json=body, headers=sent)
        with Visitor(small_server.url, "new", **{"X-Forwarded-For": "2001:db8:3::1"}) as new:
            message = new.remove(small_server.upload(picture()))
            assert message["success"], message
        assert other.download()["success"], "the result of a visitor who was there before"


@pytest.fixture(scope="module")
def full_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One network may have one of its four places."""
    entry = (*with_constants(ui__server__MAX_VISITORS=4), "serve")
    with Server(tmp_path_factory.mktemp("server"), entry=entry, RMBG_SHARED="1") as server:
        yield server


def result_of(server: Running, name: str, data: list[Any], **headers: str) -> tuple[str, Any]:
    """Return the last event of a call of the API and its data."""
    with server.client(**headers) as client:
        answer = client.post(f"/gradio_api/call/{name}", json={"data": data}).raise_for_status()
        stream = client.get(f"/gradio_api/call/{name}/{answer.json()['event_id']}").text
    *_, event, value = stream.strip().split("\n")
    return event.removeprefix("event: "), json.loads(value.removeprefix("data: "))


def test_error_of_the_visitor_limit_is_a_sentence(full_server):
    sent = {"X-Forwarded-For": "203.0.113.5"}
    with Visitor(full_server.url, "first", **sent) as first:
        assert first.remove(full_server.upload(picture()))["success"]
        event, answer = result_of(full_server, "list_providers", [], **sent)
        assert event == "error" and "limit of visitors from your network" in answer["error"], answer
        cancel = first.event(set(), {"start", "cancel", "message", "total"}, queue=False)
        first.name = "second"
        direct = first.call(cancel, {})
        assert direct.status_code == 503 and "limit of visitors from your network" in direct.json()["detail"], direct.text
        first.name = "first"
        event, answer = result_of(full_server, "list_providers", [], **{"X-Forwarded-For": "203.0.113.6"})
        assert event == "complete" and answer[0][0]["id"], "another network has its own places"
    assert "Traceback" not in full_server.log.read_text()


def test_network_that_calls_without_pause_is_slowed_down(tmp_path):
    entry = (*with_constants(ui__guard__limits__CALLS_AT_ONCE=10), "serve")
    body = {"data": [], "session_hash": "many"}
    with Server(tmp_path, entry=entry, RMBG_SHARED="1") as server, server.client() as client:

        def statuses(network: str) -> list[int]:
            sent = {"X-Forwarded-For": f"2001:db8:{network}::{next(hosts):x}"}
            answers = [client.post("/gradio_api/call/list_providers", json=body, headers=sent)]
            with client.stream("GET", "/gradio_api/heartbeat/many", headers=sent) as opened:
                return [*(answer.status_code for answer in answers), opened.status_code]

        hosts = iter(range(1, 1000))
        of_many = [statuses("66:1") for _ in range(30)]
        assert of_many[:5] == [[200, 200]] * 5 and [429, 429] in of_many, of_many
        assert statuses("67:1") == [200, 200], "another network"
        of_site = [statuses(f"66:{subnet:x}") for subnet in range(2, 60)]
        assert of_site[0] == [200, 200] and [429, 429] in of_site, "many networks of one subscriber"


def test_errors_of_the_guard_are_in_the_fields_of_both_clients(full_server):
    with full_server.client() as client:
        answer = client.post("/gradio_api/call/nothing", json={"data": ["x" * 200_000_000]})
    assert answer.status_code == 413 and answer.json()["error"] == answer.json()["detail"] != ""


def test_http_error_inside_an_event_is_a_sentence(app, monkeypatch, capfd):
    from starlette.exceptions import HTTPException

    def failing(*_: Any) -> Any:
        raise HTTPException(418, "This is one sentence.")

    monkeypatch.setattr("rmbg.ui.api.endpoints.describe", failing)
    event, answer = result_of(Running(app), "list_providers", [])
    assert event == "error" and answer["error"] == "This is one sentence."
    assert "Traceback" not in capfd.readouterr().err


def test_encoding_does_not_hold_the_device(app, monkeypatch):
    """Encoding of one visitor's photo waits until the other visitor has a result."""
    encoding, done, encode = threading.Event(), threading.Event(), Recipe.encode

    def slow(self: Recipe, *args: Any) -> bytes:
        if self.form.suffix == ".avif":
            encoding.set()
            assert done.wait(TIMEOUT)
        return encode(self, *args)

    monkeypatch.setenv("RMBG_SHARED", "1")
    monkeypatch.setattr(Recipe, "encode", slow)
    answers: list[Any] = []
    data = [IMAGE, "builtin", "transparent", False]
    first = threading.Thread(target=lambda: answers.append(result_of(Running(app), "remove_background", [*data, "avif"])))
    first.start()
    try:
        assert encoding.wait(30)
        event, _ = result_of(Running(app), "remove_background", [*data, "png"], **{"X-Forwarded-For": "203.0.113.9"})
        assert event == "complete" and not answers
    finally:
        done.set()
        first.join(TIMEOUT)
    assert answers[0][0] == "complete"


def test_one_large_photo_of_the_api_is_in_memory_at_a_time():
    side = int(LARGE_PIXELS**0.5) + 1
    large, small = (Photo(np.zeros((rows, side, 3), np.uint8), None, "photo") for rows in (side, 10))

    def give_up() -> None:
        raise CancelledError("Stopped.")

    with memory_for(large, give_up):
        with memory_for(small, give_up):
            pass
        with pytest.raises(CancelledError), memory_for(large, give_up):
            raise AssertionError("not reached")
    with memory_for(large, give_up):
        pass


def test_large_photo_of_the_api_is_processed_by_a_process_of_its_own(app, monkeypatch):
    """This process does not decode it."""
    opened, results = [], []

    def recorded(*args: Any) -> Any:
        results.append(result_in_background(*args))
        return results[-1]

    monkeypatch.setattr("rmbg.ui.api.endpoints.result_in_background", recorded)
    monkeypatch.setattr("rmbg.ui.api.endpoints.LARGE_PIXELS", 15_000)
    monkeypatch.setattr(Upload, "open", lambda self: opened.append(self.name) or open_photo(self.path, name=self.name))
    image = {**IMAGE, "url": "data:image/png;base64," + base64.b64encode(picture(120, 160)).decode()}
    event, answer = result_of(Running(app), "remove_background", [image, "builtin", "#ff8800", False, "png"])
    assert event == "complete" and len(results) == 1 and not opened, answer
    with Running(app).client() as client:
        assert client.get(answer[0]["url"]).content == results[0].data
    assert answer[0]["orig_name"] == "photo-cutout.png"
    damaged = {**IMAGE, "url": "data:image/png;base64,AAAA"}
    event, answer = result_of(Running(app), "remove_background", [damaged, "builtin", "#ff8800", False, "png"])
    assert event == "error" and answer["error"].startswith("photo"), answer


class Recording(BlockingProvider):
    """Records the photos in the order of their processing."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.clients: list[str] = []

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        self.order.append(photo.name)
        self.clients.append(CLIENT.get())
        return super().cut(photo, options, context)


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    provider = Recording()
    monkeypatch.setenv("RMBG_SHARED", "1")
    monkeypatch.setitem(PROVIDERS, "builtin", provider)
    yield provider
    provider.release.set()


def test_visitor_of_the_page_who_sends_one_photo_does_not_wait_for_all_of_another_one(app, recording):
    def visitor(name: str, address: str) -> test_queue.Visitor:
        new = test_queue.Visitor(app, name, (120, 160))
        new.client.headers["X-Forwarded-For"] = address
        return new

    many = [visitor(f"many{number}", "203.0.113.66") for number in range(4)]
    one = visitor("one", "203.0.113.1")
    threads = []
    for each in [*many, one]:
        messages = each.start()
        next(messages)  # it is in the queue
        threads.append(threading.Thread(target=each.facts, args=(messages,)))
        threads[-1].start()
    assert recording.started.wait(TIMEOUT)
    recording.release.set()
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(recording.order) == 5 and recording.order.index("one") <= 2, recording.order


def test_lanes_know_the_client_of_work_in_other_threads(app, monkeypatch):
    seen, join = [], Lane._join

    def recorded(self: Lane, client: Client, **options: Any) -> Any:
        seen.append(client.network)
        return join(self, client, **options)

    monkeypatch.setenv("RMBG_SHARED", "1")
    monkeypatch.setattr(Lane, "_join", recorded)
    sent = {"X-Forwarded-For": "203.0.113.8"}
    for name, data in (("compare", [IMAGE, "builtin"]), ("batch", [[IMAGE], "builtin"])):
        with Running(app).client() as client:
            info = client.get("/gradio_api/info").json()["named_endpoints"][f"/{name}"]["parameters"]
        rest = [parameter.get("parameter_default") for parameter in info[len(data) :]]
        seen.clear()
        event, answer = result_of(Running(app), name, [*data, *rest], **sent)
        assert event == "complete", answer
        assert len(seen) > 1 and set(seen) == {"203.0.113.8"}, (name, seen)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all addresses of 127.0.0.0/8")
def test_tools_are_called_for_the_address_of_the_client(app, recording):
    pytest.importorskip("mcp")
    recording.release.set()
    for headers in (None, {"X-Rmbg-Client": "secret 203.0.113.99"}):
        recording.clients.clear()
        work = lambda session: session.call_tool("remove_background", {"image": URI, "provider": "builtin"})  # noqa: E731
        result = with_session(f"{app}/gradio_api/mcp/", work, headers, "127.0.0.2")
        assert not result.isError, result.content
        assert recording.clients == ["127.0.0.2"]
