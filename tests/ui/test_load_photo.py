"""Loading a photo from a URL: file name, format, rejection, and removal of temporary files."""

from __future__ import annotations

import base64
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from rmbg.ui.components import load_photo
from rmbg.ui.components.inputs import store_file
from rmbg.ui.guard.payload import store_data_uri
from rmbg.ui.storage import VISITOR, storage
from tests.pictures import scene
from tests.servers.web import Exchange, Web


def file(form: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(scene(60, 80)[0]).save(out, form)
    return out.getvalue()


@pytest.fixture
def cache() -> Path:
    """Return the upload folder after removing its contents."""
    folder = storage().root.uploads
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes, str], str]]:
    """Return a function that serves bytes under a path and returns their URL."""
    body = [b""]

    class Pages(Web):
        def answer(self, exchange: Exchange) -> None:
            exchange.send(200, body[0], "application/octet-stream")

    with Pages() as server:
        monkeypatch.setenv("RMBG_PHOTO_HOSTS", f"127.0.0.1:{server.port}")

        def put(data: bytes, path: str) -> str:
            body[0] = data
            return f"{server.url}{path}"

        yield put


@pytest.mark.parametrize(
    ("path", "form", "name"),
    [
        ("/pictures/a%20photo.png", "PNG", "a photo.png"),
        ("/photo.JPG?width=300", "JPEG", "photo.JPG"),
        ("/scan.tiff", "TIFF", "scan.png"),
        ("/show.php", "JPEG", "show.png"),
        ("/", "PNG", "photo.png"),
        ("/%2e%2e%2fetc%2fpasswd.png", "PNG", "passwd.png"),
        (f"/{'a' * 400}.png", "PNG", f"{'a' * 120}.png"),
    ],
)
def test_file_name_follows_url_and_format(web, cache, path, form, name):
    path, message = load_photo.load(web(file(form), path))
    assert message == "" and Path(path).name == name
    assert Image.open(path).size == (80, 60)


def test_file_that_is_no_picture_is_not_stored(web, cache):
    path, message = load_photo.load(web(b"%PDF-1.4", "/report.png"))
    assert path == gr.skip() and "PDF" in message
    assert not [files for *_, files in os.walk(cache) if files]


def test_stored_files_are_removed_with_the_session():
    VISITOR.set("visitor")
    uri = f"data:image/png;base64,{base64.b64encode(file('PNG')).decode()}"
    paths = [Path(store_file(b"abc", "a.txt")), Path(store_data_uri({"url": uri})["path"])]
    assert all(path.is_file() for path in paths)
    storage().discard_all("visitor")
    assert not any(path.exists() for path in paths)
    VISITOR.set("")
