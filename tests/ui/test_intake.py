"""Photos on their way to the page: what is at an address, under which name, and what becomes of the files."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.context import LocalContext
from gradio.data_classes import ImageData
from PIL import Image

from rmbg.ui import intake
from rmbg.ui.upload import cached, photo_input
from tests.pictures import scene
from tests.servers.web import Exchange, Web


def file(form: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(scene(60, 80)[0]).save(out, form)
    return out.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def known(cache: Path) -> Iterator[set[str]]:
    """The files that the app which runs the function will remove."""
    blocks = SimpleNamespace(upload_file_set=set())
    token = LocalContext.blocks.set(blocks)
    yield blocks.upload_file_set
    LocalContext.blocks.reset(token)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes, str], str]]:
    body = [b""]

    class Pages(Web):
        def answer(self, exchange: Exchange) -> None:
            exchange.send(200, body[0], "application/octet-stream")

    monkeypatch.setenv("RMBG_RESULT_HOSTS", "127.0.0.1")
    with Pages() as server:

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
def test_the_name_of_what_is_at_an_address(web, cache, path, form, name):
    path, message = intake.load(web(file(form), path))
    assert message == "" and Path(path).name == name
    assert Image.open(path).size == (80, 60)


def test_what_is_no_picture_is_not_kept(web, cache):
    path, message = intake.load(web(b"%PDF-1.4", "/report.png"))
    assert path == gr.skip() and "PDF" in message
    assert not [files for *_, files in os.walk(cache) if files]


def test_files_that_functions_make_are_removed_with_the_uploads(known):
    assert cached(b"abc", "a.txt") in known
    uri = f"data:image/png;base64,{base64.b64encode(file('PNG')).decode()}"
    assert photo_input(render=False).preprocess(ImageData(url=uri)).path in known
