"""The examples of README and docs: the package, rembg, ComfyUI, gradio_client, JavaScript client, curl and MCP."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from rmbg.billing.quote import quote
from rmbg.providers import OPENED, PROVIDERS
from rmbg.settings import Settings
from tests.benchmark.fakes import Fake
from tests.onnx_files import color_network
from tests.pictures import iou, scene

ROOT = Path(__file__).resolve().parents[1]
#: Time limit of one example in seconds, on a busy machine.
PATIENCE = 120


def examples(page: str, language: str, url: str = "") -> list[str]:
    """Blocks of a language in a page of README or docs, for the app at `url`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [block.replace("http://127.0.0.1:7860", url) for block in blocks]


#: Fenced blocks that the tests of this file execute, those that are configurations of other programs, and the files of a
#: plug-in, which ``tests/providers/test_plugins.py`` installs and runs.
BLOCKS = {
    ("README.md", "python"): 1,
    ("README.md", "sh"): 1,
    ("docs/tutorial.md", "python"): 1,
    ("docs/tutorial-plugin.md", "toml"): 1,
    ("docs/tutorial-plugin.md", "python"): 1,
    ("docs/how-to/python.md", "python"): 1,
    ("docs/how-to/own-models.md", "python"): 1,
    ("docs/how-to/own-models.md", "toml"): 1,
    ("docs/how-to/prices.md", "toml"): 1,
    ("docs/how-to/rembg.md", "python"): 1,
    ("docs/how-to/comfyui.md", "python"): 1,
    ("docs/how-to/api.md", "python"): 2,
    ("docs/how-to/api.md", "sh"): 1,
    ("docs/how-to/api.md", "js"): 1,
    ("docs/how-to/removebg-api.md", "sh"): 1,
    ("docs/how-to/removebg-api.md", "python"): 1,
    ("docs/how-to/mcp.md", "python"): 1,
    ("docs/how-to/mcp.md", "json"): 1,
    ("docs/how-to/many-machines.md", "yaml"): 1,
}


def test_every_block_is_executed():
    found: dict[tuple[str, str], int] = {}
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for language in re.findall(r"^```(\w+)\n", path.read_text(encoding="utf-8"), re.MULTILINE):
            key = (path.relative_to(ROOT).as_posix(), language)
            found[key] = found.get(key, 0) + 1
    assert found == BLOCKS


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


def test_package(folder, monkeypatch):
    names: dict = {"picture": Image.open("photo.jpg")}
    for page in ("docs/tutorial.md", "docs/how-to/python.md", "README.md"):
        (remove,) = examples(page, "python")
        exec(remove, names)
    (rembg,), (node,) = (examples(f"docs/how-to/{page}.md", "python") for page in ("rembg", "comfyui"))
    with Image.open("square.jpg") as square:
        assert square.width == square.height
    with Image.open("card.jpg") as card:
        assert card.size == (160, 120) and min(card.getpixel((1, 1))) > 250
    monkeypatch.setitem(PROVIDERS, "birefnet", Fake("birefnet"))  # without a download
    exec(rembg, names)
    assert names["mask"].mode == "L" and names["mask"].size == (160, 120)
    torch = pytest.importorskip("torch")
    exec(node, names)
    photo = torch.from_numpy(scene(120, 160)[0] / np.float32(255))
    foreground, matte = names["NODE_CLASS_MAPPINGS"]["RemoveBackground"]().run(torch.stack([photo, photo]), "builtin")
    assert foreground.shape == (2, 120, 160, 3) and foreground.dtype == matte.dtype == torch.float32
    assert 0.5 < foreground.max() <= 1 and iou(matte[1].numpy(), scene(120, 160)[1]) > 0.8
    inside = matte[0] == 1
    assert (foreground[0] - photo)[inside].abs().max() < 0.02, "the colors of the subject"


def test_own_model(folder, capsys):
    """The network needs values from 0 to 1; the settings of the page are read from beside it, and make it worse."""
    Path("network.onnx").write_bytes(color_network("side", weight=(20, -20, 0), bias=-2))
    (code,), (settings,) = (examples("docs/how-to/own-models.md", language) for language in ("python", "toml"))
    Path("model.toml").write_text(settings + "force = true\n")
    names: dict = {}
    exec(code, names)
    assert names["cutout"].provider == "model:network" and names["cutout"].width == 160
    assert "ONNX, 64 x 64, mean 0.485 0.456 0.406" in capsys.readouterr().out
    OPENED.clear()


def test_own_prices(folder):
    (text,) = examples("docs/how-to/prices.md", "toml")
    Path("prices.toml").write_text(text)
    settings = Settings(data=folder)
    prices = [quote(PROVIDERS[name].info, {}, settings) for name in ("runware-rmbg-2.0", "removebg")]
    assert [(str(price.cost.usd), price.seen) for price in prices] == [("0.012", "2026-11"), ("0.09", "2026-10")]


def test_gradio_client(app, folder, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "rmbg-1.4", Fake("rmbg-1.4"))  # without a download
    names: dict = {}
    client, batch = examples("docs/how-to/api.md", "python", app)
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
    (script,) = examples("docs/how-to/api.md", "sh", app)
    run(["bash", "-euo", "pipefail"], script)
    with Image.open("cutout.webp") as cutout:
        assert cutout.size == (160, 120) and cutout.mode == "RGBA"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("page", ["README.md", "docs/how-to/removebg-api.md"])
def test_curl_for_remove_bg(page, app, folder):
    (script,) = examples(page, "sh", app)
    run(["bash", "-euo", "pipefail"], script)
    with Image.open("cutout.png") as cutout:
        assert cutout.size == (160, 120) and cutout.mode == "RGBA"


def test_package_for_remove_bg(app, folder):
    pytest.importorskip("removebg")
    (script,) = examples("docs/how-to/removebg-api.md", "python", app)
    run([sys.executable, "-"], script)
    with Image.open("photo.jpg_no_bg.png") as cutout:
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
    (script,) = examples("docs/how-to/api.md", "js", app)
    (folder / "example.mjs").write_text(script)
    run(["node", "example.mjs"], "")
    with Image.open("cutout.jpg") as card:
        assert card.size == (160, 120) and min(card.getpixel((1, 1))) > 250


def test_mcp_client(app, folder):
    pytest.importorskip("mcp")
    (script,) = examples("docs/how-to/mcp.md", "python", app)
    run([sys.executable, "-"], script)
    with Image.open("cutout.png") as cutout:
        assert cutout.size == (160, 120) and cutout.getpixel((1, 1))[:3] == (255, 255, 255)
    (configuration,) = examples("docs/how-to/mcp.md", "json", app)
    cluster = yaml.safe_load(examples("docs/how-to/many-machines.md", "yaml")[0])
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert json.loads(configuration)["mcpServers"]["rmbg"]["url"] == f"{app}/gradio_api/mcp/"
