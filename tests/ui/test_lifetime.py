"""Lifetime of a visitor's session, over HTTP as a browser uses it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rmbg.ui.session import Session
from tests.servers.web import until


@pytest.fixture
def blocks(own_data: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Running app with a session lifetime of one second after the page is closed, instead of one hour.

    It starts although its own first request fails, as on a busy machine.
    """
    from rmbg.ui import app

    monkeypatch.setattr("gradio.networking.url_ok", lambda url: False)
    blocks = app.launch(host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    blocks.app.state_holder.seconds = 1.0
    yield blocks
    blocks.close(verbose=False)


def open_page(client: httpx.Client, visitor: str) -> None:
    """Send the load events of the page with the values of their inputs."""
    config = client.get("/config").json()
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    for event in config["dependencies"]:
        if event["backend_fn"] and event["queue"] is False and any(trigger == "load" for _, trigger in event["targets"]):
            data = [values[part] for part in event["inputs"]]
            body = {"session_hash": visitor, "fn_index": event["id"], "data": data}
            client.post("/gradio_api/run/predict", json=body).raise_for_status()


def session_of(blocks: Any, visitor: str) -> Session:
    state = next(part for part in blocks.blocks.values() if isinstance(getattr(part, "value", None), Session))
    return blocks.app.state_holder[visitor][state._id]


def test_files_exist_while_the_page_is_open_and_are_removed_afterwards(blocks):
    with httpx.Client(base_url=f"http://127.0.0.1:{blocks.server_port}", trust_env=False) as client:
        with client.stream("GET", "/gradio_api/heartbeat/visitor") as alive:
            beats = alive.iter_text()  # the open heartbeat keeps the session alive
            next(beats)
            open_page(client, "visitor")
            folder: Path = session_of(blocks, "visitor").own_folder()
            time.sleep(3)
            assert blocks._queue.sleep_when_free >= 0.005, "an idle server does not check its queues every millisecond"
            assert folder.exists() and session_of(blocks, "visitor").own_folder() == folder
        assert until(lambda: not folder.exists(), 30)
