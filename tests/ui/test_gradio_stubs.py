"""rmbg.ui.gradio_stubs: Gradio is imported without writing type stubs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
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


def test_no_stub_is_read_or_written():
    found = subprocess.run([sys.executable, "-c", CODE], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
