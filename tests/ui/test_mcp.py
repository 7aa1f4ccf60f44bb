"""The tools of the MCP server, called by the client of the package ``mcp``."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from tests.mcp_client import with_session
from tests.security.server import Running, picture
from tests.servers.removebg import RemoveBg

pytest.importorskip("mcp")

URI = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"


def session(app: str, work: Any, headers: dict[str, str] | None = None) -> Any:
    """Return the result of ``work(session)``."""
    return with_session(f"{app}/gradio_api/mcp/", work, headers)


def call(app: str, tool: str, headers: dict[str, str] | None = None, **arguments: Any) -> Any:
    return session(app, lambda session: session.call_tool(tool, arguments), headers)


def test_tools_and_all_parameters_are_described(app):
    tools = {tool.name: tool for tool in session(app, lambda session: session.list_tools()).tools}
    assert set(tools) == {"remove_background", "compare_providers", "replace_background", "batch", "list_providers"}
    for tool in tools.values():
        assert len(tool.description.split(".")[0]) > 20
        for name, schema in tool.inputSchema["properties"].items():
            assert len(schema.get("description", "")) > 20, f"{tool.name}: {name}"
            assert not name.endswith("key"), "keys are headers"
    assert tools["remove_background"].inputSchema["required"] == ["image"]
    assert tools["batch"].inputSchema["properties"]["images"]["items"]["type"] == "string"


def test_picture_is_a_data_uri_or_an_upload(app):
    upload = f"{app}/gradio_api/file={Running(app).upload()}"
    for image in (URI, upload):
        result = call(app, "remove_background", image=image, crop=0)
        assert not result.isError, result.content
        with Image.open(io.BytesIO(base64.b64decode(result.content[0].data))) as cutout:
            assert cutout.mode == "RGBA" and cutout.width < 160
    result = call(app, "batch", images=[URI, upload])
    assert not result.isError and result.content[0].text.count("'state': 'done'") == 2, result.content


def test_progress_of_a_batch(app):
    messages: list[str | None] = []

    async def received(progress: float, total: float | None, message: str | None) -> None:
        messages.append(message)

    arguments = {"images": [URI, URI, URI]}
    result = session(app, lambda session: session.call_tool("batch", arguments, progress_callback=received))
    assert not result.isError and result.content[0].text.count("'state': 'done'") == 3, result.content
    assert [message for message in messages if message and message.startswith("Progress Photos: Step ")], messages


@pytest.mark.parametrize(
    ("tool", "image"),
    [
        ("remove_background", "https://example.org/a.png"),
        ("remove_background", "/etc/hostname"),
        ("batch", "http://127.0.0.1:1/gradio_api/file=/etc/hostname"),
    ],
)
def test_other_files_are_refused(app, tool, image):
    result = call(app, tool, **({"images": [image]} if tool == "batch" else {"image": image}))
    assert result.isError and not result.content[0].text.startswith("[")
    assert "URL here" in result.content[0].text or "uploads of this server" in result.content[0].text or "url" in str(result)


def test_compare_and_list(app):
    assert "'id': 'builtin'" in call(app, "list_providers").content[0].text
    result = call(app, "compare_providers", image=URI, providers="builtin")
    assert not result.isError and "'provider': 'builtin'" in result.content[0].text


def test_key_of_the_caller_is_a_header(app, tmp_path, monkeypatch, caplog):
    with RemoveBg() as service:
        monkeypatch.setenv("RMBG_REMOVEBG_URL", f"{service.url}/v1.0")
        monkeypatch.setenv("RMBG_RESULT_HOSTS", "127.0.0.1")
        monkeypatch.setenv("RMBG_DATA", str(tmp_path))
        assert "needs a key" in call(app, "remove_background", image=URI, provider="removebg").content[0].text
        headers = {"X-Removebg-Api-Key": service.key}
        result = call(app, "remove_background", headers, image=URI, provider="removebg")
        assert not result.isError and len(service.jobs) == 1 and service.key not in caplog.text + str(result)


def test_replacement_asks_for_consent(app):
    result = call(app, "replace_background", image=URI, prompt="a table")
    assert result.isError and "confirm_paid" in result.content[0].text


def test_guard_protects_the_server(app):
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
    status, _, _ = Running(app).raw(
        "POST", "/gradio_api/mcp/", body, Host="127.0.0.1:1", Origin="https://evil.example", Content_Type="application/json"
    )
    assert status == 403
