"""Modules that the commands import: large ones only where they are used, as each costs a part of a second at every start."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rmbg.cli.app import COMMANDS
from tests.command import PATIENCE, ROOT, save_scene

LARGE = {
    "gradio",
    "fastapi",
    "httpx",
    "huggingface_hub.file_download",
    "huggingface_hub.utils",
    "jinja2",
    "pandas",
    "safetensors.torch",
    "scipy.ndimage",
    "scipy.sparse",
    "torch",
    "tqdm",
    "transformers",
}

SCRIPT = """
import contextlib, json, os, sys
from rmbg.__main__ import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(open(os.devnull, "w")):
    main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)))
"""


def imported(*arguments: object) -> set[str]:
    """Names of the modules that a command has imported when it ends."""
    words = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RMBG_", "HF_"))}
    environment["HF_HOME"] = str(ROOT / "missing")
    done = subprocess.run(words, cwd=ROOT, env=environment, timeout=PATIENCE, capture_output=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("arguments", [["--help"], ["remove", "--help"], ["providers"]])
def test_short_commands(arguments: list[str]) -> None:
    found = imported(*arguments)
    assert found & (LARGE | {"openvino", "pillow_heif"}) == set()
    assert ("numpy" in found) == (arguments != ["--help"])


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")
def test_remove(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    found = imported("remove", save_scene(tmp_path / "in.jpg"), out)
    assert out.is_file()
    assert "openvino" in found
    assert found & LARGE == set()
    assert found & {f"rmbg.cli.{name}" for name in COMMANDS} == {"rmbg.cli.remove"}
