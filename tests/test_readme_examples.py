"""The examples in the README's sections on the API run against the app: gradio_client, JavaScript client, curl and MCP."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from rmbg.providers import PROVIDERS
from tests.benchmark.fakes import Fake
from tests.pictures import scene

ROOT = Path(__file__).resolve().parents[1]
SECTION = re.search(r"^## API\n(.*?)^## ", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

#: Time limit of one example in seconds, on a busy machine.
PATIENCE = 120


def examples(language: str, url: str) -> list[str]:
    """Blocks of a language in the section, for the app at `url`."""
    assert SECTION is not None
    blocks = re.findall(rf"^```{language}\n(.*?)^```", SECTION[1], re.DOTALL | re.MULTILINE)
    return [block.replace("http://127.0.0.1:7860", url) for block in blocks]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Current folder with the files that the examples read."""
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "a.jpg"):
        Image.fromarray(scene(120, 160)[0]).save(name)
    with zipfile.ZipFile("photos.zip", "w") as packed:
        packed.write("a.jpg", "b.jpg")
    return tmp_path


def run(command: list[str], text: str) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr


def test_gradio_client(app, folder, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "rmbg-1.4", Fake("rmbg-1.4"))  # without a download
    names: dict = {}
    client, batch = examples("python", app)[:2]
    exec(client, names)
    with Image.open(names["path"]) as cutout:
        assert cutout.mode == "RGBA" and cutout.width < 160
    assert [row["provider"] for row in names["table"]] == ["builtin", "rmbg-1.4"]
    exec(batch, names)
    assert [row["state"] for row in names["table"]] == ["done", "done"]
    assert zipfile.ZipFile(names["results"]).namelist() == ["a.png", "b.png"]
    names["client"].close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(app, folder):
    (script,) = examples("sh", app)
    run(["bash", "-euo", "pipefail"], script)
    with Image.open("cutout.webp") as cutout:
        assert cutout.size == (160, 120) and cutout.mode == "RGBA"


@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="needs node and npm")
def test_javascript_client(app, folder):
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save", "@gradio/client"]
    try:
        done = subprocess.run(install, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        pytest.skip("the package registry of npm is not reachable")
    if done.returncode:
        pytest.skip(f"@gradio/client cannot be installed: {done.stderr[-200:]}")
    (script,) = examples("js", app)
    (folder / "example.mjs").write_text(script)
    run(["node", "example.mjs"], "")
    with Image.open("cutout.jpg") as card:
        assert card.size == (160, 120) and min(card.getpixel((1, 1))) > 250


def test_mcp_client(app, folder):
    pytest.importorskip("mcp")
    script = examples("python", app)[-1]
    run([sys.executable, "-"], script)
    with Image.open("cutout.png") as cutout:
        assert cutout.size == (160, 120) and cutout.getpixel((1, 1))[:3] == (255, 255, 255)
    (configuration,) = examples("json", app)
    assert json.loads(configuration)["mcpServers"]["rmbg"]["url"] == f"{app}/gradio_api/mcp/"
