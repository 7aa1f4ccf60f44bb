"""Pillow's process-wide settings: unchanged on import, set by the first decode."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.made import PNG

ROOT = Path(__file__).resolve().parents[2]

#: Prints Pillow's settings before `import rmbg`, after it, and after the first decode of the file in the argument.
SCRIPT = """
import json, logging, sys, warnings
from PIL import Image, ImageFile, PngImagePlugin

def settings():
    return {
        "pixels": Image.MAX_IMAGE_PIXELS,
        "text chunk": PngImagePlugin.MAX_TEXT_CHUNK,
        "text memory": PngImagePlugin.MAX_TEXT_MEMORY,
        "truncated": ImageFile.LOAD_TRUNCATED_IMAGES,
        "handlers": len(logging.getLogger("PIL").handlers),
        "filters": [str(f) for f in warnings.filters if "PIL" in str(f) or "Bomb" in str(f)],
    }

states = [settings()]
import rmbg, rmbg.images.decode, rmbg.providers, rmbg.settings
states.append(settings())
rmbg.open_photo(sys.argv[1], settings=rmbg.settings.Settings(max_pixels=10**9))
states.append(settings())
rmbg.open_photo(sys.argv[1])
states.append(settings())
print(json.dumps(states))
"""


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Pillow's settings in a new process: before the import, after it, after one decode and after two."""
    path = tmp_path_factory.mktemp("pillow") / "photo.png"
    path.write_bytes(PNG)
    done = subprocess.run([sys.executable, "-c", SCRIPT, path], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_leaves_pillow_unchanged(states):
    before, imported, *_ = states
    assert imported == before


def test_first_decode_sets_limits_and_filters_once(states):
    before, _, once, twice = states
    assert once["text chunk"] == 16 << 20 and once["pixels"] == 10**9 and once["handlers"] == before["handlers"] + 1
    assert len(once["filters"]) == len(before["filters"]) + 2
    assert once["truncated"] is False and twice == once
