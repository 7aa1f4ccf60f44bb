"""Two visitors at once: the second is told its place, and gets its own result; over a real socket, as a browser does it."""

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
from rmbg.photo import Photo
from rmbg.providers import PROVIDERS
from rmbg.providers.base import Call
from rmbg.providers.builtin import Builtin
from tests.pictures import scene


class Held(Builtin):
    """Works when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def cut(self, photo: Photo, options: Mapping[str, Any], call: Call) -> Cutout:
        self.begun.set()
        assert self.go.wait(60)
        return super().cut(photo, options, call)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    provider = Held()
    monkeypatch.setitem(PROVIDERS, "builtin", provider)
    yield provider
    provider.go.set()


class Visitor:
    """Presses Remove and reads what the page is told."""

    def __init__(self, app: str, name: str, size: tuple[int, int]) -> None:
        self.client, self.name = httpx.Client(base_url=f"{app}/gradio_api", trust_env=False, timeout=60), name
        out = io.BytesIO()
        Image.fromarray(scene(*size)[0]).save(out, "PNG")
        (path,) = self.client.post("/upload", files={"files": (f"{name}.png", out.getvalue())}).json()
        config = self.client.get(f"{app}/config").json()
        parts = {part["id"]: part["props"] for part in config["components"]}
        self.names = {number: props.get("elem_id") for number, props in parts.items()}
        given = {
            "photo": {"path": path, "orig_name": f"{name}.png", "meta": {"_type": "gradio.FileData"}},
            "provider": "builtin",
        }
        for event in config["dependencies"]:
            inputs, self.outputs = [[self.names[part] for part in event[side]] for side in ("inputs", "outputs")]
            if "photo" in inputs and "strip" in self.outputs:
                break
        data = [given.get(self.names[part], parts[part].get("value")) for part in event["inputs"]]
        self.body = {"session_hash": name, "fn_index": event["id"], "data": data}

    def press(self) -> Iterator[dict[str, Any]]:
        """The messages about the run, one after the other."""
        self.client.post("/queue/join", json=self.body).raise_for_status()
        with self.client.stream("GET", "/queue/data", params={"session_hash": self.name}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])

    def facts(self, messages: Iterator[dict[str, Any]]) -> str:
        """The line under the picture, when it is there."""
        done = next(message for message in messages if message["msg"] == "process_completed")
        return done["output"]["data"][self.outputs.index("facts")]


def test_the_second_visitor_is_told_its_place_and_gets_its_own_result(app, held):
    first, second, third = (Visitor(app, name, size) for name, size in (("a", (60, 80)), ("b", (70, 90)), ("c", (80, 100))))
    runs = [first.press()]
    next(message for message in runs[0] if message["msg"] == "process_starts")
    assert held.begun.wait(30)
    places = []
    for visitor in (second, third):
        runs.append(visitor.press())
        told = next(message for message in runs[-1] if message["msg"] == "estimation")
        places.append((told["rank"], told["queue_size"]))
    assert places == [(0, 1), (1, 2)]
    held.go.set()
    facts = [visitor.facts(run) for visitor, run in zip((first, second, third), runs, strict=True)]
    assert ["80 × 60" in facts[0], "90 × 70" in facts[1], "100 × 80" in facts[2]] == [True] * 3
