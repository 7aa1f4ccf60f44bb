"""What becomes of a visitor's session when the page is closed and while it is open; over a real socket, as browsers do it."""

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
    """The running app. Gradio keeps the session of a closed page for an hour, under this setting for a second."""
    from rmbg import ui

    monkeypatch.setenv("GRADIO_IS_E2E_TEST", "1")
    blocks = ui.launch(host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield blocks
    blocks.close(verbose=False)


def open_page(client: httpx.Client, visitor: str) -> None:
    """What the page does when it has been loaded: the events of its loading, each with the values of its inputs."""
    config = client.get("/config").json()
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    for event in config["dependencies"]:
        if any(trigger == "load" for _, trigger in event["targets"]):
            data = [values[part] for part in event["inputs"]]
            body = {"session_hash": visitor, "fn_index": event["id"], "data": data}
            client.post("/gradio_api/run/predict", json=body).raise_for_status()


def session_of(blocks: Any, visitor: str) -> Session:
    return next(value for value in blocks.app.state_holder[visitor].state_data.values() if isinstance(value, Session))


def test_files_stay_with_an_open_page_and_go_with_a_closed_one(blocks):
    with httpx.Client(base_url=f"http://127.0.0.1:{blocks.server_port}", trust_env=False) as client:
        with client.stream("GET", "/gradio_api/heartbeat/visitor") as alive:
            beats = alive.iter_text()  # the connection lasts as long as this
            next(beats)
            open_page(client, "visitor")
            folder: Path = session_of(blocks, "visitor").own_folder()
            time.sleep(3)
            assert folder.exists() and session_of(blocks, "visitor").own_folder() == folder
        assert until(lambda: not folder.exists(), 30)
