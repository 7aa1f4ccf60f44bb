"""Reading of paths, bytes, data URIs, PIL images and open files."""

from __future__ import annotations

import base64
import gzip
import io
import threading
import urllib.parse
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmbg.errors import CancelledError, PhotoError
from rmbg.images.photo import open_photo, stem
from rmbg.settings import Settings
from tests.images.made import PIXELS, PNG, Dripping, read, refused


class BytesPath:
    """Path object whose ``__fspath__`` returns bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> bytes:
        return bytes(self.path)


def test_all_sources_give_the_same_photo(tmp_path):
    path = tmp_path / "ein Bild äöü 図.png"
    path.write_bytes(PNG)
    encoded = base64.b64encode(PNG).decode()
    sources = [
        PNG,
        bytearray(PNG),
        memoryview(PNG),
        memoryview(PNG + b"x")[:-1],
        str(path),
        path,
        BytesPath(path),
        io.BytesIO(PNG),
        Dripping(PNG),
        Image.open(path),
        Image.fromarray(PIXELS),
        "data:image/png;base64," + encoded,
        "DATA:;base64," + "\r\n".join(encoded[i : i + 60] for i in range(0, len(encoded), 60)),
        "data:image/png;charset=x;BASE64," + urllib.parse.quote(encoded, safe=""),
        "data:image/png," + urllib.parse.quote_from_bytes(PNG, safe=""),
    ]
    for source in sources:
        np.testing.assert_array_equal(read(source).rgb, PIXELS)
    with open(path, "rb") as file:
        assert read(file).name == "ein Bild äöü 図"
    assert read(str(path)).name == read(Image.open(path)).name == "ein Bild äöü 図"
    assert read(PNG).name == read(sources[-1]).name == "photo" and read(PNG, name="a/b.c.png").name == "b.c"


def test_photo_is_returned_unchanged():
    photo = read(PNG)
    assert read(photo) is photo


def test_default_limits_are_those_of_the_environment(monkeypatch):
    monkeypatch.setenv("RMBG_MAX_PIXELS", "100")
    with pytest.raises(PhotoError, match="20 x 12 pixels"):
        open_photo(PNG)


def test_size_of_a_multidimensional_memoryview_is_in_bytes():
    rows = memoryview(bytes(4000)).cast("B", (2, 2000))
    refused(rows, "MB", settings=Settings(max_bytes=1000))


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("data:image/png;base64", "no data"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64,@@@@", "data URI"),
        ("data:image/png;base64,AAA", "data URI"),
        ("data:image/png;base64,ÄÖ", "data URI"),
        ("data:image/png,\udc80", "data URI"),
        ("data:image/png,%ff%zz", "not a picture"),
        ("data:text/plain,hello", "not a picture"),
        ("data:,", "empty"),
    ],
)
def test_invalid_data_uris_are_rejected(uri, word):
    refused(uri, word)


@pytest.mark.parametrize(
    "source", [None, 5, 1.5, [], {}, object(), np.zeros((9, 9, 3), np.uint8)], ids=lambda s: type(s).__name__
)
def test_unsupported_types_are_rejected(source):
    refused(source, type(source).__name__)


def test_unreadable_files_are_rejected(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with open(path, encoding="utf-8") as file:
        refused(file, "a.png", "rb")
    with open(path, encoding="latin-1") as file:
        refused(file, "a.png", "rb")
    refused(io.StringIO("picture"), "rb")
    closed = io.BytesIO(PNG)
    closed.close()
    refused(closed, "closed")
    with open(tmp_path / "new", "wb") as file:
        refused(file, "could not be read")
    refused(tmp_path, "folder")
    refused("", "folder")
    refused(tmp_path / "none.png", "no file", "none.png")
    refused(tmp_path / "two\nlines \x1b[31m.png", "no file")
    refused(str(tmp_path / "nul\0.png"), "could not be read")
    refused(tmp_path / ("long" * 100 + ".png"), "could not be read")
    refused(tmp_path / "/".join(["deep"] * 200), "no file")
    refused(b"", "empty")
    refused(b"x", "evil name", name="\x1bevil\n\nname" * 50)


def test_errors_of_archives_become_photo_errors():
    with gzip.open(io.BytesIO(gzip.compress(PNG)[:-20])) as file:
        refused(file, "could not be read")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.png", PNG)
    broken = io.BytesIO(packed.getvalue().replace(PNG[40:60], bytes(20)))
    with zipfile.ZipFile(broken) as archive, archive.open("a.png") as file:
        refused(file, "a.png", "could not be read")


def test_cancellation_in_a_file_is_not_converted():
    class Cancelled(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        read(Cancelled())


def test_missing_permission_is_reported(tmp_path, monkeypatch):
    path = tmp_path / "locked.png"
    path.write_bytes(PNG)

    def denied(*arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", denied)  # root, which may run the tests, has every permission
    refused(path, "locked.png", "Permission denied")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photo.jpg", "photo"),
        ("/home/me/my photo.jpg", "my photo"),
        (r"C:\Users\me\Bild 1.png", "Bild 1"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot"),
        ("снимок 図.webp", "снимок 図"),
        ("a\x00b\x1b[31m\n.png", "ab[31m"),
        ("evil\u202egnp.exe", "evilgnp"),
        (".png", "png"),
        ("...", "photo"),
        ("", "photo"),
        ("\n", "photo"),
        ("a" * 400 + ".png", "a" * 120),
        ("図" * 400 + ".png", "図" * 60),
        ('what "is" this? <1*2|3>.png', "what _is_ this_ _1_2_3_"),
        ("archive.tar.gz", "archive.tar"),
        ("broken\udc80name.png", "brokenname"),
    ],
)
def test_file_names_become_valid_stems(name, expected):
    assert stem(name) == expected
    if name:
        assert read(PNG, name=name).name == expected


def test_threads_have_independent_limits():
    results: dict[int, list[bool]] = {0: [], 1: []}

    def work(which: int) -> None:
        for _ in range(30):
            try:
                read(PNG, settings=Settings(max_pixels=100 if which else 1000))
                results[which].append(True)
            except PhotoError:
                results[which].append(False)

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {0: [True] * 30, 1: [False] * 30}
