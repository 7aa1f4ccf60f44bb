"""Events of the page, called with hostile values by a client without a browser while another visitor has results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.security.gradio_requests import FILE
from tests.security.server import Server, Visitor
from tests.sentences import sentence

#: Values of wrong types, sizes and ranges.
HOSTILE: list[Any] = [{"a": 1}, ["x"], float("inf"), float("nan"), -5, 10**12, True, "a" * 5000, "../../etc/passwd", "\0\ud800"]

SELECTIONS: list[Any] = [
    None,
    {},
    [],
    "x",
    5,
    *({"index": index} for index in (None, -1, 99, "0", [0, 0], 0.5, float("inf"), {})),
]

PARTS = [
    "",
    "0,0,0,0,0",
    "9,9,1,1,5",
    "0,0,10,10",
    "-1,0,5,5,5",
    "0,0,1e9,5,5",
    "0,0,9999999,5,5",
    "0,0,5,5,5,5",
    " 0,0,5,5,5",
    "a" * 3999,
]


class Answer(NamedTuple):
    """Response to an event: its outputs, None after an error; the error message; and the whole text."""

    data: list[Any] | None
    error: str
    text: str


class Client(Visitor):
    """Visitor who sends any value to an event ``elem_id.event``."""

    def find(self, name: str) -> dict[str, Any]:
        elem, kind = name.split(".")
        ids = {key for key, props in self.parts.items() if props.get("elem_id") == elem}
        return next(event for event in self.events if any(part in ids and on == kind for part, on in event["targets"]))

    def restoring(self) -> dict[str, Any]:
        """Return the event that restores a visit; its first inputs are the new token and the earlier ones."""
        labels = {key: props.get("label") for key, props in self.parts.items()}
        return next(
            event for event in self.events if [labels.get(part) for part in event["inputs"]][:2] == ["Token", "Earlier tokens"]
        )

    def values(self, event: dict[str, Any]) -> list[Any]:
        return [self.parts.get(part, {}).get("value") for part in event["inputs"]]

    def send(self, event: dict[str, Any], data: Any, **more: Any) -> Answer:
        """Call an event by the route that the page uses, and check that an error is one sentence."""
        direct = event["queue"] is False
        # The encoder of httpx rejects lone surrogates and infinity.
        content = json.dumps({"session_hash": self.name, "fn_index": event["id"], "data": data, **more}).encode()
        route = "run/predict" if direct else "queue/join"
        response = self.client.post(f"/gradio_api/{route}", content=content, headers={"Content-Type": "application/json"})
        output = response.json()
        if not direct and response.status_code == 200:
            output = self._completed(output["event_id"])
        if "detail" in output:  # rejected before the event
            return Answer(None, "", json.dumps(output))
        answer = Answer(output.get("data"), output.get("error") or "", json.dumps(output))
        return answer if answer.data is not None else answer._replace(error=sentence(answer.error))

    def _completed(self, event_id: str) -> dict[str, Any]:
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.name}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed" and message["event_id"] == event_id:
                    return message["output"]
        raise AssertionError("the stream ended before the event did")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), RMBG_MAX_BYTES="2000000") as server:
        yield server
        assert "Traceback" not in server.log.read_text(), server.log.read_text()[-3000:]


@pytest.fixture(scope="module")
def victim(server: Server) -> Iterator[Client]:
    """Visitor with one result, which is complete at the end."""
    with Client(server.url, "the-victim") as visitor:
        assert visitor.remove(server.upload(name="confidential.png"), "confidential.png")["success"]
        yield visitor
        assert visitor.download()["success"]


@pytest.fixture(scope="module", params=["no result", "one result"])
def attacker(server: Server, victim: Client, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client(server.url, f"attacker with {request.param}".replace(" ", "-")) as visitor:
        if request.param == "one result":
            assert visitor.remove(server.upload(name="own.png"), "own.png")["success"]
        yield visitor


def leaks_nothing(answer: Answer) -> bool:
    return not re.search(r"confidential|the-victim|Traceback|site-packages|<class|__i18n__", answer.text)


@pytest.mark.parametrize("name", ["viewer-part.click", "viewer-copy.click", "strip.select", "strip-zip.click", "save.click"])
def test_hostile_value_is_one_sentence(attacker, name):
    """Each input in turn has hostile values, the others those of the page.

    The inputs of most events are the display options: with each of them, one of the values is sent.
    """
    event = attacker.find(name)
    all_values = "with-one-result" in attacker.name and name in ("viewer-part.click", "save.click")
    for position, part in enumerate(event["inputs"]):
        if part not in attacker.parts or attacker.parts[part].get("name") == "state":
            continue
        for value in HOSTILE if all_values else HOSTILE[position % len(HOSTILE) :][:1]:
            data = attacker.values(event)
            data[position] = value
            answer = attacker.send(event, data, event_data={"index": 0})
            assert leaks_nothing(answer), (value, answer.text[:500])
            inner = (answer.data or [None])[0]
            if isinstance(inner, str) and inner.startswith("{"):  # the viewer's own JSON
                sentence(json.loads(inner).get("error", "There is none."))


def test_parts_of_other_forms_are_rejected(attacker):
    event = attacker.find("viewer-part.click")
    for area in PARTS:
        answer = attacker.send(event, [None, area, "cutout"])
        assert answer.data is not None and leaks_nothing(answer)
        sentence(json.loads(answer.data[0])["error"])


def test_strip_opens_own_results_only(attacker):
    event = attacker.find("strip.select")
    for selection in [*SELECTIONS, {"index": 0, "value": {"path": "/etc/passwd", "meta": FILE}}]:
        answer = attacker.send(event, attacker.values(event), event_data=selection)
        assert leaks_nothing(answer), (selection, answer.text[:500])


def test_tokens_of_another_form_restore_nothing(attacker):
    """The name of a connection is no token, although both belong to one visitor."""
    event = attacker.restoring()
    tokens = ["the-victim", "~the-victim", f"{'a' * 43} the-victim {'b' * 43}", "\0", *HOSTILE]
    for position in (0, 1):
        for token in tokens:
            data = attacker.values(event)
            data[position] = token
            assert leaks_nothing(attacker.send(event, data))


def test_photo_of_a_picture_outside_the_uploads_is_rejected(attacker, victim, server):
    """The archive and the copy of a result accept a background picture."""
    for name in ("strip-zip.click", "viewer-copy.click"):
        event = attacker.find(name)
        ids = [attacker.parts.get(part, {}).get("elem_id") for part in event["inputs"]]
        for path in ("/etc/passwd", str(server.log), str(server.temporary)):
            data = attacker.values(event)
            data[ids.index("background")] = "image"
            data[ids.index("background-picture")] = {"path": path, "meta": FILE}
            answer = attacker.send(event, data)
            assert answer.error.startswith("The file is not among the uploads"), answer.text


def test_malformed_and_large_requests_are_rejected(attacker):
    for name in ("viewer-part.click", "viewer-copy.click", "strip.select", "strip-zip.click", "strip-delete.click"):
        event = attacker.find(name)
        assert attacker.send(event, []).error.startswith("The request has 0 values.")
        for data in ({"a": 1}, None, "x"):
            answer = attacker.send(event, data)
            assert answer.data is None and leaks_nothing(answer)
        answer = attacker.send(event, ["x" * 4_000_000])
        assert answer.data is None and "larger than the limit" in answer.text


def test_deletion_removes_own_results_only(attacker, victim):
    for name in ("strip-delete.click", "strip-yes.click", "delete-yes.click"):
        ids = {key for key, props in attacker.parts.items() if props.get("elem_id") == name.partition(".")[0]}
        for event in attacker.events:
            if event["backend_fn"] and any(part in ids for part, _ in event["targets"]):
                assert leaks_nothing(attacker.send(event, attacker.values(event)))
    assert not attacker.download()["success"]
    assert victim.download()["success"]
