"""rmbg.ui.gradio_overrides and rmbg.ui: one test for each change of Gradio, and the version that they were written for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.queueing import Queue
from gradio.state_holder import SessionState

from rmbg.ui.gradio_overrides import NoEstimates, Visitors, VisitorState, page_files, queued, set_up_queue

#: Version of Gradio that the overrides were written for, without the last part.
WRITTEN_FOR = "6.31"

ADVICE = (
    f"The overrides of Gradio were written for {WRITTEN_FOR} and this is {gr.__version__}: compare the named part with "
    "Gradio's new source, adapt or delete it in rmbg/ui/gradio_overrides.py, then set WRITTEN_FOR."
)

IMPORT = """
import pathlib
used = []
write = pathlib.Path.write_text
pathlib.Path.write_text = lambda path, *arguments, **options: used.append(path) or write(path, *arguments, **options)
read = pathlib.Path.read_text
pathlib.Path.read_text = lambda path, *arguments, **options: used.append(path) or read(path, *arguments, **options)
import rmbg.ui
import gradio
assert gradio.Textbox(value="text").value == "text"
stubs = [path for path in used if path.suffix == ".pyi"]
assert not stubs, stubs
import sys
assert not any("rmbg" in type(finder).__module__ for finder in sys.meta_path)
"""


@pytest.fixture(scope="module")
def text(app: str) -> str:
    """The page as it is sent."""
    return httpx.get(app, trust_env=False, timeout=60).raise_for_status().text


def part(text: str, start: str) -> dict[str, Any]:
    """Return the JSON object that follows `start` in a script of the page."""
    return json.JSONDecoder().raw_decode(text, text.index(start) + len(start))[0]


@pytest.fixture(scope="module")
def page(text: str) -> dict[str, Any]:
    """Configuration of the page."""
    return part(text, "window.gradio_config = ")


@pytest.fixture
def blocks() -> gr.Blocks:
    with gr.Blocks() as blocks:
        gr.Textbox("a" * 1000).change(lambda: None, None, None)
    return blocks


def test_version_is_the_one_that_the_overrides_were_written_for():
    assert gr.__version__.startswith(f"{WRITTEN_FOR}."), ADVICE


def test_no_stub_is_read_or_written():
    found = subprocess.run([sys.executable, "-c", IMPORT], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert found.returncode == 0, f"create_or_modify_pyi: {ADVICE}\n{found.stderr}"


def test_no_stub_is_written_if_gradio_was_imported_before():
    code = "import gradio, rmbg.ui; from gradio import component_meta as m; assert m.create_or_modify_pyi(1, 2, 3) is None"
    found = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert found.returncode == 0, f"create_or_modify_pyi: {ADVICE}\n{found.stderr}"


def test_hidden_progress_is_reported_to_one_component(page):
    hidden = [event for event in page["dependencies"] if event["show_progress"] == "hidden"]
    own = [event["outputs"] for event in hidden if event["show_progress_on"] is None]
    assert len(hidden) > 100 and len(own) == 2, "only the options of a provider, which gr.render creates"
    assert len({tuple(event["show_progress_on"]) for event in hidden if event["show_progress_on"]}) == 1


def test_page_describes_the_endpoints(text):
    described = part(text, "window.gradio_api_info = ")["named_endpoints"]
    assert len(described) == 5
    assert "contact_shadow" in [each["parameter_name"] for each in described["/remove_background"]["parameters"]]


def test_page_is_in_the_language_of_the_request_and_its_api_in_english(app):
    french = httpx.get(app, headers={"Accept-Language": "fr"}, trust_env=False, timeout=60).text
    shown = json.dumps(part(french, "window.gradio_config = "))
    assert "\\ue000" not in shown and '"Remove background"' not in shown, f"CheckedBlocks.config: {ADVICE}"
    described = json.dumps(part(french, "window.gradio_api_info = "))
    assert "Background color" not in described or "\\ue000" not in described, f"CheckedBlocks.get_api_info: {ADVICE}"


@pytest.mark.parametrize("name", ["process_api", "preprocess_data", "call_function", "get_api_info"])
def test_overridden_methods_exist(name):
    assert callable(getattr(gr.Blocks, name, None)), f"CheckedBlocks.{name}: {ADVICE}"


def test_values_are_checked_before_gradio_converts_them(app):
    body = {"data": ["/etc/passwd"]}
    url = f"{app}/gradio_api/call/remove_background"
    call = httpx.post(url, json=body, trust_env=False, timeout=60).raise_for_status().json()["event_id"]
    reply = httpx.get(f"{url}/{call}", trust_env=False, timeout=60).text
    assert "The request has 1 values." in reply and "passwd" not in reply, f"CheckedBlocks.preprocess_data: {ADVICE}\n{reply}"


def test_queue_stores_no_estimates_and_its_interval_is_used(blocks):
    set_up_queue(blocks)
    times, function = blocks._queue.process_time_per_fn, next(iter(blocks.fns.values()))
    assert isinstance(times, NoEstimates)
    times[function].add(5)
    assert function not in times and times[function].avg_time == 0, f"NoEstimates: {ADVICE}"
    assert "sleep_when_free" in Queue.start_processing.__code__.co_names, f"QUEUE_INTERVAL: {ADVICE}"
    assert queued(blocks) == [], f"queued: {ADVICE}"


def test_files_of_the_page_are_found(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with gr.Blocks() as blocks:
        gr.File(str(tmp_path / "a.txt"))
    assert any(Path(path).name == "a.txt" for path in page_files(blocks)), f"page_files: {ADVICE}"


def test_state_of_a_visitor_has_no_configuration_of_components(blocks):
    text = next(iter(blocks.blocks.values()))
    original, state = SessionState(blocks), VisitorState(blocks)
    assert original.config_values, f"VisitorState: {ADVICE}"
    state[text._id] = text
    state._update_config(text._id)
    state._update_value_in_config(text._id, "b")
    assert not state.config_values and state[text._id] is text, f"VisitorState: {ADVICE}"


def test_state_of_a_visitor_builds_no_configuration(blocks, monkeypatch):
    """The page has hundreds of components, whose configurations take a third of a second."""

    def built(*_: object) -> None:
        raise AssertionError(f"VisitorState: {ADVICE}")

    monkeypatch.setattr(type(blocks.default_config), "config_for_block", built)
    VisitorState(blocks)


def test_states_are_dropped_by_the_last_use_of_their_address(blocks):
    visitors = Visitors(2, 0, lambda state: False)
    visitors.set_blocks(blocks)
    assert blocks.state_holder is visitors, f"Visitors: {ADVICE}"
    first, _ = visitors["first"], visitors["second"]
    with visitors.open_page("first"):
        assert "third" not in visitors and visitors["third"] is not first
        assert set(visitors.session_data) == {"first", "third"}
        visitors.delete_all_expired_state()
        assert set(visitors.session_data) == {"first"}, f"Visitors: {ADVICE}"
