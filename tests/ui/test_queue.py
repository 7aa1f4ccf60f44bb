"""The queue over HTTP, as a browser uses it: positions, and each visitor's own result."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from PIL import Image

from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.providers import PROVIDERS
from rmbg.providers.base import RequestContext
from rmbg.providers.builtin import Builtin
from tests.pictures import scene


class BlockingProvider(Builtin):
    """Built-in provider that waits until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.release = threading.Event(), threading.Event()

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        self.started.set()
        assert self.release.wait(600)
        return super().cut(photo, options, context)


@pytest.fixture
def blocking(monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockingProvider]:
    provider = BlockingProvider()
    monkeypatch.setitem(PROVIDERS, "builtin", provider)
    yield provider
    provider.release.set()


class Visitor:
    """HTTP client that starts a removal and reads its events."""

    def __init__(self, app: str, name: str, size: tuple[int, int]) -> None:
        self.client, self.name = httpx.Client(base_url=f"{app}/gradio_api", trust_env=False, timeout=180), name
        out = io.BytesIO()
        Image.fromarray(scene(*size)[0]).save(out, "PNG")
        (path,) = self.client.post("/upload", files={"files": (f"{name}.png", out.getvalue())}).json()
        config = self.client.get(f"{app}/config").json()
        parts = {part["id"]: part["props"] for part in config["components"]}
        self.names = {number: props.get("elem_id") for number, props in parts.items()}
        values = {
            "photo": {"path": path, "orig_name": f"{name}.png", "meta": {"_type": "gradio.FileData"}},
            "provider": "builtin",
        }
        for event in config["dependencies"]:
            inputs, self.outputs = [[self.names[part] for part in event[side]] for side in ("inputs", "outputs")]
            if "photo" in inputs and "strip" in self.outputs:
                break
        data = [values.get(self.names[part], parts[part].get("value")) for part in event["inputs"]]
        self.body = {"session_hash": name, "fn_index": event["id"], "data": data}

    def start(self) -> Iterator[dict[str, Any]]:
        """Start a removal and yield its events."""
        self.client.post("/queue/join", json=self.body).raise_for_status()
        with self.client.stream("GET", "/queue/data", params={"session_hash": self.name}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])

    def facts(self, messages: Iterator[dict[str, Any]]) -> str:
        """Return the summary line of the completed removal."""
        done = next(message for message in messages if message["msg"] == "process_completed")
        return done["output"]["data"][self.outputs.index("facts")]


def test_queued_visitors_get_their_position_and_their_own_result(app, blocking):
    first, second, third = (Visitor(app, name, size) for name, size in (("a", (60, 80)), ("b", (70, 90)), ("c", (80, 100))))
    runs = [first.start()]
    next(message for message in runs[0] if message["msg"] == "process_starts")
    assert blocking.started.wait(120)
    positions = []
    for visitor in (second, third):
        runs.append(visitor.start())
        estimation = next(message for message in runs[-1] if message["msg"] == "estimation")
        positions.append((estimation["rank"], estimation["queue_size"]))
    assert positions == [(0, 1), (1, 2)]
    blocking.release.set()
    facts = [visitor.facts(run) for visitor, run in zip((first, second, third), runs, strict=True)]
    assert ["80 × 60" in facts[0], "90 × 70" in facts[1], "100 × 80" in facts[2]] == [True] * 3
