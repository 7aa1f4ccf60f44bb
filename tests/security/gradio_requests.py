"""Requests to a running app over plain HTTP, without the checks of a client library."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

import httpx

FILE = {"_type": "gradio.FileData"}


@dataclass(frozen=True)
class Outcome:
    """Outcome of one event: the data it returned, or its error message."""

    success: bool
    data: list[Any]
    message: str


class App:
    """HTTP client of a running app."""

    def __init__(self, address: str, timeout: float = 120.0) -> None:
        self.http = httpx.Client(base_url=address, timeout=timeout, trust_env=False)
        self.config = self.http.get("/config").raise_for_status().json()

    def event(self, name: str) -> int:
        """Return the number of the event with an API name, or of the first event ``elem_id.event`` of a component."""
        ids = {part["props"].get("elem_id"): part["id"] for part in self.config["components"]}
        elem, _, kind = name.partition(".")
        for event in self.config["dependencies"]:
            if event["api_name"] == name or (kind and [ids.get(elem), kind] in [list(t) for t in event["targets"]]):
                return event["id"]
        raise LookupError(name)

    def inputs(self, event: int) -> int:
        return len(next(e for e in self.config["dependencies"] if e["id"] == event)["inputs"])

    def upload(self, data: bytes, name: str = "photo.png") -> str:
        """Upload a file and return its path on the server."""
        return self.http.post("/gradio_api/upload", files={"files": (name, data)}).raise_for_status().json()[0]

    def queue(self, event: str | int, data: list[Any], **more: Any) -> Outcome:
        """Join the queue as the page does, and read the stream until the event is complete."""
        number = self.event(event) if isinstance(event, str) else event
        session = secrets.token_hex(6)
        body = {"data": data, "fn_index": number, "session_hash": session, **more}
        joined = self._post("queue/join", body)
        if joined.status_code != 200:
            return Outcome(False, [], str(joined.json().get("detail", joined.text)))
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    output = message["output"]
                    return Outcome(message["success"], output.get("data", []), str(output.get("error")))
        raise AssertionError("the stream ended before the event did")

    def call(self, name: str, data: list[Any]) -> str:
        """Return the complete event stream of ``/call`` as text."""
        joined = self._post(f"call/{name}", {"data": data})
        if joined.status_code != 200:
            return joined.text
        return self.http.get(f"/gradio_api/call/{name}/{joined.json()['event_id']}").text

    def run(self, name: str, data: list[Any]) -> httpx.Response:
        return self._post(f"run/{name}", {"data": data})

    def _post(self, route: str, body: dict[str, Any]) -> httpx.Response:
        # The JSON encoder of httpx rejects lone surrogates and infinity, which an attacker can send.
        headers = {"Content-Type": "application/json"}
        return self.http.post(f"/gradio_api/{route}", content=json.dumps(body).encode(), headers=headers)
