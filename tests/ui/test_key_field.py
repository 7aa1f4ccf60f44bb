"""The key field passes its value to the event handler and keeps it out of Gradio's session state."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import httpx
import pytest

from rmbg.ui.components.providers import key_field

KEY = "visitors-own:key"


@pytest.mark.parametrize("typed", [KEY, "", None])
def test_key_is_passed_on_and_not_stored(own_data, typed):
    received = []
    with gr.Blocks() as blocks:
        key, other, start = key_field(), gr.Textbox(), gr.Button()
        start.click(lambda *values: received.append(values), [key, other], None, queue=False)
        start.click(lambda: gr.update(visible=True, value=""), None, key, queue=False)
    assert key.get_block_name() == other.get_block_name(), "the frontend component is that of a Textbox"
    blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{blocks.server_port}", trust_env=False) as client:
            for number, values in enumerate([[typed, "words"], [], [typed, "words"]]):
                body = {"session_hash": "visitor", "fn_index": number % 2, "data": values}
                client.post("/gradio_api/run/predict", json=body).raise_for_status()
            assert received == [(typed or "", "words")] * 2
            link = client.get("/gradio_api/deep_link", params={"session_hash": "visitor"}).json()
        kept = json.dumps(list(blocks.app.state_holder["visitor"].components), default=str)
        assert "words" in kept and KEY not in kept
        linked = (Path(blocks.app.uploaded_file_dir) / "deep_links" / link / "state.json").read_text()
        assert "words" in linked and KEY not in linked
    finally:
        blocks.close(verbose=False)
