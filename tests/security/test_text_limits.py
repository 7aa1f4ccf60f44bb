"""Texts in requests: limited in length, and processed in linear time."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.processes import python
from tests.security.gradio_requests import FILE, App
from tests.security.test_file_references import png

ROOT = Path(__file__).resolve().parents[2]

#: Limit in CPU seconds of this process, in which the app runs: below that of a successful attack.
SECONDS = 6

HOSTILE = {
    "cubic rgb": "rgb(1" + " " * 1000 + "1" + " " * 1000 + "x",
    "longer rgb": "rgb(1" + " " * 20_000 + "1" + " " * 20_000 + "x",
    "overflow": f"rgb({'9' * 400},0,0)",
    "fraction": "hsl(" + "1" * 40_000 + "x",
    "gradient": "gradient:" + "," * 60_000,
    "brackets": "gradient:" + "(," * 30_000,
    "dots": "rgb(" + "." * 50_000,
    "megabytes": "a" * 5_000_000,
    "control characters": "\0\x1b[31m" * 100,
    "surrogate": "\ud800",
}


@pytest.fixture(scope="module")
def visitor(app: str) -> App:
    """A visitor of an app whose network is loaded, so that the limit applies to requests only."""
    visitor = App(app)
    photo = {"path": visitor.upload(png()), "meta": FILE}
    assert visitor.queue("remove_background", [photo, "builtin", "transparent", False, "png"]).success
    return visitor


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("api", ["remove_background", "compare"])
def test_backgrounds_of_the_api(visitor, api, name):
    photo = {"path": visitor.upload(png()), "meta": FILE}
    values = [photo, "builtin", HOSTILE[name], False, "png"]
    started = time.process_time()
    outcome = visitor.queue(api, values if api == "remove_background" else [photo, "builtin", "", HOSTILE[name], False])
    assert time.process_time() - started < SECONDS
    assert not outcome.success and outcome.message.endswith(".") and len(outcome.message) < 400
    assert "\x1b" not in outcome.message


@pytest.mark.parametrize("position", [1, 2, 4])
def test_every_text_of_the_api_has_a_limit(visitor, position):
    values: list[Any] = [{"path": visitor.upload(png()), "meta": FILE}, "builtin", "transparent", False, "png"]
    values[position] = "a" * 4_001
    outcome = visitor.queue("remove_background", values)
    assert not outcome.success and "4,001 characters, more than the limit of 4,000" in outcome.message


@pytest.mark.parametrize("kind", ["Textbox", "KeyField", "ColorPicker", "Dropdown", "Radio"])
def test_every_text_of_the_page_has_a_limit(visitor, kind):
    """Calls the first event that has a component of this type with a long text."""
    kinds = {part["id"]: part["type"] for part in visitor.config["components"]}
    wanted = "textbox" if kind == "KeyField" else kind.lower()
    event, at = next(
        (event, at)
        for event in visitor.config["dependencies"]
        for at, part in enumerate(event["inputs"])
        if kinds[part] == wanted and event["backend_fn"]
    )
    values = {part["id"]: part["props"].get("value") for part in visitor.config["components"]}
    data: list[Any] = [values[part] for part in event["inputs"]]
    data[at] = "a" * 1_000_000
    outcome = visitor.queue(event["id"], data)
    assert not outcome.success and "limit of 4,000" in outcome.message and len(outcome.message) < 300


@pytest.mark.parametrize(
    "value", [{"a": 1}, ["text"], [[[[]]]], 1e400, -(10**30), {"path": "a"}, {"__type__": "update", "visible": True}], ids=repr
)
def test_values_of_another_type(visitor, value):
    values = [{"path": visitor.upload(png()), "meta": FILE}, value, "transparent", False, "png"]
    outcome = visitor.queue("remove_background", values)
    assert not outcome.success and outcome.message.endswith("takes text.")


def test_too_few_values(visitor, capfd):
    outcome = visitor.queue("remove_background", ["a secret text"])
    assert not outcome.success and outcome.message == "The request has 1 values. This function takes 5."
    assert "secret" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "address",
    ["http://xn--/", "http://xn--a.example/", "http://a" + "." * 3000, "http://" + "a" * 10**6, "http://[::1%25]/", "\0"],
)
def test_addresses(visitor, address, capfd):
    started = time.process_time()
    outcome = visitor.queue("load.click", [address])
    assert time.process_time() - started < SECONDS
    text = outcome.data[1] if outcome.success else outcome.message
    assert any(words in text for words in ("web address", "limit of 4,000", "cannot be resolved", "private network"))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["cubic rgb", "overflow", "gradient", "brackets", "dots", "control characters"])
def test_backgrounds_of_the_command_line(tmp_path, name):
    photo, text = tmp_path / "photo.png", HOSTILE[name].replace("\0", "")
    photo.write_bytes(png())
    command = python("-m", "rmbg", "remove", photo, tmp_path / "out.png", "--background", text)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 2 and len(done.stderr) < 400
    assert done.stderr.startswith("rmbg: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--background", "--provider", "--format", "--option"])
def test_every_text_of_the_command_line_has_a_limit(tmp_path, option):
    photo = tmp_path / "photo.png"
    photo.write_bytes(png())
    command = python("-m", "rmbg", "remove", photo, tmp_path / "out.png", option, "a=" + "b" * 5000)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 2 and "5,002 characters, more than the limit of 4,000" in done.stderr
