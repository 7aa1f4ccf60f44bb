"""Concurrent requests for small networks: cores, queue, fairness, disconnects, and the stop of a server."""

from __future__ import annotations

import base64
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from rmbg import remove_background
from rmbg.billing.client_keys import ClientKeys
from rmbg.images.encode import FORMATS, encode
from rmbg.providers import PROVIDERS
from rmbg.runtime.threads import one_core
from rmbg.settings import Settings
from rmbg.ui import server
from rmbg.ui.lanes import Client, Lane
from tests.disc import Disc
from tests.pictures import examples
from tests.remote import picture
from tests.rest.conftest import error
from tests.rest.test_server import body, start
from tests.security.server import Server
from tests.servers.web import until


class Small(Disc):
    """Small network that stores the width of its photos, and whether it was restricted to one core."""

    small_network = True

    def __init__(self) -> None:
        super().__init__()
        self.widths: list[int] = []
        self.restricted: list[bool] = []

    def cut(self, photo, options, context):
        with context.device(context.check):
            self.widths.append(photo.width)
            self.restricted.append(one_core())
            return super().cut(photo, options, context)


@pytest.fixture
def small(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> Small:
    """The provider of the API, on a machine with two cores."""
    provider = Small()
    monkeypatch.setitem(PROVIDERS, "disc", provider)
    monkeypatch.setattr(server, "CORES", Lane(2, reserve=False))
    return provider


def hold(lane: Lane) -> ExitStack:
    """Hold both slots of a lane until the result is closed."""
    stack = ExitStack()
    for _ in range(2):
        stack.enter_context(lane.turn(lambda: None))
    return stack


def test_single_request_uses_all_cores_and_several_one_each(remove, small):
    assert remove().status_code == 200 and small.restricted == [False]
    small.gather = 2
    with ThreadPoolExecutor(4) as pool:
        assert [response.status_code for response in pool.map(lambda _: remove(), range(4))] == [200] * 4
    assert small.max_concurrent == 2
    assert small.restricted[1:].count(True) >= 2


def test_alpha_matting_does_not_wait_for_a_core(remove, small):
    with hold(server.CORES):
        assert remove(rmbg_alpha_matting="closed-form").status_code == 200


def test_full_queue_is_answered_at_once(client, remove, small, monkeypatch):
    monkeypatch.setattr("rmbg.ui.lanes.MAX_WAITING", 1)
    with hold(server.CORES) as held, start(str(client.base_url)) as connection:
        assert until(lambda: server.CORES.waiting == 1, 60)
        response = remove()
        assert error(response) == (429, "rate_limit_exceeded") and response.headers["retry-after"] == "10"
        held.close()
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_keys_take_turns(remove, small, tmp_path, monkeypatch):
    monkeypatch.setenv("RMBG_SHARED", "1")
    monkeypatch.setenv("RMBG_DATA", str(tmp_path))
    monkeypatch.setattr(server, "CORES", Lane(1, reserve=False))
    keys = ClientKeys(Settings.from_environ())
    secrets = {name: keys.create(name) for name in ("one", "other")}
    with ThreadPoolExecutor(4) as pool, server.CORES.turn(lambda: None):
        for count, (name, width) in enumerate((("one", 60), ("one", 61), ("one", 62), ("other", 70)), 1):
            pool.submit(remove, {"image_file": picture(width, 60)}, {"X-Api-Key": secrets[name]})
            assert until(lambda count=count: server.CORES.waiting == count, 60)
    assert small.widths == [60, 70, 61, 62]


def test_network_of_a_shared_server_may_use_all_cores(monkeypatch):
    monkeypatch.setenv("RMBG_SHARED", "1")
    lane, client = Lane(2, reserve=False), Client("A", "a")
    assert all(ticket.holds_slot for ticket in [lane._join(client), lane._join(client)])


def test_disconnects_leave_the_other_requests_unchanged(app, remove):
    photo = examples()[0].read_bytes()
    expected = encode(remove_background(photo, "builtin").render(), FORMATS["png"])
    random_ = random.Random(1)

    def send(number: int) -> bytes:
        if number % 3:
            return remove({"image_file": photo}, size="auto", rmbg_provider="builtin").content
        with start(app, body(rmbg_provider="builtin", image_file_b64=base64.b64encode(photo).decode())):
            time.sleep(random_.uniform(0, 0.5))
        return expected

    with ThreadPoolExecutor(6) as pool:
        assert all(found == expected for found in pool.map(send, range(18)))
    assert until(lambda: not server.CORES.busy and not server.CORES._holding, 60)


def test_stop_finishes_the_requests_in_progress(tmp_path):
    with Server(tmp_path) as running:
        connections = [start(running.url, body(rmbg_provider="builtin")) for _ in range(4)]
        assert until(lambda: "rmbg_removals" in running.raw("GET", "/metrics")[2], 60)
        assert running.stop() == 0
        for connection in connections:
            assert connection.recv(12) == b"HTTP/1.1 200"
            connection.close()
